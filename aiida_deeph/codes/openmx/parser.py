"""An OpenMX run: numbers, bands, and how it ended."""

from __future__ import annotations

import numpy as np
from aiida.engine import ExitCode

from aiida_deeph.codes.openmx.calculation import BAND_FILE, OUT_FILE, OpenmxCalculation
from aiida_deeph.codes.parser import DftParser, where_it_ended
from aiida_deeph.engine.dft.openmx.band_file import parse_bands, rows_of
from aiida_deeph.engine.dft.openmx.code import OPENMX
from aiida_deeph.engine.dft.openmx.output import Progress, parse_output, parse_progress, summary
from aiida_deeph.parsers.base import InvalidOutputError, MissingOutputError

STDOUT_FILE = OpenmxCalculation.STDOUT_FILE
HISTORY_UNITS = {"band_energy": "eV", "residual": "1"}


class OpenmxParser(DftParser):
    """Numbers from `.out`, or from the standard output of a run that was cut off."""

    CALCULATION = OpenmxCalculation
    MESSAGES = (
        (r"Not enough data for PAO|Format error in Definition of Atomic Species", "ERROR_WRONG_ORBITALS"),
        (r"# of contracted orbitals are larger", "ERROR_WRONG_ORBITALS"),
        (r"Could not find .*\.(pao|vps)", "ERROR_DATA_FILE_MISSING"),
        (r"ERROR +key=|You have to give", "ERROR_INPUT_REFUSED"),
        (
            r"errors in the inputfile|[Ff]ormat error|Invalid value|[Uu]ndefined species|may be wrong\.",
            "ERROR_INPUT_REFUSED",
        ),
        (
            r"is not supported|is necessary|should be (over|satisfied|larger|lower|OFF|set|within)",
            "ERROR_INPUT_REFUSED",
        ),
    )
    TALKATIVE = (STDOUT_FILE,)

    def attach(self) -> ExitCode | None:
        progress = parse_progress(self.text(STDOUT_FILE))
        out = self._text(OUT_FILE)
        if out is None or not progress.finished:
            self._attach_progress(progress)
            if progress.finished:
                raise MissingOutputError(OUT_FILE)
            return self.failure(where_it_ended(len(progress.steps), progress.scf_ended))
        results = parse_output(out, OUT_FILE)
        if not results.complete:
            raise InvalidOutputError("OpenMX output is incomplete: no total energy or computational time")
        values = summary(results)
        values["scf_history"]["units"] = HISTORY_UNITS
        self.out_parameters({**values, "scf_ended": True})
        if not results.converged:
            last = "last change {:.1e} Hartree, NormRD {:.1e}".format(*progress.steps[-1][1:]) if progress.steps else ""
            return self.not_converged(len(progress.steps), last)
        if "bands_kpoints" in self.node.inputs:
            self._attach_bands()
        return None

    def _attach_progress(self, progress: Progress) -> None:
        """What is known of a run without its `.out`."""
        energies = [energy * OPENMX.hartree for energy, _, _ in progress.steps]
        residuals = [residual for _, _, residual in progress.steps]
        self.out_parameters(
            {
                "converged": progress.scf_ended and progress.converged,
                "scf_cycles": len(progress.steps),
                "scf_history": {
                    "band_energy": energies,
                    "residual": residuals,
                    "units": "eV (band_energy), 1 (residual)",
                },
                "scf_ended": progress.scf_ended,
            }
        )

    def _attach_bands(self) -> None:
        bands = parse_bands(self.text(BAND_FILE))
        kpoints = np.array(self.node.inputs.bands_kpoints.get_kpoints(), dtype=np.float64)
        energies = bands.energies[:, rows_of(kpoints, bands.kpoints)] * OPENMX.hartree
        self.out_band(energies, bands.fermi_energy * OPENMX.hartree)
