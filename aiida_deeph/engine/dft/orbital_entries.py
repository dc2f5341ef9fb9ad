"""Matrix elements between single orbitals, as sparse files list them -> blocks of atom pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, match_pairs, pair_keys

Integers = NDArray[np.int64]
Real = NDArray[np.float64]


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
    :param factors: of each element, by the signs of its orbitals, shape (n_elements,); None if all are 1.
    """

    atom_pairs: Integers
    orbitals_per_atom: Integers
    columns: NDArray[Any]
    lengths: Integers
    pair: Integers
    row: Integers
    first_column: Integers
    factors: Real | None = None

    def on(self, atom_pairs: Integers) -> EntryPlaces:
        """The same elements in a matrix with further pairs, shape (n, 5)."""
        if np.array_equal(atom_pairs, self.atom_pairs):
            return self
        return replace(self, atom_pairs=atom_pairs, pair=match_pairs(atom_pairs, self.atom_pairs)[self.pair])

    def spatial(self, values: NDArray[Any]) -> BlockSparseMatrix:
        """Blocks (n_i, n_j) of these elements; where there is none, zero.

        :param values: shape (n_elements,).
        """
        matrix = BlockSparseMatrix.from_pairs(self.atom_pairs, self.orbitals_per_atom, dtype=values.dtype)
        matrix.entries[self._spatial_places] = self._signed(values)
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
        place = self._places(matrix.chunk_boundaries, 2 * width)
        to_right = np.repeat(width[self.pair], self.lengths)
        below = np.repeat((2 * height * width)[self.pair], self.lengths)
        matrix.entries[place] = self._signed(up)
        matrix.entries[place + below + to_right] = self._signed(down)
        if up_down is not None:
            matrix.entries[place + to_right] = self._signed(up_down)
        if down_up is not None:
            matrix.entries[place + below] = self._signed(down_up)
        return matrix

    @cached_property
    def _spatial_places(self) -> Integers:
        heights, widths = (self.orbitals_per_atom[self.atom_pairs[:, column]] for column in (3, 4))
        return self._places(np.concatenate([[0], np.cumsum(heights * widths)]), widths)

    def _places(self, boundaries: Integers, width: Integers) -> Integers:
        begin = boundaries[:-1][self.pair] + self.row * width[self.pair] - self.first_column
        places = np.repeat(begin, self.lengths)
        places += self.columns
        return places

    def _signed(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.factors is None else values * self.factors


def entry_places(
    rows: NDArray[Any],
    columns: NDArray[Any],
    cells: NDArray[Any],
    cell_vectors: Integers,
    orbitals_per_atom: Integers,
    orbitals: tuple[Integers, Real] | None = None,
) -> EntryPlaces:
    """Places of matrix elements M(R)[row, column].

    :param rows: orbital in cell 0, counted over the atoms in order, shape (n_elements,).
    :param columns: orbital in cell R, counted alike, shape (n_elements,).
    :param cells: index of R in `cell_vectors`, shape (n_elements,).
    :param cell_vectors: lattice vectors R, shape (n_cells, 3).
    :param orbitals_per_atom: shape (n_atoms,).
    :param orbitals: index and factor that each orbital of the cell gets (see `transforms.orbital_map`).
    """
    n_atoms = len(orbitals_per_atom)
    atom_of = np.repeat(np.arange(n_atoms, dtype=np.int32), orbitals_per_atom)
    first = np.cumsum(orbitals_per_atom) - orbitals_per_atom
    second = atom_of[columns]
    changes = (second[1:] != second[:-1]) | (rows[1:] != rows[:-1]) | (cells[1:] != cells[:-1])
    starts = np.flatnonzero(np.concatenate([[len(rows) > 0], changes]))
    lengths = np.diff(np.append(starts, len(rows)))
    row = rows[starts].astype(np.int64)
    i, j = atom_of[row].astype(np.int64), second[starts].astype(np.int64)
    low, span = _range(cell_vectors, n_atoms)
    # Keys of the pair and of its mirror image (-R, j, i), from parts that few cells and atoms have.
    forward, backward = (pair_keys(np.pad(R, ((0, 0), (0, 2))), low, span) for R in (cell_vectors, -cell_vectors))
    cell = cells[starts]
    distinct, chosen, pair = np.unique(forward[cell] + i * n_atoms + j, return_index=True, return_inverse=True)
    mirrored = backward[cell[chosen]] + j[chosen] * n_atoms + i[chosen]
    closed = np.union1d(distinct, mirrored)
    factors = None
    if orbitals is not None:
        index, sign = orbitals
        if (sign != 1).any():
            factors = sign[columns]
            factors *= np.repeat(sign[row], lengths)
        row, columns = index[row], index.astype(np.int32)[columns]
    return EntryPlaces(
        _pairs_of(closed, low, span),
        orbitals_per_atom,
        columns,
        lengths,
        np.searchsorted(closed, distinct)[pair.reshape(-1)],
        row - first[i],
        first[j],
        factors,
    )


def united_pairs(*several: Integers) -> Integers:
    """Pairs that stand in at least one of several lists, sorted, shape (n, 5)."""
    if all(np.array_equal(pairs, several[0]) for pairs in several[1:]):
        return several[0]
    both = np.concatenate(several)
    low = both.min(axis=0, initial=0)
    span = both.max(axis=0, initial=0) - low + 1
    return _pairs_of(np.unique(pair_keys(both, low, span)), low, span)


def _range(cell_vectors: Integers, n_atoms: int) -> tuple[Integers, Integers]:
    """Smallest value and number of values of each column of pairs, with their mirror images."""
    largest = np.abs(cell_vectors).max(axis=0, initial=0)
    return np.array([*-largest, 0, 0]), np.array([*(2 * largest + 1), n_atoms, n_atoms])


def _pairs_of(keys: Integers, low: Integers, span: Integers) -> Integers:
    """The inverse of `pair_keys`, shape (n, 5)."""
    atom_pairs = np.empty((len(keys), 5), dtype=np.int64)
    rest = keys
    for column in range(4, -1, -1):
        rest, atom_pairs[:, column] = np.divmod(rest, span[column])
    return atom_pairs + low
