"""SIESTA's standard output: what a run says of itself, complete or cut off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiida_deeph.engine.dft.siesta.code import RECORD
from aiida_deeph.engine.dft.siesta.settings import printed_settings
from aiida_deeph.engine.domain.moments import along
from aiida_deeph.engine.errors import DataError, InputError

# Files beyond this are not looked at when the output is searched for, bytes.
LARGEST_OUTPUT = 200_000_000

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
# Harris and Kohn-Sham energy, free energy, change of the density matrix, Fermi levels, change of H.
_STEP = re.compile(rf"^\s*scf:\s+\d+\s+({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})\s+\S", re.MULTILINE)
_VERSION = re.compile(r"^(?:Siesta Version\s*:|Executable\s*:\s*siesta\s*\n\s*Version\s*:)\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class SiestaOutput:
    """Of the last geometry of a run, to which its matrices belong; energies in eV.

    :param version: None if the text is not SIESTA's.
    :param converged: of the SCF.
    :param finished: SIESTA's last line is there.
    :param scf_energies: Kohn-Sham energy after each SCF step.
    :param scf_residuals: largest change of an element of the density matrix in each SCF step.
    :param energies: contributions to the total energy by SIESTA's names.
    :param forces: shape (n_atoms, 3), eV/Angstrom.
    :param moment: spin moment (x, y, z) of the cell, Bohr magnetons; None without spin.
    :param settings: functional, cutoffs, k-mesh, as far as they are printed.
    """

    version: str | None
    converged: bool
    finished: bool
    scf_energies: tuple[float, ...]
    scf_residuals: tuple[float, ...]
    energies: dict[str, float] = field(default_factory=dict)
    fermi_energy: float | None = None
    forces: tuple[tuple[float, ...], ...] = ()
    moment: tuple[float, ...] | None = None
    initial_moments: Mapping[int, list[float]] | None = None
    seconds: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def energy(self) -> float | None:
        """Total energy; None if it is not printed."""
        return self.energies.get("total")


def parse_output(text: str) -> SiestaOutput:
    """Read the standard output of a run, complete or not."""
    version = _VERSION.search(text)
    cycles = [match.start() for match in re.finditer(r"^\s*scf:\s+1\s", text, re.MULTILINE)]
    last = text[cycles[-1] :] if cycles else ""
    steps = [[float(x) for x in match.groups()] for match in _STEP.finditer(last)]
    _, title, final = last.rpartition("siesta: Final energy (eV):")
    rows = re.findall(rf"^siesta:\s+(\S[^=\n]*?)\s*=\s*({_NUMBER})\s*$", final if title else "", re.MULTILINE)
    energies = {_plain(name): float(value) for name, value in rows}
    moments = re.findall(rf"spin moment: S , {{S}} =\s*({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})", last)
    seconds = re.search(rf"Elapsed wall time \(sec\) =\s*({_NUMBER})", last)
    return SiestaOutput(
        version=version[1] if version else None,
        converged="SCF cycle converged after" in last,
        finished=">> End of run" in text or "Job completed" in text,
        scf_energies=tuple(step[1] for step in steps),
        scf_residuals=tuple(step[3] for step in steps),
        fermi_energy=energies.pop("fermi", None),
        energies=energies,
        forces=_forces(last),
        moment=tuple(float(x) for x in moments[-1][1:]) if moments else None,
        seconds=float(seconds[1]) if seconds else None,
        settings=printed_settings(text),
        initial_moments=_initial_moments(text),
    )


def find_output(directory: Path) -> Path:
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


def read_output(path: Path) -> SiestaOutput:
    """Read the standard output of a run whose SCF converged.

    :raises InputError: the version is not known.
    :raises DataError: it ends before the SCF cycle, or the SCF did not converge.
    """
    output = parse_output(path.read_text(encoding="utf-8", errors="replace"))
    if output.version is None:
        raise InputError("not an output of SIESTA", where=path, expected="`Siesta Version` or `Executable : siesta`")
    RECORD.release(output.version, path)
    if not output.scf_energies:
        raise DataError("output of SIESTA is incomplete", where=path, expected="the SCF cycle")
    if not output.converged:
        raise DataError(
            "density did not converge",
            where=path,
            found=f"{len(output.scf_energies)} cycles",
            expected="`SCF cycle converged`",
            remedy="raise MaxSCFIterations or change the mixing",
        )
    return output


def _initial_moments(text: str) -> dict[int, list[float]] | None:
    """Moments of the block DM.InitSpin, which the output repeats, by number of the atom; None without, or `+` and `-`
    for the largest possible one."""
    match = re.search(
        r"^\s*%block\s+DM\.?InitSpin\s*$(.*?)^\s*%endblock", text, re.MULTILINE | re.DOTALL | re.IGNORECASE
    )
    rows = [line.split("#")[0].split() for line in match[1].splitlines() if line.split()] if match else []
    try:
        return {int(row[0]): along(*(float(x) for x in row[1:4])) for row in rows} or None
    except (ValueError, TypeError):
        return None


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _forces(text: str) -> tuple[tuple[float, ...], ...]:
    """Rows `atom x y z` below the last title."""
    _, title, below = text.rpartition("siesta: Atomic forces (eV/Ang):")
    rows = []
    for line in below.splitlines()[1:] if title else ():
        match = re.fullmatch(rf"\s*\d+\s+({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})\s*", line)
        if match is None:
            break
        rows.append(tuple(float(x) for x in match.groups()))
    return tuple(rows)
