"""Matrix elements between single orbitals, as sparse files list them -> blocks of atom pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, pair_keys

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EntryPlaces:
    """Where the matrix elements of a sparse file go.

    Elements of one row of one block stand side by side in such files; a run of them is handled as one.

    :param atom_pairs: rows (R1, R2, R3, i, j), closed under (R, i, j) -> (-R, j, i), shape (n_pairs, 5).
    :param orbitals_per_atom: shape (n_atoms,).
    :param columns: orbital in the cell of each element, shape (n_elements,).
    :param lengths: elements in each run, shape (n_runs,).
    :param pair: of each run, shape (n_runs,).
    :param row: of each run inside its block, shape (n_runs,).
    :param first_column: orbital with which the block of each run begins, shape (n_runs,).
    """

    atom_pairs: Integers
    orbitals_per_atom: Integers
    columns: NDArray[Any]
    lengths: Integers
    pair: Integers
    row: Integers
    first_column: Integers

    def spatial(self, values: NDArray[Any]) -> BlockSparseMatrix:
        """Blocks (n_i, n_j) of these elements; where there is none, zero.

        :param values: shape (n_elements,).
        """
        matrix = BlockSparseMatrix.from_pairs(self.atom_pairs, self.orbitals_per_atom, dtype=values.dtype)
        matrix.entries[self._places(matrix, matrix.chunk_shapes[:, 1])] = values
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
        height, width = (n[self.atom_pairs[:, column]] for column in (3, 4))
        place = self._places(matrix, 2 * width)
        to_right = np.repeat(width[self.pair], self.lengths)
        below = np.repeat((2 * height * width)[self.pair], self.lengths)
        matrix.entries[place] = up
        matrix.entries[place + below + to_right] = down
        if up_down is not None:
            matrix.entries[place + to_right] = up_down
        if down_up is not None:
            matrix.entries[place + below] = down_up
        return matrix

    def _places(self, matrix: BlockSparseMatrix, width: Integers) -> Integers:
        begin = matrix.chunk_boundaries[:-1][self.pair] + self.row * width[self.pair] - self.first_column
        return np.repeat(begin, self.lengths) + self.columns


def entry_places(
    rows: NDArray[Any],
    columns: NDArray[Any],
    cells: NDArray[Any],
    cell_vectors: Integers,
    orbitals_per_atom: Integers,
) -> EntryPlaces:
    """Places of matrix elements M(R)[row, column].

    :param rows: orbital in cell 0, counted over the atoms in order, shape (n_elements,).
    :param columns: orbital in cell R, counted alike, shape (n_elements,).
    :param cells: index of R in `cell_vectors`, shape (n_elements,).
    :param cell_vectors: distinct lattice vectors R, shape (n_cells, 3).
    :param orbitals_per_atom: shape (n_atoms,).
    """
    n_atoms = len(orbitals_per_atom)
    atom_of = np.repeat(np.arange(n_atoms, dtype=np.int32), orbitals_per_atom)
    first = np.cumsum(orbitals_per_atom) - orbitals_per_atom
    second = atom_of[columns]
    changes = (second[1:] != second[:-1]) | (rows[1:] != rows[:-1]) | (cells[1:] != cells[:-1])
    starts = np.flatnonzero(np.concatenate([[len(rows) > 0], changes]))
    row = rows[starts].astype(np.int64)
    i, j = atom_of[row].astype(np.int64), second[starts].astype(np.int64)
    runs = np.column_stack([cell_vectors[cells[starts]], i, j]).astype(np.int64).reshape(-1, 5)
    reverse = np.column_stack([-runs[:, :3], j, i])
    largest = np.abs(runs[:, :3]).max(axis=0, initial=0)
    low, span = np.array([*-largest, 0, 0]), np.array([*(2 * largest + 1), n_atoms, n_atoms])
    keys = pair_keys(runs, low, span)
    distinct, chosen, pair = np.unique(keys, return_index=True, return_inverse=True)
    closed = np.union1d(distinct, pair_keys(reverse[chosen], low, span))
    atom_pairs = np.empty((len(closed), 5), dtype=np.int64)
    rest = closed
    for column in range(4, -1, -1):
        rest, atom_pairs[:, column] = np.divmod(rest, span[column])
    return EntryPlaces(
        atom_pairs + low,
        orbitals_per_atom,
        columns,
        np.diff(np.append(starts, len(rows))),
        np.searchsorted(closed, distinct)[pair.reshape(-1)],
        row - first[i],
        first[j],
    )
