"""Atoms in a cell."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import InputError

# Beyond, rounding of coordinates would be felt in matrix elements, Angstrom.
MAX_LENGTH = 1e6
# Atoms that a structure may have; more is a slip of the pen, found before memory is taken.
MAX_ATOMS = 20_000_000


def require_size(n_atoms: int, where: str, remedy: str) -> None:
    """Refuse to build a structure that nobody can mean.

    :raises InputError: too many atoms.
    """
    if n_atoms > MAX_ATOMS:
        raise InputError(
            "too many atoms", where=where, found=f"{n_atoms:.3g}", expected=f"at most {MAX_ATOMS:.0e}", remedy=remedy
        )


@dataclass(frozen=True)
class Structure:
    """Atoms in a (partly) periodic cell.

    :param symbols: element symbol of each atom.
    :param positions: Cartesian, shape (n_atoms, 3), Angstrom; never wrapped, since R refers to them as they are.
    :param cell: lattice vectors in rows, shape (3, 3), Angstrom.
    :param pbc: periodicity of each lattice vector.
    """

    symbols: tuple[str, ...]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: tuple[bool, bool, bool] = field(default=(True, True, True))

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        object.__setattr__(self, "positions", np.ascontiguousarray(self.positions, dtype=np.float64))
        object.__setattr__(self, "cell", np.ascontiguousarray(self.cell, dtype=np.float64))
        object.__setattr__(self, "pbc", tuple(bool(p) for p in self.pbc))
        if self.positions.shape != (len(self.symbols), 3) or self.cell.shape != (3, 3):
            raise InputError(
                "structure has wrong shapes",
                found=f"{len(self.symbols)} symbols, positions {self.positions.shape}, cell {self.cell.shape}",
                expected="positions (n_atoms, 3) and cell (3, 3)",
            )
        if not (np.isfinite(self.positions).all() and np.isfinite(self.cell).all()):
            raise InputError("structure holds NaN or infinite coordinates")
        largest = max(np.abs(self.positions).max(initial=0.0), np.abs(self.cell).max())
        if largest > MAX_LENGTH:
            raise InputError(
                "structure is too large", found=f"{largest:.3g} Angstrom", expected=f"at most {MAX_LENGTH:g} Angstrom"
            )
        if abs(np.linalg.det(self.cell)) < 1e-8:
            raise InputError("cell has no volume", found=self.cell.tolist(), expected="three independent vectors")

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def elements(self) -> tuple[str, ...]:
        """Distinct element symbols in the order of first appearance."""
        return tuple(dict.fromkeys(self.symbols))

    def pair_vectors(self, atom_pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Vectors from atom i in cell 0 to atom j in cell R, shape (n_pairs, 3), Angstrom.

        :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
        """
        i, j = atom_pairs[:, 3], atom_pairs[:, 4]
        vectors: NDArray[np.float64] = self.positions[j] - self.positions[i] + atom_pairs[:, :3] @ self.cell
        return vectors

    def permuted(self, order: NDArray[np.int64]) -> Structure:
        """The same structure with atom `order[n]` at place n."""
        return Structure(tuple(self.symbols[n] for n in order), self.positions[order], self.cell, self.pbc)
