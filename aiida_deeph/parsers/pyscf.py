"""A Kohn-Sham calculation with PySCF."""

from __future__ import annotations

from aiida.engine import ExitCode

from aiida_deeph.calculations.pyscf import RESULTS_FILE
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.base import EngineParser


class PyscfParser(EngineParser):
    """Attaches energies also of a calculation that did not converge, which ends with exit code 410."""

    UNITS = {"energy": "eV", "fermi_energy": "eV", "smearing": "eV", "seconds": "s"}

    def attach(self) -> ExitCode | None:
        results = self.read_json(RESULTS_FILE)
        energies = results.pop("bands", None)
        self.out_parameters(results)
        if not results.get("converged"):
            return self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(message=f"{results.get('scf_cycles')} cycles")
        if "bands_kpoints" in self.node.inputs and energies is not None:
            points = self.node.inputs.bands_kpoints
            structure = self.node.inputs.structure
            self.out("output_band", make_bands(energies, points.get_kpoints(), cell=structure.cell, like=points))
        return None
