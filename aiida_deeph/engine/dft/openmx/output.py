"""What a run of OpenMX says of itself: `.out`, or the standard output as far as a run came that was cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiida_deeph.engine.dft.openmx.code import OPENMX
from aiida_deeph.engine.dft.openmx.input_file import parse_input
from aiida_deeph.engine.domain.moments import along
from aiida_deeph.engine.errors import DataError, InputError

# What OpenMX takes where the input is silent: Hartree, and steps.
DEFAULT_CRITERION, DEFAULT_STEPS = 1e-6, 40

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_STEP = re.compile(rf"^\s+SCF=\s*\d+\s+NormRD=\s*({_NUMBER})\s+Uele=\s*({_NUMBER})", re.MULTILINE)
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
class OpenmxOutput:
    """What the `.out` of one run says of its last geometry, to which the `.scfout` belongs; energies in eV.

    :param scf_energies: Uele after each SCF step.
    :param scf_residuals: NormRD, what the step changed in the density, after each SCF step.
    :param criterion: |change of Uele| at which the density counts as converged.
    :param max_steps: SCF steps that the input allows.
    :param energies: contributions to the total energy by OpenMX's names, e.g. `Utot`.
    :param forces: shape (n_atoms, 3), eV/Angstrom.
    :param cutoffs: of the grid that was used along each lattice vector, Rydberg.
    :param seconds: of the parts of the run by their names.
    """

    version: str
    scf_energies: tuple[float, ...]
    scf_residuals: tuple[float, ...]
    criterion: float
    max_steps: int
    energies: dict[str, float]
    fermi_energy: float | None
    atoms: tuple[AtomResult, ...] = ()
    total_moment: float | None = None
    dipole: tuple[float, ...] | None = None
    forces: tuple[tuple[float, ...], ...] = ()
    cutoffs: tuple[float, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def energy(self) -> float | None:
        """Total energy; None if it is not printed."""
        return self.energies.get("Utot")

    @property
    def moments(self) -> list[list[float]] | None:
        """Spin moments of the atoms as [x, y, z], Bohr magnetons; None without spins."""
        if self.total_moment is None or not self.atoms:
            return None
        return [along(atom.moment, *(atom.angles or ())) for atom in self.atoms]

    @property
    def complete(self) -> bool:
        """The text is there to its end."""
        return self.energy is not None and bool(self.seconds)

    @property
    def converged(self) -> bool:
        """The last step changed Uele by less than the criterion, and OpenMX stopped by itself, not by `scf.maxIter`.

        OpenMX also asks that NormRD be below ten times the criterion (in Hartree), but what it prints under that name
        is another quantity with some kinds of mixing (Simple, GR-Pulay): it counts only at the last step that was
        allowed. The first two steps share one density, so that their equal energies prove nothing.
        """
        steady = len(self.scf_energies) > 2 and self.last_change < self.criterion
        stopped = len(self.scf_energies) < self.max_steps
        return steady and (stopped or self.scf_residuals[-1] < 10 * self.criterion / OPENMX.hartree)

    @property
    def last_change(self) -> float:
        """|change of Uele| in the last step, eV."""
        return abs(self.scf_energies[-1] - self.scf_energies[-2]) if len(self.scf_energies) > 1 else float("inf")


def parse_output(text: str, where: object) -> OpenmxOutput:
    """Read the text of a `.out`, complete or not.

    :raises InputError: it was not written by OpenMX.
    :raises DataError: it ends before the SCF history, or its input is damaged.
    """
    version = re.search(r"performed by OpenMX Ver\.\s*(\S+)", text)
    if version is None:
        raise InputError("not an OpenMX output", where=where, expected="`performed by OpenMX Ver.`")
    begin = text.rfind("SCF history at MD=")
    if begin < 0:
        raise DataError("OpenMX output is incomplete", where=where, expected="`SCF history at MD=`")
    body = text[begin:]
    steps = [(float(match[1]), float(match[2])) for match in _STEP.finditer(body)]
    settings = parse_input(text[version.end() : text.find("SCF history at MD=")])
    words = settings.word("scf.criterion", str(DEFAULT_CRITERION)), settings.word("scf.maxiter", str(DEFAULT_STEPS))
    try:
        criterion, max_steps = float(words[0].lower().replace("d", "e")), int(words[1])
    except ValueError:
        raise DataError("scf.criterion or scf.maxIter is no number", where=where, found=", ".join(words)) from None
    energies = dict(re.findall(rf"^  (U\w+|Enpy)\.\s+({_NUMBER})", body, re.MULTILINE))
    fermi = re.search(rf"Chemical potential \(Hartree\)\s+({_NUMBER})", body)
    seconds = dict(re.findall(rf"^   (\S.*?)\s+=\s+\d+\s+{_NUMBER}\s+\d+\s+({_NUMBER})\s*$", body, re.MULTILINE))
    total = re.search(rf"Total spin moment \(muB\)\s+({_NUMBER})", body)
    dipole = re.search(rf"^ Total\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})", body, re.MULTILINE)
    cutoffs = re.search(rf"Used cutoff energy \(Ryd\) for 3D-grids = ({_NUMBER}), ({_NUMBER}), ({_NUMBER})", text)
    try:
        return OpenmxOutput(
            version=version[1],
            scf_energies=tuple(energy * OPENMX.hartree for _, energy in steps),
            scf_residuals=tuple(residual for residual, _ in steps),
            criterion=criterion * OPENMX.hartree,
            max_steps=max_steps,
            energies={name: float(value) * OPENMX.hartree for name, value in energies.items()},
            fermi_energy=float(fermi[1]) * OPENMX.hartree if fermi else None,
            atoms=tuple(_atoms(body)),
            total_moment=float(total[1]) if total else None,
            dipole=tuple(float(x) for x in dipole.groups()) if dipole else None,
            forces=tuple(tuple(float(x) * OPENMX.hartree / OPENMX.bohr for x in row) for row in _forces(body)),
            cutoffs=tuple(float(x) for x in cutoffs.groups()) if cutoffs else (),
            seconds={_plain(name): float(value) for name, value in seconds.items()},
        )
    except ValueError as error:
        raise DataError("OpenMX output is damaged", where=where, found=error) from None


def read_output(path: Path) -> OpenmxOutput:
    """Read the `.out` of a run whose SCF converged.

    :raises InputError: the file is missing or was not written by OpenMX.
    :raises DataError: it ends before the SCF history, or the SCF did not converge.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(
            "main output cannot be read", where=path, found=error, expected="NAME.out beside NAME.scfout"
        ) from None
    output = parse_output(text, path)
    if not output.converged:
        residual = output.scf_residuals[-1] if output.scf_residuals else float("inf")
        raise DataError(
            "density did not converge",
            where=path,
            found=f"{len(output.scf_energies)} steps, last change of Uele {output.last_change / OPENMX.hartree:.1e} "
            f"Hartree, NormRD {residual:.1e}",
            expected=f"less than scf.criterion, {output.criterion / OPENMX.hartree:.1e} Hartree, within "
            f"{output.max_steps} steps",
            remedy="raise scf.maxIter or change the mixing",
        )
    return output


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


def summary(results: OpenmxOutput) -> dict[str, Any]:
    """A complete output as plain values."""
    atoms = results.atoms
    values: dict[str, Any] = {
        "version": results.version,
        "converged": results.converged,
        "energy": results.energy,
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
