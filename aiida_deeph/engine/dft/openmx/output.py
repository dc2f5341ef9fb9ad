"""The numbers of one OpenMX run: from `.out`, or from the standard output as far as a run came that was cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiida_deeph.engine.dft.openmx.code import OPENMX
from aiida_deeph.engine.dft.openmx.main_output import parse_main_output
from aiida_deeph.engine.errors import DataError

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_FINISHED = "The calculation was normally finished."


@dataclass(frozen=True)
class Progress:
    """How far a run came, by its standard output.

    :param steps: Uele (Hartree), |change of Uele| (Hartree) and NormRD after each SCF step.
    :param criterion: of the change of Uele, Hartree; None before the first step.
    :param scf_ended: the SCF loop is over, converged or not; the files of a restart are written then.
    :param finished: OpenMX's last line is there.
    """

    steps: tuple[tuple[float, float, float], ...] = ()
    criterion: float | None = None
    scf_ended: bool = False
    finished: bool = False

    @property
    def converged(self) -> bool:
        """The last step changed Uele by less than the criterion."""
        return len(self.steps) > 2 and self.criterion is not None and self.steps[-1][1] < self.criterion


def parse_progress(text: str) -> Progress:
    """Read the standard output of a run, complete or not."""
    energies = [float(m[1]) for m in re.finditer(rf"^<DFT>\s+Uele\s+=\s*({_NUMBER})", text, re.MULTILINE)]
    changes = [float(m[1]) for m in re.finditer(rf"^<DFT>\s+Uele.*dUele\s+=\s*({_NUMBER})", text, re.MULTILINE)]
    residuals = re.findall(rf"^<DFT>\s+NormRD =\s*({_NUMBER})\s+Criterion =\s*({_NUMBER})", text, re.MULTILINE)
    steps = tuple(zip(energies, changes, (float(residual) for residual, _ in residuals), strict=False))
    return Progress(
        steps=steps,
        criterion=float(residuals[0][1]) if residuals else None,
        scf_ended=re.search(r"^<MD= *\d+>  (Force calculation|Total Energy)", text, re.MULTILINE) is not None,
        finished=_FINISHED in text,
    )


@dataclass(frozen=True)
class AtomResult:
    """Mulliken population of an atom.

    :param electrons: valence electrons on it.
    :param moment: spin moment along z or, for noncollinear spins, (x, y, z) by size and angles; Bohr magnetons.
    :param orbital_moment: its size, Bohr magnetons; None without spin-orbit coupling.
    """

    symbol: str
    electrons: float
    moment: float
    angles: tuple[float, float] | None = None
    orbital_moment: float | None = None


@dataclass(frozen=True)
class Results:
    """Numbers of a run; energies in eV.

    :param energies: contributions to the total energy by OpenMX's names, e.g. `Utot`.
    :param forces: shape (n_atoms, 3), eV/Angstrom.
    :param cutoffs: of the grid that was used along each lattice vector, Rydberg.
    :param seconds: of the parts of the run by their names.
    """

    version: str
    converged: bool
    scf_energies: tuple[float, ...]
    scf_residuals: tuple[float, ...]
    criterion: float
    energies: dict[str, float]
    fermi_energy: float | None
    atoms: tuple[AtomResult, ...] = ()
    total_moment: float | None = None
    dipole: tuple[float, ...] | None = None
    forces: tuple[tuple[float, ...], ...] = ()
    cutoffs: tuple[float, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


def parse_results(text: str, where: str = "openmx.out") -> Results:
    """Read the text of a complete `.out`.

    :raises InputError: it was not written by OpenMX.
    :raises DataError: it is cut off.
    """
    output = parse_main_output(text, Path(where))
    body = text[text.rfind("SCF history at MD=") :]
    energies = dict(re.findall(rf"^  (U\w+|Enpy)\.\s+({_NUMBER})", body, re.MULTILINE))
    seconds = dict(re.findall(rf"^   (\S.*?)\s+=\s+\d+\s+{_NUMBER}\s+\d+\s+({_NUMBER})\s*$", body, re.MULTILINE))
    if "Utot" not in energies or not seconds:
        raise DataError("OpenMX output is incomplete", where=where, expected="total energy and computational time")
    total = re.search(rf"Total spin moment \(muB\)\s+({_NUMBER})", body)
    dipole = re.search(rf"^ Total\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})", body, re.MULTILINE)
    cutoffs = re.search(rf"Used cutoff energy \(Ryd\) for 3D-grids = ({_NUMBER}), ({_NUMBER}), ({_NUMBER})", text)
    factor = OPENMX.hartree / OPENMX.bohr
    return Results(
        version=output.version,
        converged=output.converged,
        scf_energies=tuple(energy * OPENMX.hartree for energy in output.band_energies),
        scf_residuals=output.residuals,
        criterion=output.criterion * OPENMX.hartree,
        energies={name: float(value) * OPENMX.hartree for name, value in energies.items()},
        fermi_energy=None if output.fermi_energy is None else output.fermi_energy * OPENMX.hartree,
        atoms=tuple(_atoms(body)),
        total_moment=float(total[1]) if total else None,
        dipole=tuple(float(x) for x in dipole.groups()) if dipole else None,
        forces=tuple(tuple(float(x) * factor for x in row) for row in _forces(body)),
        cutoffs=tuple(float(x) for x in cutoffs.groups()) if cutoffs else (),
        seconds={_plain(name): float(value) for name, value in seconds.items()},
    )


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _atoms(text: str) -> Iterator[AtomResult]:
    """Rows `number symbol up down sum difference (theta phi)` below the title, and those of the orbital moments."""
    section = _section(text, "Mulliken populations", "Sum of MulP")
    orbital = {
        int(row[0]): float(row[2])
        for row in _rows(_section(text, "Orbital moments", "****"))
        if len(row) == 5 and row[0].isdigit()
    }
    for row in _rows(section):
        if len(row) not in (6, 8) or not row[0].isdigit():
            continue
        numbers = [float(word) for word in row[2:]]
        angles = (numbers[4], numbers[5]) if len(numbers) == 6 else None
        yield AtomResult(row[1], numbers[2], numbers[3], angles, orbital.get(int(row[0])))


def _forces(text: str) -> list[list[float]]:
    """Hartree/Bohr."""
    rows = _rows(_section(text, "<coordinates.forces", "coordinates.forces>"))
    return [[float(word) for word in row[5:8]] for row in rows if len(row) == 8]


def _section(text: str, title: str, end: str) -> str:
    begin = text.find(title)
    if begin < 0:
        return ""
    begin = text.find("\n\n", begin) if end == "****" else begin  # the title itself stands between rows of stars
    stop = text.find(end, begin + len(title))
    return text[begin:] if stop < 0 else text[begin:stop]


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def summary(results: Results) -> dict[str, Any]:
    """Results as plain values."""
    atoms = results.atoms
    values: dict[str, Any] = {
        "version": results.version,
        "converged": results.converged,
        "energy": results.energies["Utot"],
        "energy_contributions": results.energies,
        "fermi_energy": results.fermi_energy,
        "scf_cycles": len(results.scf_energies),
        "scf_history": {"band_energy": list(results.scf_energies), "residual": list(results.scf_residuals)},
        "scf_criterion": results.criterion,
        "electrons": [atom.electrons for atom in atoms],
        "n_electrons": sum(atom.electrons for atom in atoms),
        "dipole": results.dipole,
        "forces": results.forces,
        "grid_cutoffs": results.cutoffs,
        "seconds": results.seconds.get("total_computational_time"),
        "seconds_of_parts": results.seconds,
    }
    if results.total_moment is not None:
        values["total_spin_moment"] = results.total_moment
        values["spin_moments"] = [atom.moment for atom in atoms]
    if any(atom.angles for atom in atoms):
        values["spin_angles"] = [atom.angles for atom in atoms]
    if any(atom.orbital_moment is not None for atom in atoms):
        values["orbital_moments"] = [atom.orbital_moment for atom in atoms]
    return values
