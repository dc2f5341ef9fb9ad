"""A Kohn-Sham calculation with PySCF, of a crystal or a molecule."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from aiida.orm import BandsData, KpointsData, StructureData

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.kpoints import check_list, check_mesh, mesh_of, points_of
from aiida_deeph.calculations.staging import STRUCTURE_FILE, Staging
from aiida_deeph.calculations.validation import check_structure
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
        spec.input("structure", valid_type=StructureData, validator=check_structure, help="The structure to label.")
        spec.input(
            "kpoints",
            valid_type=KpointsData,
            validator=check_mesh,
            help="Gamma-centred mesh; its supercell has to be wider than twice the range of H.",
        )
        spec.input(
            "bands_kpoints",
            valid_type=KpointsData,
            required=False,
            validator=check_list,
            help="Points at which eigenvalues are computed in addition, from the converged potential.",
        )
        spec.output("output_band", valid_type=BandsData, required=False, help="Eigenvalues at `bands_kpoints`, eV.")
        spec.exit_code(410, "ERROR_SCF_NOT_CONVERGED", "The SCF cycle did not converge: {message}")

    def stage(self, staging: Staging) -> dict[str, Any]:
        bands = self.inputs.get("bands_kpoints")
        staging.retrieve(RESULTS_FILE)
        return {
            "structure": staging.write_structure(self.inputs.structure),
            "kmesh": mesh_of(self.inputs.kpoints),
            "bands": points_of(bands) if bands is not None else None,
        }
