"""ABACUS's structure file STRU."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aiida_deeph.engine.domain.moments import along
from aiida_deeph.engine.errors import DataError, InputError

# In positions that are given in Angstrom; everything else is in Bohr.
ABACUS_BOHR_TO_ANGSTROM = 0.529177
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([EeDd][-+]?\d+)?"
_SECTIONS = (
    "ATOMIC_SPECIES",
    "NUMERICAL_ORBITAL",
    "NUMERICAL_DESCRIPTOR",
    "ABFS_ORBITAL",
    "LATTICE_CONSTANT",
    "LATTICE_VECTORS",
    "LATTICE_PARAMETERS",
    "LATTICE_PARAMETER",
    "ATOMIC_POSITIONS",
)


@dataclass(frozen=True)
class Stru:
    """Atoms in the order of the file: type by type.

    :param labels: of the atom types, e.g. `Fe1`.
    :param types: type of each atom, counted from 0, shape (n_atoms,).
    :param constant: LATTICE_CONSTANT, Bohr.
    :param cell: lattice vectors in rows, Bohr.
    :param fractional: coordinates as they stand there, not wrapped, shape (n_atoms, 3).
    :param orbital_files: of each type; empty if the file does not say.
    :param moments: initial ones, Bohr magnetons, shape (n_atoms, 3).
    """

    path: Path
    labels: tuple[str, ...]
    types: NDArray[np.int64]
    constant: float
    cell: NDArray[np.float64]
    fractional: NDArray[np.float64]
    orbital_files: tuple[str, ...] = ()
    moments: NDArray[np.float64] | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """Element of each atom: that with whose symbol the label of its type begins."""
        elements = [element_of(label, self.path) for label in self.labels]
        return tuple(elements[n] for n in self.types)


def element_of(label: str, where: object) -> str:
    """Element with whose symbol a label begins.

    :raises DataError: there is none.
    """
    match = re.match(r"[A-Z][a-z]?", label)
    for name in (match.group(), match.group()[0]) if match else ():
        if name in atomic_numbers:
            return name
    raise DataError(
        "element of an atom type is unknown", where=where, found=label, expected="a label such as Fe or Fe1"
    )


def read_stru(path: Path, lattice: NDArray[np.float64] | None = None) -> Stru:
    """Read a STRU whose positions are `Direct` or `Cartesian` of any kind.

    :param lattice: vectors in rows in units of the lattice constant, as the log has them: taken where the file lacks
        them, because INPUT names a kind of lattice (`latname`).
    :raises InputError: there are no lattice vectors, positions of an unknown kind, or atoms without nucleus.
    :raises DataError: the file cannot be read or is damaged.
    """
    try:
        sections = _sections(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise DataError("STRU cannot be read", where=path, found=error) from None
    if "LATTICE_VECTORS" not in sections and lattice is None:
        raise InputError("lattice vectors are missing", where=path, remedy="write LATTICE_VECTORS instead of latname")
    try:
        constant = float(sections["LATTICE_CONSTANT"][0][0])
        rows = sections.get("LATTICE_VECTORS", lattice)
        cell = np.array([row[:3] for row in rows[:3]], dtype=np.float64) * constant
        if cell.shape != (3, 3) or not np.linalg.det(cell):
            raise ValueError(f"{len(cell)} lattice vectors")
        labels = [row[0] for row in sections["ATOMIC_SPECIES"]]
        # So ABACUS knows atoms without nucleus.
        empty = [label for label in labels if "empty" in label]
        if empty:
            raise InputError(
                "empty atoms are not supported", where=path, found=", ".join(empty), expected="orbitals on atoms only"
            )
        kind, rows = sections["ATOMIC_POSITIONS"][0][0], sections["ATOMIC_POSITIONS"][1:]
        types, coordinates, moments, place = [], [], [], 0
        while place < len(rows):
            n_atoms = int(rows[place + 2][0])
            if not 0 < n_atoms <= len(rows):
                raise ValueError(f"{n_atoms} atoms")
            types += [labels.index(rows[place][0])] * n_atoms
            atoms, of_type = rows[place + 3 : place + 3 + n_atoms], float(rows[place + 1][0])
            coordinates += [[float(x) for x in row[:3]] for row in atoms]
            moments += [_moment(row[3:], of_type) for row in atoms]
            place += 3 + n_atoms
        if len(coordinates) != len(types) or not types:
            raise ValueError(f"{len(coordinates)} positions")
        positions = _fractional(np.array(coordinates), kind, cell, constant, path)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError("STRU is damaged", where=path, found=error) from None
    orbitals = tuple(row[0] for row in sections.get("NUMERICAL_ORBITAL", ()))
    return Stru(path, tuple(labels), np.array(types), constant, cell, positions, orbitals, np.array(moments))


def _moment(words: list[str], of_type: float) -> list[float]:
    """`mag` of an atom, a number or a vector, or that of its type; turned by `angle1` and `angle2`, degrees."""
    values = {"mag": [of_type]}
    for n, word in enumerate(words):
        if word in ("mag", "magmom", "angle1", "angle2"):
            numbers = list(itertools.takewhile(lambda x: re.fullmatch(_NUMBER, x), words[n + 1 :]))
            values["mag" if word == "magmom" else word] = [float(x) for x in numbers]
    size = values["mag"]
    if len(size) >= 3:
        return size[:3]
    return along(size[0], *(values.get(name, [0.0])[0] for name in ("angle1", "angle2")))


def _sections(text: str) -> dict[str, list[list[str]]]:
    """Name of a section -> its lines as words, without comments."""
    sections: dict[str, list[list[str]]] = {}
    current: list[list[str]] | None = None
    for line in text.splitlines():
        words = re.split(r"//|#", line)[0].split()
        if not words:
            continue
        if words[0] in _SECTIONS:
            current = sections.setdefault(words[0], [])
        elif current is not None:
            current.append(words)
    return sections


def _fractional(
    coordinates: NDArray[np.float64], kind: str, cell: NDArray[np.float64], constant: float, path: Path
) -> NDArray[np.float64]:
    if kind == "Direct":
        return coordinates
    units = {"Cartesian": constant, "Cartesian_au": 1.0, "Cartesian_angstrom": 1 / ABACUS_BOHR_TO_ANGSTROM}
    if kind not in units:
        raise InputError(
            "kind of positions is not supported", where=path, found=kind, expected=f"Direct, {', '.join(units)}"
        )
    return np.asarray(coordinates * units[kind] @ np.linalg.inv(cell))
