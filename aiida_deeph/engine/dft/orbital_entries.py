"""Matrix elements between single orbitals, as sparse files list them -> blocks of atom pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EntryPlaces:
    """Where each matrix element of a sparse file goes.

    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    :param orbitals_per_atom: shape (n_atoms,).
    :param pair: of each element, shape (n_elements,).
    :param row: inside the block, shape (n_elements,).
    :param column: inside the block, shape (n_elements,).
    """

    atom_pairs: Integers
    orbitals_per_atom: Integers
    pair: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]

    def spatial(self, values: NDArray[Any]) -> BlockSparseMatrix:
        """Blocks (n_i, n_j) of these elements; where there is none, zero.

        :param values: shape (n_elements,).
        """
        matrix = BlockSparseMatrix.from_pairs(self.atom_pairs, self.orbitals_per_atom, dtype=values.dtype)
        width = matrix.chunk_shapes[:, 1][self.pair]
        matrix.entries[matrix.chunk_boundaries[:-1][self.pair] + self.row * width + self.column] = values
        return matrix

    def spinful(
        self,
        up: NDArray[Any],
        down: NDArray[Any],
        up_down: NDArray[Any] | None = None,
        down_up: NDArray[Any] | None = None,
    ) -> BlockSparseMatrix:
        """Blocks [[uu, ud], [du, dd]] of these elements; ud and du are zero where they are not given.

        :param up: uu of each element, shape (n_elements,); the others likewise.
        """
        n = self.orbitals_per_atom
        matrix = BlockSparseMatrix.from_pairs(self.atom_pairs, 2 * n, dtype=np.complex128)
        height = n[self.atom_pairs[:, 3]][self.pair]
        width = n[self.atom_pairs[:, 4]][self.pair]
        place = matrix.chunk_boundaries[:-1][self.pair] + self.row * 2 * width + self.column
        matrix.entries[place] = up
        matrix.entries[place + height * 2 * width + width] = down
        if up_down is not None:
            matrix.entries[place + width] = up_down
        if down_up is not None:
            matrix.entries[place + height * 2 * width] = down_up
        return matrix


def entry_places(
    rows: Integers, columns: Integers, cells: Integers, cell_vectors: Integers, orbitals_per_atom: Integers
) -> EntryPlaces:
    """Places of matrix elements M(R)[row, column]; the pairs are closed under (R, i, j) -> (-R, j, i).

    :param rows: orbital in cell 0, counted over the atoms in order, shape (n_elements,).
    :param columns: orbital in cell R, counted alike, shape (n_elements,).
    :param cells: index of R in `cell_vectors`, shape (n_elements,).
    :param cell_vectors: distinct lattice vectors R, shape (n_cells, 3).
    :param orbitals_per_atom: shape (n_atoms,).
    """
    n_atoms = len(orbitals_per_atom)
    atom_of = np.repeat(np.arange(n_atoms), orbitals_per_atom)
    first = np.cumsum(orbitals_per_atom) - orbitals_per_atom
    i, j = atom_of[rows], atom_of[columns]
    keys = (cells * n_atoms + i) * n_atoms + j
    # Elements of one pair stand side by side, row by row: only the first of each run needs to be sorted.
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    distinct, run_pair = np.unique(keys[starts], return_inverse=True)
    cell, atoms = np.divmod(distinct, n_atoms * n_atoms)
    pairs = np.column_stack([cell_vectors[cell], *np.divmod(atoms, n_atoms)]).reshape(-1, 5)
    pair = np.repeat(run_pair, np.diff(np.append(starts, len(keys))))
    reverse = np.column_stack([-pairs[:, :3], pairs[:, 4], pairs[:, 3]])
    closed, place = np.unique(np.concatenate([pairs, reverse]), axis=0, return_inverse=True)
    place = place.reshape(-1)[: len(pairs)]
    return EntryPlaces(closed, orbitals_per_atom, place[pair], rows - first[i], columns - first[j])
