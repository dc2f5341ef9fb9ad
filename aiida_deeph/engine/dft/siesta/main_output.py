"""SIESTA's main output: version, SCF cycle, energies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aiida_deeph.engine.dft.record import Release
from aiida_deeph.engine.dft.siesta.code import RECORD
from aiida_deeph.engine.errors import DataError, InputError

# Files beyond this are not looked at when the main output is searched for, bytes.
LARGEST_OUTPUT = 200_000_000

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_VERSION = re.compile(r"^(?:Siesta Version\s*:|Executable\s*:\s*siesta\s*\n\s*Version\s*:)\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class MainOutput:
    """What the main output of one run says of its last geometry.

    :param n_cycles: SCF cycles of the last geometry.
    :param energy: eV; None if it is not printed.
    :param fermi_energy: eV; None if it is not printed.
    """

    path: Path
    version: str
    units: Release
    converged: bool
    n_cycles: int
    energy: float | None
    fermi_energy: float | None


def find_main_output(directory: Path) -> Path:
    """The file of a run's folder that begins with SIESTA's version.

    :raises InputError: there is none, or several.
    """
    found = []
    for path in sorted(directory.iterdir()):
        if not path.is_file() or path.suffix in (".HSX", ".TSHS", ".DM", ".xml"):
            continue
        if path.stat().st_size <= LARGEST_OUTPUT:
            with path.open(encoding="utf-8", errors="replace") as stream:
                head = stream.read(4000)
            if _VERSION.search(head):
                found.append(path)
    if len(found) != 1:
        raise InputError(
            "several outputs of SIESTA in one folder" if found else "no output of SIESTA here",
            where=directory,
            found=", ".join(path.name for path in found) or None,
            expected="one file that SIESTA's standard output was written to",
        )
    return found[0]


def read_main_output(path: Path) -> MainOutput:
    """Read a main output; of several geometries the last counts, to which the matrices belong.

    :raises InputError: the version is not known.
    :raises DataError: it ends before the SCF cycle.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    match = _VERSION.search(text)
    if match is None:
        raise InputError("not an output of SIESTA", where=path, expected="`Siesta Version` or `Executable : siesta`")
    version = match.group(1)
    units = RECORD.release(version, path)
    steps = [m.start() for m in re.finditer(r"^\s*scf:\s+1\s", text, re.MULTILINE)]
    if not steps:
        raise DataError("output of SIESTA is incomplete", where=path, expected="the SCF cycle")
    last = text[steps[-1] :]
    energy = re.search(rf"^siesta:\s+Total =\s+({_NUMBER})", last, re.MULTILINE)
    fermi = re.search(rf"^siesta:\s+Fermi =\s+({_NUMBER})", last, re.MULTILINE)
    return MainOutput(
        path=path,
        version=version,
        units=units,
        converged="SCF cycle converged after" in last,
        n_cycles=len(re.findall(r"^\s*scf:\s+\d+\s", last, re.MULTILINE)),
        energy=float(energy.group(1)) if energy else None,
        fermi_energy=float(fermi.group(1)) if fermi else None,
    )
