"""The numbers of one SIESTA run from its standard output, complete or cut off."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
# Harris and Kohn-Sham energy, free energy, change of the density matrix, Fermi levels, change of H.
_STEP = re.compile(rf"^\s*scf:\s+\d+\s+({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})\s*({_NUMBER})\s+\S", re.MULTILINE)
_VERSION = re.compile(r"^(?:Siesta Version\s*:|Version\s*:)\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Results:
    """Numbers of a run.

    :param converged: of the SCF.
    :param finished: SIESTA's last line is there.
    :param scf_energies: Kohn-Sham energy after each SCF step, eV.
    :param scf_residuals: largest change of an element of the density matrix in each SCF step.
    :param energies: contributions to the total energy by SIESTA's names, eV.
    :param forces: shape (n_atoms, 3), eV/Angstrom.
    :param moment: spin moment (x, y, z) of the cell, Bohr magnetons; None without spin.
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
    seconds: float | None = None


def parse_results(text: str) -> Results:
    """Read the standard output of a run, complete or not."""
    version = _VERSION.search(text)
    steps = [[float(x) for x in match.groups()] for match in _STEP.finditer(text)]
    final = text[text.rfind("siesta: Final energy (eV):") :] if "siesta: Final energy (eV):" in text else ""
    energies = {
        _plain(name): float(value)
        for name, value in re.findall(rf"^siesta:\s+(\S[^=\n]*?)\s*=\s*({_NUMBER})\s*$", final, re.MULTILINE)
    }
    moments = re.findall(rf"spin moment: S , {{S}} =\s*({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})", text)
    seconds = re.search(rf"Elapsed wall time \(sec\) =\s*({_NUMBER})", text)
    return Results(
        version=version[1] if version else None,
        converged="SCF cycle converged after" in text,
        finished=">> End of run" in text or "Job completed" in text,
        scf_energies=tuple(step[1] for step in steps),
        scf_residuals=tuple(step[3] for step in steps),
        fermi_energy=energies.pop("fermi", None),
        energies=energies,
        forces=_forces(text),
        moment=tuple(float(x) for x in moments[-1][1:]) if moments else None,
        seconds=float(seconds[1]) if seconds else None,
    )


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
