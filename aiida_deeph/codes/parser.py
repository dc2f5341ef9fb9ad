"""What the parsers of all DFT programs with plugins of our own share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import KpointsData
from numpy.typing import NDArray

from aiida_deeph.codes.job import ProgramCalculation
from aiida_deeph.engine.dft.record import RESULT_UNITS
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.base import NO_SPACE_WORDS, EngineParser

Messages = tuple[tuple[str, str], ...]

# Messages of the system, the schedulers and MPI -> exit code; the first that is found counts.
CUT_OFF: Messages = (
    (r"DUE TO TIME LIMIT|walltime .*exceeded|TERM_RUNLIMIT|reached (hard|soft)? ?.*(h|s)_rt", "ERROR_OUT_OF_WALLTIME"),
    (r"out of memory|oom.kill|Unable to allocate|Cannot allocate memory|std::bad_alloc", "ERROR_OUT_OF_MEMORY"),
    (NO_SPACE_WORDS, "ERROR_NO_SPACE"),
)
CRASHED: Messages = (
    (r"Segmentation fault|[Ss]ignal:? \d+|MPI_ABORT|Aborted|Floating point exception", "ERROR_CRASHED"),
    (r"command not found|error while loading shared libraries|Permission denied", "ERROR_CRASHED"),
    (r"forrtl|SIGSEGV|double free|corrupted|Bus error|There are not enough slots", "ERROR_CRASHED"),
)


class ProgramParser(EngineParser):
    """Programs end with exit status 0 whatever happened: `failure` goes by what they and the system say."""

    CALCULATION: ClassVar[type[ProgramCalculation]]
    # What the program itself says -> exit code, after CUT_OFF and before CRASHED.
    MESSAGES: Messages = ()
    # Retrieved files with errors alone, besides the standard error of the job.
    ERRORS: Sequence[str] = ()
    # Further ones in which the program tells of errors among other things.
    TALKATIVE: Sequence[str] = ()

    def failure(self, missing: str) -> ExitCode:
        """The exit code of a run that did not come to its end."""
        names = [self.CALCULATION.STDERR_FILE, *self.ERRORS, self.node.get_option("scheduler_stderr")]
        said = "\n".join(self._text(name) or "" for name in names if name)
        text = "\n".join([said, *(self._text(name) or "" for name in self.TALKATIVE)])
        for pattern, label in (*CUT_OFF, *self.MESSAGES, *CRASHED):
            match = re.search(rf"^.*?(?:{pattern}).*$", text, re.MULTILINE)
            if match:
                return self.exit_codes[label].format(message=self.reason(text, match))
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        message = f"{missing}; last on stderr: {lines[-1]}" if lines else f"{missing} and stderr is silent"
        return self.exit_codes.ERROR_OUTPUT_MISSING.format(message=message)

    def out_band(
        self,
        energies: NDArray[np.float64],
        fermi_energy: float | None,
        kpoints: NDArray[np.float64] | None = None,
        like: KpointsData | None = None,
    ) -> None:
        """Register the bands.

        :param energies: eV, shape (n_spins, n_k, n_bands).
        :param like: the k-points that were asked for, by default `bands_kpoints`.
        """
        like = self.node.inputs.bands_kpoints if like is None else like
        points = np.array(like.get_kpoints(), dtype=np.float64) if kpoints is None else kpoints
        cell = self.node.inputs.structure.cell
        self.out("output_band", make_bands(energies, points, cell=cell, like=like, fermi_energy=fermi_energy))

    def reason(self, text: str, match: re.Match[str]) -> str:
        """What a message comes to."""
        return match[0].strip()


class DftParser(ProgramParser):
    """Attaches the numbers also of an SCF that did not converge, and as much as is there of a run that was cut off."""

    UNITS = RESULT_UNITS

    def not_converged(self, cycles: int, last: str) -> ExitCode:
        """The exit code of an SCF that did not converge.

        :param last: what its last step was like.
        """
        return self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(message=f"{cycles} cycles{', ' if last else ''}{last}")


def where_it_ended(n_steps: int, scf_ended: bool) -> str:
    """For messages, of a run that did not come to its end."""
    if scf_ended:
        return "the run ended after the SCF"
    return f"the run ended after {n_steps} SCF cycles" if n_steps else "the run ended before the SCF"
