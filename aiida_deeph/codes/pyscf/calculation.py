"""A Kohn-Sham calculation with PySCF, of a crystal or a molecule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from aiida.orm import Dict, to_aiida_type

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.kpoints import mesh_of, points_of
from aiida_deeph.calculations.staging import STRUCTURE_FILE, Staging
from aiida_deeph.codes.job import define_scf
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.structure import MOMENTS_OF_KINDS, atom_moments
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig, check_names
from aiida_deeph.engine.errors import InputError

RESULTS_FILE = "results.json"


class PyscfCalculation(EngineCalculation):
    """Label a structure: H(k), S(k) stay in the remote folder (`pyscf.h5`); energies and bands come back."""

    COMMAND = "pyscf"
    CONFIG = PyscfConfig
    FILLED = MappingProxyType(
        {"structure": STRUCTURE_FILE, "kmesh": None, "bands": None, "start": None, "magnetic_moments": None}
    )

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        define_scf(spec)
        spec.input(
            "start",
            valid_type=HamiltonianData,
            required=False,
            help="H of this structure, e.g. a predicted one, from whose density the SCF starts.",
        )
        spec.input(
            "moments",
            valid_type=Dict,
            serializer=to_aiida_type,
            required=False,
            help=f"Makes the spins unrestricted. Initial ones. {MOMENTS_OF_KINDS}",
        )

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """Functional and basis are known, moments are those of kinds of the structure, along z."""
        try:
            given, fields = inputs["parameters"].get_dict(), PyscfConfig.model_fields
            check_names(*(given.get(name, fields[name].default) for name in ("xc", "basis")))
            moments = _moments(inputs)
        except InputError as error:
            return str(error)
        if moments is not None and np.array(moments)[:, :2].any():
            return str(InputError("moment is not along z", where="moments", expected="numbers: spins are collinear"))
        return None

    def stage(self, staging: Staging) -> dict[str, Any]:
        bands = self.inputs.get("bands_kpoints")
        staging.retrieve(RESULTS_FILE)
        moments = _moments(self.inputs)
        return {
            "start": staging.copy(self.inputs.start, "start") if "start" in self.inputs else None,
            "structure": staging.write_structure(self.inputs.structure),
            "kmesh": mesh_of(self.inputs.kpoints),
            "bands": points_of(bands) if bands is not None else None,
            "magnetic_moments": None if moments is None else [z for _, _, z in moments],
        }


def _moments(inputs: Mapping[str, Any]) -> list[list[float]] | None:
    return atom_moments(inputs["structure"], inputs["moments"].get_dict()) if "moments" in inputs else None
