"""A SIESTA run: numbers, bands, the orbitals that it made, and how it ended."""

from __future__ import annotations

import io
from typing import Any

from aiida.engine import ExitCode

from aiida_deeph.codes.parser import DftParser, where_it_ended
from aiida_deeph.codes.siesta.calculation import BANDS_FILE, ORBITALS_SUFFIX, SiestaCalculation
from aiida_deeph.data.pao import PaoData
from aiida_deeph.data.structure import atom_symbols
from aiida_deeph.engine.dft.siesta.energy_files import parse_bands
from aiida_deeph.engine.dft.siesta.output import SiestaOutput, parse_output
from aiida_deeph.parsers.base import InvalidOutputError

NOT_CONVERGED = "SCF_NOT_CONV"


class SiestaParser(DftParser):
    """Numbers from the standard output, complete or not."""

    CALCULATION = SiestaCalculation
    MESSAGES = (
        (r"(?i:pseudopotential.*(not found|could not|no such|missing)|no pseudopotential)", "ERROR_DATA_FILE_MISSING"),
        (r"(?i:(PAO\.Basis|repaobasis|readbasis|atom_main).*error|bad format of .*PAO)", "ERROR_WRONG_ORBITALS"),
        (r"(?i:fdf.*(error|unrecognized|not found)|redata: .*error|reinit: .*error)", "ERROR_INPUT_REFUSED"),
        (r"(?i:coor: .*error|error.*(block|fdf|input)|must be specified|illegal)", "ERROR_INPUT_REFUSED"),
        (r"Stopping Program from Node|ERROR STOP from Node|^\s*ERROR:", "ERROR_CRASHED"),
    )
    TALKATIVE = (SiestaCalculation.STDOUT_FILE,)

    def attach(self) -> ExitCode | None:
        stdout = self.text(SiestaCalculation.STDOUT_FILE)
        results = parse_output(stdout)
        cycles = len(results.scf_energies)
        if cycles:
            self.out_parameters(summary(results))
        # An SCF that does not converge ends the run.
        if NOT_CONVERGED in stdout or (results.finished and not results.converged):
            last = f"last change of the density matrix {results.scf_residuals[-1]:.1e}" if cycles else ""
            return self.not_converged(cycles, last)
        if not results.finished:
            return self.failure(where_it_ended(cycles, results.converged))
        self._attach_orbitals()
        if "bands_kpoints" in self.node.inputs:
            self._attach_bands()
        return None

    def _attach_orbitals(self) -> None:
        """The files that an overlap needs which is computed without SIESTA."""
        for symbol in dict.fromkeys(atom_symbols(self.node.inputs.structure)):
            name = f"{symbol}{ORBITALS_SUFFIX}"
            self.out(f"orbitals.{symbol}", PaoData(io.BytesIO(self.text(name).encode()), filename=name))

    def _attach_bands(self) -> None:
        bands = parse_bands(self.text(BANDS_FILE))
        count = len(self.node.inputs.bands_kpoints.get_kpoints())
        if bands.energies.shape[1] != count:
            raise InvalidOutputError(f"{BANDS_FILE}: found {bands.energies.shape[1]} k-points, expected {count}")
        self.out_band(bands.energies, bands.fermi_energy)


def summary(results: SiestaOutput) -> dict[str, Any]:
    """Numbers as they stand in `output_parameters`.

    `scf_ended` says whether there is a density to start from: SIESTA writes it in every cycle.
    """
    values = {
        "version": results.version,
        "converged": results.converged,
        "scf_ended": bool(results.scf_energies),
        "scf_cycles": len(results.scf_energies),
        "scf_history": {
            "energy": list(results.scf_energies),
            "residual": list(results.scf_residuals),
            "units": {"energy": "eV", "residual": "1"},
        },
        "energy": results.energy,
        "energy_contributions": {name: value for name, value in results.energies.items() if name != "total"} or None,
        "fermi_energy": results.fermi_energy,
        "forces": [list(row) for row in results.forces] or None,
        "total_spin_moment": None if results.moment is None else list(results.moment),
        "seconds": results.seconds,
    }
    return {key: value for key, value in values.items() if value is not None}
