"""A Kohn-Sham calculation with PySCF, of a crystal or a molecule."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.kpoints import mesh_of, points_of
from aiida_deeph.calculations.staging import STRUCTURE_FILE, Staging
from aiida_deeph.codes.job import define_scf
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig

RESULTS_FILE = "results.json"


class PyscfCalculation(EngineCalculation):
    """Label a structure: H(k), S(k) stay in the remote folder (`pyscf.h5`); energies and bands come back."""

    COMMAND = "pyscf"
    CONFIG = PyscfConfig
    FILLED = MappingProxyType({"structure": STRUCTURE_FILE, "kmesh": None, "bands": None})

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        define_scf(spec)

    def stage(self, staging: Staging) -> dict[str, Any]:
        bands = self.inputs.get("bands_kpoints")
        staging.retrieve(RESULTS_FILE)
        return {
            "structure": staging.write_structure(self.inputs.structure),
            "kmesh": mesh_of(self.inputs.kpoints),
            "bands": points_of(bands) if bands is not None else None,
        }
