"""SIESTA's `.XV` (cell, atoms) and `.ORB_INDX` (orbitals of each atom)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError


@dataclass(frozen=True)
class XvFile:
    """The geometry of a run, or the next one if it moved atoms.

    :param cell: lattice vectors in rows, Bohr.
    :param atomic_numbers: shape (n_atoms,); not positive for atoms without a nucleus.
    :param positions: Bohr, shape (n_atoms, 3).
    """

    path: Path
    cell: NDArray[np.float64]
    atomic_numbers: NDArray[np.int64]
    positions: NDArray[np.float64]


@dataclass(frozen=True)
class OrbitalIndex:
    """The orbitals of the cell.

    :param atoms: of each orbital, counted from 0, shape (n_orbitals,).
    :param labels: species label of each orbital.
    :param ls: shape (n_orbitals,).
    :param ms: shape (n_orbitals,).
    :param radii: where each orbital ends, Bohr, shape (n_orbitals,).
    """

    path: Path
    atoms: NDArray[np.int64]
    labels: tuple[str, ...]
    ls: NDArray[np.int64]
    ms: NDArray[np.int64]
    radii: NDArray[np.float64]


def read_xv(path: Path) -> XvFile:
    """Read a `.XV`: three lattice vectors, number of atoms, then species, atomic number, position and velocity.

    :raises DataError: the file cannot be read or is damaged.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        cell = np.array([row[:3] for row in lines[:3]], dtype=np.float64)
        atoms = lines[4 : 4 + int(lines[3][0])]
        if len(atoms) != int(lines[3][0]):
            raise ValueError(f"{len(atoms)} atoms")
        numbers = np.array([int(row[1]) for row in atoms])
        return XvFile(path, cell, numbers, np.array([row[2:5] for row in atoms], dtype=np.float64))
    except (OSError, ValueError, IndexError) as error:
        raise DataError("XV file is damaged", where=path, found=error) from None


def read_orbital_index(path: Path) -> OrbitalIndex:
    """Read the orbitals of the cell from a `.ORB_INDX`, which lists those of the whole supercell.

    :raises DataError: the file cannot be read or is damaged.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            n_orbitals = int(stream.readline().split()[0])
            rows = []
            for line in stream:
                words = line.split()
                if words and words[0].isdigit():
                    rows.append(words)
                    if len(rows) == n_orbitals:
                        break
        if len(rows) != n_orbitals or n_orbitals == 0:
            raise ValueError(f"{len(rows)} of {n_orbitals} orbitals")
        # io, ia, is, spec, iao, n, l, m, z, p, sym, rc, ..
        return OrbitalIndex(
            path,
            np.array([int(row[1]) - 1 for row in rows]),
            tuple(row[3] for row in rows),
            np.array([int(row[6]) for row in rows]),
            np.array([int(row[7]) for row in rows]),
            np.array([float(row[11]) for row in rows]),
        )
    except (OSError, ValueError, IndexError) as error:
        raise DataError("ORB_INDX file is damaged", where=path, found=error) from None
