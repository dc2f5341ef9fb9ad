"""A run of pw.x: numbers, bands, and how it ended."""

from __future__ import annotations

import re

import numpy as np
from aiida.engine import ExitCode

from aiida_deeph.calculations.kpoints import mesh_of
from aiida_deeph.codes.qe.pw import POTENTIAL_STDERR, POTENTIAL_STDOUT, STDERR_FILE, STDOUT_FILE
from aiida_deeph.engine.dft.qe.code import XML_FILE
from aiida_deeph.engine.dft.qe.xml_output import PwOutput, parse_pw_xml
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.base import EngineParser, InvalidOutputError, MissingOutputError

DONE = "JOB DONE."
# Messages of pw.x, MPI, the system and the schedulers -> exit code; the first that is found counts.
MESSAGES: tuple[tuple[str, str], ...] = (
    (r"Maximum CPU time exceeded|DUE TO TIME LIMIT|walltime .*exceeded|TERM_RUNLIMIT", "ERROR_OUT_OF_WALLTIME"),
    (r"out of memory|oom.kill|Cannot allocate memory|problem allocating|Insufficient memory", "ERROR_OUT_OF_MEMORY"),
    (r"No space left on device|Disk quota exceeded|error writing to file", "ERROR_NO_SPACE"),
    (r"convergence NOT achieved", "ERROR_SCF_NOT_CONVERGED"),
    (r"Error in routine +(read_namelists|card_|iosys|set_cutoff|readpp|read_upf|upf|setup|input|checkallsym)", "INPUT"),
    # pw2bgw.x up to 6.7 cannot write the potential of a run with spin-orbit coupling.
    (r"BGW cannot use spinors", "INPUT"),
    (r"bad line in namelist|from read_namelists|Error in routine .*(psp|pseudo|species)", "INPUT"),
    (r"Error in routine", "ERROR_CRASHED"),
    (r"Segmentation fault|[Ss]ignal:? \d+|MPI_ABORT|Aborted|SIGSEGV", "ERROR_CRASHED"),
    (r"command not found|error while loading shared libraries|Permission denied|No such file", "ERROR_CRASHED"),
)
_CYCLE = re.compile(r"estimated scf accuracy\s+<\s+(\S+)")


class PwParser(EngineParser):
    """Attaches the numbers also of an SCF that did not converge."""

    UNITS = {
        "energy": "eV",
        "fermi_energy": "eV",
        "scf_error": "eV",
        "n_electrons": "elementary charge",
        "cutoffs": "Ry",
        "seconds": "s",
        "absolute_magnetization": "bohr magneton",
    }

    def attach(self) -> ExitCode | None:
        stdout = self._text(STDOUT_FILE)
        if stdout is None:
            raise MissingOutputError(STDOUT_FILE)
        xml = self._text(XML_FILE)
        scf = mesh_of(self.node.inputs.kpoints) is not None
        if scf and "convergence NOT achieved" in stdout:
            cycles = _CYCLE.findall(stdout)
            if xml is not None:
                self._attach_numbers(parse_pw_xml(xml, XML_FILE))
            last = f", accuracy {cycles[-1]} Ry" if cycles else ""
            return self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(message=f"{len(cycles)} cycles{last}")
        if xml is None or DONE not in stdout:
            return self.failure("the end of pw.x's output is missing")
        output = parse_pw_xml(xml, XML_FILE)
        self._attach_numbers(output)
        if scf:
            if not output.converged:
                return self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(message=f"{output.scf_cycles} cycles")
            if "pw2bgw" in self.node.inputs and DONE not in (self._text(POTENTIAL_STDOUT) or ""):
                return self.failure("the potential of pw2bgw.x is missing")
            return None
        return self._attach_bands(output)

    def _attach_numbers(self, output: PwOutput) -> None:
        self.out_parameters(
            {
                "version": output.version,
                "converged": output.converged,
                "scf_cycles": output.scf_cycles,
                "scf_error": output.scf_error,
                "energy": output.energy,
                "fermi_energy": output.fermi_energy,
                "n_electrons": output.n_electrons,
                "n_bands": output.energies.shape[-1],
                "n_kpoints": len(output.kpoints),
                "functional": output.functional,
                "cutoffs": list(output.cutoffs),
                "pseudopotentials": output.pseudo_files,
                "absolute_magnetization": output.magnetization,
                "seconds": output.seconds,
            }
        )

    def _attach_bands(self, output: PwOutput) -> None:
        like = self.node.inputs.kpoints
        kpoints = np.array(like.get_kpoints(), dtype=np.float64)
        if kpoints.shape != output.kpoints.shape or np.abs(kpoints - output.kpoints).max() > 1e-5:
            raise InvalidOutputError(f"{XML_FILE}: found other k-points than those asked for")
        node = make_bands(output.energies, kpoints, cell=self.node.inputs.structure.cell, like=like)
        self.out("output_band", node)

    def failure(self, missing: str) -> ExitCode:
        """The exit code of a run that did not come to its end."""
        errors = (STDERR_FILE, POTENTIAL_STDERR, self.node.get_option("scheduler_stderr"))
        said = "\n".join(self._text(name) or "" for name in errors if name)
        text = "\n".join([said, *(self._text(name) or "" for name in (STDOUT_FILE, POTENTIAL_STDOUT))])
        for pattern, label in MESSAGES:
            match = re.search(rf"^.*?(?:{pattern}).*$", text, re.MULTILINE)
            if match:
                label = "ERROR_INPUT_REFUSED" if label == "INPUT" else label
                return self.exit_codes[label].format(message=_with_reason(text, match))
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        message = f"{missing}; last on stderr: {lines[-1]}" if lines else f"{missing} and stderr is silent"
        return self.exit_codes.ERROR_OUTPUT_MISSING.format(message=message)


def _with_reason(text: str, match: re.Match[str]) -> str:
    """The line, and the one below a line `Error in routine`, which says what was wrong."""
    line = match[0].strip(" %")
    if "Error in routine" in line:
        after = text[match.end() :].strip().splitlines()
        line = f"{line} {after[0].strip(' %')}" if after else line
    return line
