"""Small files in the layout of the data sets of molecules."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.db import connect

BOHR = 1 / 1.8897259886
NUMBERS = np.array([8, 1, 1], dtype=np.int32)
# m = -1, 0, 1 of p among PySCF's x, y, z, on O and on each H: 3 s, 2 p, d; 2 s, p.
OURS = [0, 1, 2, 4, 5, 3, 7, 8, 6, 9, 10, 11, 12, 13, 14, 15, 17, 18, 16, 19, 20, 22, 23, 21]
# ORCA's p as z, x, y and d as 0, 1, -1, 2, -2, of PySCF's.
ORCA = [0, 1, 2, 5, 3, 4, 8, 6, 7, 11, 12, 10, 13, 9, 14, 15, 18, 16, 17, 19, 20, 23, 21, 22]


def water(seed: int) -> np.ndarray:
    """Positions, Angstrom."""
    rng = np.random.default_rng(seed)
    return np.array([[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]) + rng.normal(scale=0.05, size=(3, 3))


def matrices(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The core Hamiltonian, a little screened, Hartree, and S, in PySCF's order."""
    from pyscf import gto

    mol = gto.M(atom=list(zip("OHH", positions, strict=True)), basis="def2-svp", verbose=0)
    return mol.intor("int1e_kin") + 0.05 * mol.intor("int1e_nuc"), mol.intor("int1e_ovlp")


def qh9(path: Path, count: int = 10, dynamic: bool = False) -> Path:
    columns = (
        "id INTEGER, geo_id BLOB, N BLOB, Z BLOB, pos BLOB, etot REAL, Ham BLOB"
        if dynamic
        else ("id INTEGER, N INTEGER, Z BLOB, pos BLOB, Ham BLOB")
    )
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE data ({columns})")
        for n in range(count):
            positions = water(n)
            H = matrices(positions)[0]
            size = np.int64(3).tobytes() if dynamic else 3
            places = positions / BOHR if dynamic else positions
            row: list[Any] = [n, size, NUMBERS.tobytes(), places.tobytes(), H.tobytes()]
            if dynamic:
                row = [n, np.int64(n).tobytes(), *row[1:4], -76.4, row[4]]
            connection.execute(f"INSERT INTO data VALUES ({', '.join('?' * len(row))})", row)
    return path


def md17(path: Path, count: int = 3) -> Path:
    with connect(path, append=False) as database:
        for n in range(count):
            positions = water(n)
            H, S = (M[np.ix_(ORCA, ORCA)] for M in matrices(positions))
            data = {"hamiltonian": H, "overlap": S, "energy": np.array([-76.3]), "forces": np.zeros((3, 3))}
            database.write(Atoms(NUMBERS, positions), data=data)
    return path
