"""FHI-aims's `geometry.in` (cell, atoms) and `basis-indices.out` (functions of each atom)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError


@dataclass(frozen=True)
class BasisIndices:
    """The basis functions of the cell.

    :param atoms: of each function, counted from 0, shape (n_functions,).
    :param kinds: radial function and principal quantum number of each, e.g. `hydro 4`.
    :param ls: shape (n_functions,).
    :param ms: shape (n_functions,).
    """

    path: Path
    atoms: NDArray[np.int64]
    kinds: tuple[str, ...]
    ls: NDArray[np.int64]
    ms: NDArray[np.int64]

    def shells(self, atom: int) -> tuple[int, ...]:
        """l of each shell of an atom; the functions of a shell stand side by side, m = -l..l.

        :raises DataError: they do not.
        """
        places = np.flatnonzero(self.atoms == atom)
        shells: list[int] = []
        done = 0
        while done < len(places):
            l = int(self.ls[places[done]])
            members = places[done : done + 2 * l + 1]
            alike = {(self.kinds[n], int(self.ls[n])) for n in members}
            if not 0 <= l < 10 or len(alike) != 1 or self.ms[members].tolist() != list(range(-l, l + 1)):
                raise DataError("functions of an atom do not form shells", where=f"{self.path}, atom {atom + 1}")
            shells.append(l)
            done += 2 * l + 1
        return tuple(shells)


def read_geometry(path: Path) -> Structure:
    """Read a `geometry.in` of a crystal; positions are not wrapped.

    :raises InputError: no lattice vectors, or atoms without nucleus.
    :raises DataError: the file cannot be read or is damaged.
    """
    try:
        rows = [line.split("#")[0].split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        cell = np.array([row[1:4] for row in rows if row[:1] == ["lattice_vector"]], dtype=np.float64)
        atoms = [row for row in rows if row and row[0] in ("atom", "atom_frac")]
        numbers = np.array([row[1:4] for row in atoms], dtype=np.float64).reshape(-1, 3)
        symbols = tuple(_element(row[4]) for row in atoms)
    except (OSError, ValueError, IndexError) as error:
        raise DataError("geometry.in is damaged", where=path, found=error) from None
    if not len(cell):
        raise InputError("no lattice vectors", where=path, expected="a crystal: H(R) of a molecule has one R")
    if cell.shape != (3, 3) or not symbols:
        raise DataError(
            "geometry.in is damaged", where=path, found=f"{len(cell)} lattice vectors, {len(symbols)} atoms"
        )
    if any(row[:1] in (["empty"], ["pseudocore"]) for row in rows):
        raise InputError("atoms without nucleus are not supported", where=path, expected="orbitals on atoms only")
    fractional = np.array([row[0] == "atom_frac" for row in atoms])
    positions = np.where(fractional[:, None], numbers @ cell, numbers)
    return Structure(symbols, positions, cell)


def read_moments(path: Path) -> Moments | None:
    """`initial_moment` of each atom of a `geometry.in`; None if no atom has one.

    :raises DataError: one cannot be read.
    """
    moments: list[float] = []
    given = False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split("#")[0].split()
        if words[:1] in (["atom"], ["atom_frac"]):
            moments.append(0.0)
        elif words[:1] == ["initial_moment"] and moments:
            try:
                moments[-1], given = float(words[1]), True
            except (ValueError, IndexError):
                raise DataError("geometry.in is damaged", where=path, found=line.strip()) from None
    return Moments(moments) if given else None


def _element(species: str) -> str:
    """Element with whose symbol a species begins: `Fe_up` is iron."""
    match = re.match(r"[A-Z][a-z]?", species)
    for name in (match.group(), match.group()[0]) if match else ():
        if name in atomic_numbers:
            return name
    raise ValueError(f"species {species}")


def read_basis_indices(path: Path) -> BasisIndices:
    """Read a `basis-indices.out`: function, type, atom, n, l, m.

    :raises DataError: the file cannot be read or is damaged.
    """
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        rows = [row for row in rows if row and row[0].isdigit()]
        numbers = np.array([[int(row[n]) for n in (0, 2, 3, 4, 5)] for row in rows]).reshape(-1, 5)
        if not len(rows) or not np.array_equal(numbers[:, 0], np.arange(1, len(rows) + 1)):
            raise ValueError(f"{len(rows)} functions")
        kinds = tuple(f"{row[1]} {row[3]}" for row in rows)
        return BasisIndices(path, numbers[:, 1] - 1, kinds, numbers[:, 3], numbers[:, 4])
    except (OSError, ValueError, IndexError) as error:
        raise DataError("basis-indices.out is damaged", where=path, found=error) from None
