"""A Kohn-Sham calculation with PySCF."""

from __future__ import annotations

from types import MappingProxyType

from aiida.engine import ExitCode

from aiida_deeph.codes.pyscf.calculation import RESULTS_FILE
from aiida_deeph.engine.dft.record import RESULT_UNITS
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.base import EngineParser, InvalidOutputError


class PyscfParser(EngineParser):
    """Attaches energies also of a calculation that did not converge, which ends with exit code 410."""

    MESSAGES = (
        (
            r"PySCF refuses|odd number of electrons|electrons do not pair|without pseudopotential|"
            r"functional (unknown|is not)|setting of molecules",
            "ERROR_INPUT_REFUSED",
        ),
    )
    UNITS = MappingProxyType({**RESULT_UNITS, "orbital_gradient": "hartree", "cpu_seconds": "s"})

    def attach(self) -> ExitCode | None:
        results = self.read_json(RESULTS_FILE)
        bands = results.pop("bands", None)
        self.out_parameters(results)
        if not results.get("converged"):
            message = f"{results.get('scf_cycles')} cycles, gradient {results.get('orbital_gradient')} Ha"
            return self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(message=message)
        if "bands_kpoints" in self.node.inputs:
            try:
                energies, kpoints = bands["energies"], bands["kpoints"]
            except (KeyError, TypeError) as error:
                raise InvalidOutputError(f"{RESULTS_FILE}: no bands ({error})") from None
            like, cell = self.node.inputs.bands_kpoints, self.node.inputs.structure.cell
            level = results.get("fermi_energy")
            self.out("output_band", make_bands(energies, kpoints, cell=cell, like=like, fermi_energy=level))
        return None
