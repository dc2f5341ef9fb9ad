"""The numbers of one ABACUS run from its `running_*.log`, complete or cut off."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[Ee][-+]?\d+)?"
_CONVERGED = re.compile(r"charge density convergence is achieved|#SCF IS CONVERGED#")
_NOT_CONVERGED = re.compile(r"convergence has (?:not|NOT) been achieved|#SCF IS NOT CONVERGED#", re.IGNORECASE)
_ENERGY = re.compile(rf"^\s*E_(\S+)\s+({_NUMBER})\s+({_NUMBER})\s*$", re.MULTILINE)
# A residual stands in front of the energies of its step.
_RESIDUAL = re.compile(rf"^\s*(?:Density error is|#?DRHO\S*\s*(?:IS|=)?)\s*({_NUMBER})", re.MULTILINE | re.IGNORECASE)
_MOMENT = re.compile(rf"^\s*total magnetism \(Bohr mag/cell\)\s*=?((?:\s+{_NUMBER})+)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Results:
    """Numbers of a run.

    :param converged: of the SCF; None before its end.
    :param finished: ABACUS's last lines are there.
    :param scf_energies: Kohn-Sham energy after each SCF step, eV.
    :param scf_residuals: error of the density in each SCF step.
    :param energies: contributions to the energy of the last step by ABACUS's names, eV.
    :param forces: in the order of ABACUS's atoms, shape (n_atoms, 3), eV/Angstrom.
    :param moment: spin moment of the cell, z or (x, y, z), Bohr magnetons; None without spin.
    """

    version: str | None
    converged: bool | None
    finished: bool
    scf_energies: tuple[float, ...]
    scf_residuals: tuple[float, ...]
    energies: dict[str, float] = field(default_factory=dict)
    energy: float | None = None
    fermi_energy: float | None = None
    n_electrons: float | None = None
    forces: tuple[tuple[float, ...], ...] = ()
    moment: tuple[float, ...] | None = None


def parse_results(text: str) -> Results:
    """Read the log of a run, complete or not."""
    version = re.search(r"^\s*ABACUS\s+v?(\d[\w.]*)", text, re.MULTILINE)
    found = _ENERGY.findall(text)
    energies = {_plain(name): float(ev) for name, _, ev in found}
    fermi = re.findall(rf"^\s*EFERMI\s*=\s*({_NUMBER})", text, re.MULTILINE)
    energy = re.findall(rf"!\s*FINAL_ETOT_IS\s+({_NUMBER})\s*eV", text)
    electrons = re.findall(rf"(?i:autoset (?:the )?number of electrons:?)\s*=\s*({_NUMBER})", text)
    moments = _MOMENT.findall(text)
    converged = True if _CONVERGED.search(text) else (False if _NOT_CONVERGED.search(text) else None)
    fermi_energy = float(fermi[-1]) if fermi else energies.get("fermi")
    energies.pop("fermi", None)
    return Results(
        version=version[1] if version else None,
        converged=converged,
        finished=re.search(r"^\s*Total\s+Time\s*:", text, re.MULTILINE) is not None,
        scf_energies=tuple(float(ev) for name, _, ev in found if name == "KohnSham"),
        scf_residuals=tuple(float(x) for x in _RESIDUAL.findall(text)),
        energies=energies,
        energy=float(energy[-1]) if energy else energies.get("kohnsham"),
        fermi_energy=fermi_energy,
        n_electrons=float(electrons[-1]) if electrons else None,
        forces=_forces(text),
        moment=tuple(float(x) for x in moments[-1].split()) if moments else None,
    )


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _forces(text: str) -> tuple[tuple[float, ...], ...]:
    """Rows `label x y z` below the last title, between lines of dashes."""
    _, title, below = text.rpartition("TOTAL-FORCE (eV/Angstrom)")
    rows: list[tuple[float, ...]] = []
    for line in below.splitlines()[1:] if title else ():
        match = re.fullmatch(rf"\s*[A-Z][a-z]?\S*\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s*", line)
        if match is not None:
            rows.append(tuple(float(x) for x in match.groups()))
        elif rows:
            break
    return tuple(rows)
