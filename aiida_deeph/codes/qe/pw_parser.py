"""A run of pw.x: numbers, bands, and how it ended."""

from __future__ import annotations

import re
from types import MappingProxyType

import numpy as np
from aiida.engine import ExitCode

from aiida_deeph.calculations.kpoints import mesh_of
from aiida_deeph.codes.parser import ProgramParser
from aiida_deeph.codes.qe.pw import POTENTIAL_STDERR, POTENTIAL_STDOUT, PwCalculation
from aiida_deeph.engine.dft.qe.code import XML_FILE
from aiida_deeph.engine.dft.qe.xml_output import PwOutput, parse_pw_xml
from aiida_deeph.engine.dft.record import RESULT_UNITS
from aiida_deeph.parsers.base import InvalidOutputError

STDOUT_FILE = PwCalculation.STDOUT_FILE
DONE = "JOB DONE."
_CYCLE = re.compile(r"estimated scf accuracy\s+<\s+(\S+)")


class PwParser(ProgramParser):
    """Attaches the numbers also of an SCF that did not converge."""

    CALCULATION = PwCalculation
    UNITS = MappingProxyType({**RESULT_UNITS, "cutoffs": "Ry", "absolute_magnetization": "bohr magneton"})
    MESSAGES = (
        (r"Maximum CPU time exceeded", "ERROR_OUT_OF_WALLTIME"),
        (r"problem allocating|Insufficient memory", "ERROR_OUT_OF_MEMORY"),
        (r"error writing to file", "ERROR_NO_SPACE"),
        (r"convergence NOT achieved", "ERROR_SCF_NOT_CONVERGED"),
        (
            r"Error in routine +(read_namelists|card_|iosys|set_cutoff|readpp|read_upf|upf|setup|input|checkallsym)",
            "ERROR_INPUT_REFUSED",
        ),
        # pw2bgw.x up to 6.7 cannot write the potential of a run with spin-orbit coupling.
        (r"BGW cannot use spinors", "ERROR_INPUT_REFUSED"),
        (r"bad line in namelist|from read_namelists|Error in routine .*(psp|pseudo|species)", "ERROR_INPUT_REFUSED"),
        (r"Error in routine|No such file", "ERROR_CRASHED"),
    )
    ERRORS = (POTENTIAL_STDERR,)
    TALKATIVE = (STDOUT_FILE, POTENTIAL_STDOUT)

    def attach(self) -> ExitCode | None:
        stdout = self.text(STDOUT_FILE)
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
        self.out_band(output.energies, self._fermi_energy(), kpoints, like)

    def reason(self, text: str, match: re.Match[str]) -> str:
        """The line, and the one below a line `Error in routine`, which says what was wrong."""
        line = match[0].strip(" %")
        if "Error in routine" in line:
            after = text[match.end() :].strip().splitlines()
            line = f"{line} {after[0].strip(' %')}" if after else line
        return line

    def _fermi_energy(self) -> float | None:
        """That of the SCF: the one of these k-points means nothing."""
        parent = self.node.inputs.parent_folder.creator if "parent_folder" in self.node.inputs else None
        if parent is None or "output_parameters" not in parent.outputs:
            return None
        return parent.outputs.output_parameters.get("fermi_energy", None)
