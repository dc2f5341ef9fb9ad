"""An OpenMX run: numbers, bands, and how it ended."""

from __future__ import annotations

import re

import numpy as np
from aiida.engine import ExitCode

from aiida_deeph.calculations.openmx import BAND_FILE, OUT_FILE, STDERR_FILE, STDOUT_FILE
from aiida_deeph.engine.dft.openmx.band_file import parse_bands
from aiida_deeph.engine.dft.openmx.constants import OPENMX_HARTREE_TO_EV
from aiida_deeph.engine.dft.openmx.kpath import rows_of
from aiida_deeph.engine.dft.openmx.results import Progress, parse_progress, parse_results, summary
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.base import EngineParser, MissingOutputError

# Messages of OpenMX, MPI, the system and the schedulers -> exit code; the first that is found counts. OpenMX itself
# ends with exit status 0 whatever happened.
MESSAGES: tuple[tuple[str, str], ...] = (
    (r"DUE TO TIME LIMIT|walltime .*exceeded|TERM_RUNLIMIT|reached (hard|soft)? ?.*(h|s)_rt", "ERROR_OUT_OF_WALLTIME"),
    (r"out of memory|oom.kill|Unable to allocate|Cannot allocate memory|std::bad_alloc", "ERROR_OUT_OF_MEMORY"),
    (r"No space left on device|Disk quota exceeded", "ERROR_NO_SPACE"),
    (r"Not enough data for PAO|Format error in Definition of Atomic Species", "ERROR_WRONG_ORBITALS"),
    (r"# of contracted orbitals are larger", "ERROR_WRONG_ORBITALS"),
    (r"Could not find .*\.(pao|vps)", "ERROR_DATA_FILE_MISSING"),
    (r"ERROR +key=|You have to give", "ERROR_INPUT_REFUSED"),
    (
        r"errors in the inputfile|[Ff]ormat error|Invalid value|[Uu]ndefined species|may be wrong\.",
        "ERROR_INPUT_REFUSED",
    ),
    (r"is not supported|is necessary|should be (over|satisfied|larger|lower|OFF|set|within)", "ERROR_INPUT_REFUSED"),
    (r"Segmentation fault|[Ss]ignal:? \d+|MPI_ABORT|Aborted|Floating point exception", "ERROR_CRASHED"),
    (r"command not found|error while loading shared libraries|Permission denied", "ERROR_CRASHED"),
    (r"forrtl|SIGSEGV|double free|corrupted|Bus error|There are not enough slots", "ERROR_CRASHED"),
)
HISTORY_UNITS = {"band_energy": "eV", "residual": "1"}


class OpenmxParser(EngineParser):
    """Attaches the numbers also of an SCF that did not converge, and as much as is there of a run that was cut off."""

    UNITS = {
        "energy": "eV",
        "energy_contributions": "eV",
        "fermi_energy": "eV",
        "scf_criterion": "eV",
        "electrons": "elementary charge",
        "n_electrons": "elementary charge",
        "total_spin_moment": "bohr magneton",
        "spin_moments": "bohr magneton",
        "spin_angles": "degree",
        "orbital_moments": "bohr magneton",
        "dipole": "debye",
        "forces": "eV/angstrom",
        "grid_cutoffs": "Ry",
        "seconds": "s",
        "seconds_of_parts": "s",
    }

    def attach(self) -> ExitCode | None:
        stdout = self._text(STDOUT_FILE)
        if stdout is None:
            raise MissingOutputError(STDOUT_FILE)
        progress = parse_progress(stdout)
        out = self._text(OUT_FILE)
        if out is None or not progress.finished:
            self._attach_progress(progress)
            if progress.finished:
                raise MissingOutputError(OUT_FILE)
            return self.failure(_where_it_ended(progress))
        results = parse_results(out, OUT_FILE)
        values = summary(results)
        values["scf_history"]["units"] = HISTORY_UNITS
        self.out_parameters({**values, "scf_ended": True})
        if not results.converged:
            message = f"{len(progress.steps)} cycles, last change {progress.steps[-1][1]:.1e} Hartree"
            message += f", NormRD {progress.steps[-1][2]:.1e}" if progress.steps else ""
            return self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(message=message)
        if "bands_kpoints" in self.node.inputs:
            self._attach_bands()
        return None

    def _attach_progress(self, progress: Progress) -> None:
        """What is known of a run without its `.out`."""
        energies = [energy * OPENMX_HARTREE_TO_EV for energy, _, _ in progress.steps]
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
        text = self._text(BAND_FILE)
        if text is None:
            raise MissingOutputError(BAND_FILE)
        bands = parse_bands(text)
        like = self.node.inputs.bands_kpoints
        kpoints = np.array(like.get_kpoints(), dtype=np.float64)
        rows = rows_of(kpoints, bands.kpoints)
        energies = bands.energies[:, rows] * OPENMX_HARTREE_TO_EV
        node = make_bands(energies, kpoints, cell=self.node.inputs.structure.cell, like=like)
        node.base.attributes.set("fermi_energy", bands.fermi_energy * OPENMX_HARTREE_TO_EV)
        node.base.attributes.set("fermi_energy_units", "eV")
        self.out("output_band", node)

    def failure(self, missing: str) -> ExitCode:
        """The exit code of a run that did not come to its end."""
        names = (STDERR_FILE, self.node.get_option("scheduler_stderr"), STDOUT_FILE)
        texts = [self._text(name) or "" for name in names if name]
        text = "\n".join(texts)
        for pattern, label in MESSAGES:
            match = re.search(rf"^.*?(?:{pattern}).*$", text, re.MULTILINE)
            if match:
                return self.exit_codes[label].format(message=match[0].strip())
        lines = [line.strip() for line in "\n".join(texts[:-1]).splitlines() if line.strip()]
        message = f"{missing}; last on stderr: {lines[-1]}" if lines else f"{missing} and stderr is silent"
        return self.exit_codes.ERROR_OUTPUT_MISSING.format(message=message)


def _where_it_ended(progress: Progress) -> str:
    if progress.scf_ended:
        return "the run ended after the SCF"
    return f"the run ended after {len(progress.steps)} SCF cycles" if progress.steps else "the run ended before the SCF"
