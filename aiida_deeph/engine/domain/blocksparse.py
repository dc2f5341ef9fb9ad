"""Matrix blocks per atom pair (R, i, j): the container of H(R) and S(R)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.errors import DataError

Entries = NDArray[Any]
Integers = NDArray[np.int64]


def pair_keys(atom_pairs: Integers, low: Integers, span: Integers) -> Integers:
    """One integer per atom pair, unique and ordered like the rows (R1, R2, R3, i, j).

    :param atom_pairs: shape (n_pairs, 5).
    :param low: smallest value of each column, shape (5,).
    :param span: number of values of each column, shape (5,).
    """
    keys = np.zeros(len(atom_pairs), dtype=np.int64)
    for column in range(5):
        keys = keys * span[column] + (atom_pairs[:, column] - low[column])
    return keys


def match_pairs(pairs: Integers, wanted: Integers) -> Integers:
    """Row of `pairs` that equals each row of `wanted`, -1 where there is none, shape (n_wanted,)."""
    if not len(pairs) or not len(wanted):
        return np.full(len(wanted), -1, dtype=np.int64)
    both = np.concatenate([pairs, wanted])
    low = both.min(axis=0)
    span = both.max(axis=0) - low + 1
    keys, targets = pair_keys(pairs, low, span), pair_keys(wanted, low, span)
    order = np.argsort(keys, kind="stable")
    place = np.minimum(np.searchsorted(keys, targets, sorter=order), len(keys) - 1)
    rows = order[place]
    return np.where(keys[rows] == targets, rows, -1)


def equal_kinds(kinds: Integers, size: int = 1 << 10) -> Iterator[tuple[int, Integers]]:
    """Each distinct kind with the indices that have it, at most `size` at a time: bounds the memory of index arrays."""
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        for start in range(0, len(rows), size):
            yield int(kind), rows[start : start + size]


@dataclass(frozen=True)
class BlockSparseMatrix:
    """A matrix M(R) as dense blocks, one per atom pair; names as in the DeepH format.

    The block of a pair (R1, R2, R3, i, j) is M_ij(R) = <phi_i in cell 0 | M | phi_j in cell R>, row-major.

    :param atom_pairs: (R1, R2, R3, i, j) with atoms counted from 0, shape (n_pairs, 5), int64.
    :param chunk_shapes: rows and columns of each block, shape (n_pairs, 2), int64.
    :param chunk_boundaries: where each block begins and ends in `entries`, shape (n_pairs + 1,), int64.
    :param entries: all blocks one after the other, shape (n_entries,), float64 or complex128.
    """

    atom_pairs: Integers
    chunk_shapes: Integers
    chunk_boundaries: Integers
    entries: Entries

    def __post_init__(self) -> None:
        for name in ("atom_pairs", "chunk_shapes", "chunk_boundaries"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.int64))
        object.__setattr__(self, "entries", np.ascontiguousarray(self.entries))
        n_pairs = len(self.atom_pairs)
        sizes = np.prod(self.chunk_shapes, axis=1) if n_pairs else np.zeros(0, dtype=np.int64)
        if (
            self.atom_pairs.shape != (n_pairs, 5)
            or self.chunk_shapes.shape != (n_pairs, 2)
            or self.chunk_boundaries.shape != (n_pairs + 1,)
            or not np.array_equal(np.diff(self.chunk_boundaries), sizes)
            or self.chunk_boundaries[0] != 0
            or self.entries.shape != (self.chunk_boundaries[-1],)
        ):
            raise DataError(
                "block-sparse matrix is inconsistent",
                found=f"atom_pairs {self.atom_pairs.shape}, chunk_shapes {self.chunk_shapes.shape}, "
                f"chunk_boundaries {self.chunk_boundaries.shape}, entries {self.entries.shape}",
                expected="(n, 5), (n, 2), (n + 1,) and as many entries as the blocks have",
            )

    @classmethod
    def from_pairs(
        cls, atom_pairs: Integers, orbitals_per_atom: Integers, entries: Entries | None = None, dtype: Any = np.float64
    ) -> BlockSparseMatrix:
        """Blocks of shape (n_i, n_j) for each pair, filled with `entries` or zeros.

        :param orbitals_per_atom: rows (spin included, if any) of each atom, shape (n_atoms,).
        """
        shapes = np.stack([orbitals_per_atom[atom_pairs[:, 3]], orbitals_per_atom[atom_pairs[:, 4]]], axis=1)
        boundaries = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]).astype(np.int64)
        if entries is None:
            entries = np.zeros(boundaries[-1], dtype=dtype)
        return cls(atom_pairs, shapes, boundaries, entries)

    def __len__(self) -> int:
        return len(self.atom_pairs)

    def with_entries(self, entries: Entries) -> BlockSparseMatrix:
        """The same pairs with other entries."""
        return BlockSparseMatrix(self.atom_pairs, self.chunk_shapes, self.chunk_boundaries, entries)

    def block(self, cell: Sequence[int], i: int, j: int) -> Entries:
        """M_ij(R) as a view, shape (n_i, n_j).

        :raises KeyError: the pair is absent.
        """
        row = match_pairs(self.atom_pairs, np.array([[*cell, i, j]], dtype=np.int64))[0]
        if row < 0:
            raise KeyError(f"no block for R = {tuple(cell)}, i = {i}, j = {j}")
        return self.entries[self.chunk_boundaries[row] : self.chunk_boundaries[row + 1]].reshape(self.chunk_shapes[row])

    @cached_property
    def pair_of_entry(self) -> NDArray[np.int32]:
        """Pair that each entry belongs to, shape (n_entries,)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.chunk_boundaries))

    def entry_positions(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Row and column of each entry inside its own block, both of shape (n_entries,)."""
        rows, columns = np.empty((2, len(self.entries)), dtype=np.int32)
        for n, m, pairs in self._equal_shapes():
            place = self.chunk_boundaries[pairs, None] + np.arange(n * m)
            rows[place], columns[place] = np.divmod(np.arange(n * m, dtype=np.int32), m)
        return rows, columns

    def conjugate_pairs(self) -> Integers:
        """For each pair (R, i, j) the row of its partner (-R, j, i), -1 where it is missing, shape (n_pairs,)."""
        partner = np.concatenate([-self.atom_pairs[:, :3], self.atom_pairs[:, 4:5], self.atom_pairs[:, 3:4]], axis=1)
        return match_pairs(self.atom_pairs, partner)

    def n_repeated_pairs(self) -> int:
        """How many pairs stand there a second time."""
        if not len(self):
            return 0
        low = self.atom_pairs.min(axis=0)
        keys = pair_keys(self.atom_pairs, low, self.atom_pairs.max(axis=0) - low + 1)
        return len(self) - len(np.unique(keys))

    def adjoint(self) -> BlockSparseMatrix:
        """M_ji(-R)^dagger at the place of each pair (R, i, j).

        :raises DataError: a pair has no partner.
        """
        partner = self.conjugate_pairs()
        if (partner < 0).any():
            row = int(np.flatnonzero(partner < 0)[0])
            raise DataError(
                "pair without its reverse",
                where=f"pair (R1, R2, R3, i, j) = {self.atom_pairs[row].tolist()}",
                found=f"{int((partner < 0).sum())} such pairs",
                expected="(-R, j, i) beside every (R, i, j)",
            )
        if not np.array_equal(self.chunk_shapes[partner], self.chunk_shapes[:, ::-1]):
            raise DataError("a block and its reverse have different shapes", expected="(n, m) and (m, n)")
        entries = np.empty_like(self.entries)
        for n, m, pairs in self._equal_shapes():
            transposed = np.arange(n * m).reshape(m, n).T.ravel()
            source = self.entries[self.chunk_boundaries[partner[pairs], None] + transposed]
            entries[self.chunk_boundaries[pairs, None] + np.arange(n * m)] = source.conj()
        return self.with_entries(entries)

    def _equal_shapes(self) -> Iterator[tuple[int, int, Integers]]:
        """Rows, columns and indices of pairs whose blocks have that shape."""
        widest = int(self.chunk_shapes.max(initial=0)) + 1
        for code, pairs in equal_kinds(self.chunk_shapes[:, 0] * widest + self.chunk_shapes[:, 1]):
            yield *divmod(code, widest), pairs

    def hermitian_part(self) -> BlockSparseMatrix:
        """(M + M^dagger) / 2: both directions of every pair averaged."""
        return self.with_entries((self.entries + self.adjoint().entries) / 2)

    def hermiticity_error(self) -> float:
        """Largest |M_ij(R) - M_ji(-R)^*| over all entries, in the unit of the entries."""
        return float(np.abs(self.entries - self.adjoint().entries).max(initial=0.0))

    def selected(self, rows: NDArray[Any]) -> BlockSparseMatrix:
        """Some of the pairs, in the given order.

        :param rows: indices or a boolean mask of pairs.
        """
        rows = np.arange(len(self))[rows]
        sizes = np.diff(self.chunk_boundaries)[rows]
        boundaries = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        shift = np.repeat(self.chunk_boundaries[:-1][rows] - boundaries[:-1], sizes)
        entries = self.entries[np.arange(boundaries[-1]) + shift]
        return BlockSparseMatrix(self.atom_pairs[rows], self.chunk_shapes[rows], boundaries, entries)

    def sorted(self) -> BlockSparseMatrix:
        """Pairs in the order of (i, j, R1, R2, R3): grouped by their first atom."""
        p = self.atom_pairs
        return self.selected(np.lexsort((p[:, 2], p[:, 1], p[:, 0], p[:, 4], p[:, 3])))

    def aligned_to(self, atom_pairs: Integers, orbitals_per_atom: Integers) -> BlockSparseMatrix:
        """The same matrix on other pairs: zeros where it has no block, blocks outside dropped.

        :param orbitals_per_atom: rows of each atom, spin included, shape (n_atoms,).
        """
        source = match_pairs(self.atom_pairs, atom_pairs)
        target = BlockSparseMatrix.from_pairs(atom_pairs, orbitals_per_atom, dtype=self.entries.dtype)
        known = source >= 0
        mask = np.repeat(known, np.diff(target.chunk_boundaries))
        target.entries[mask] = self.selected(source[known]).entries
        return target

    def norms(self) -> NDArray[np.float64]:
        """Largest |entry| of each block, shape (n_pairs,)."""
        if not len(self):
            return np.zeros(0)
        return np.asarray(np.maximum.reduceat(np.abs(self.entries), self.chunk_boundaries[:-1]), dtype=np.float64)

    def to_csr(self, k: ArrayLike, rows_per_atom: Integers) -> sp.csr_matrix:
        """M(k) = sum_R exp(+2 pi i k.R) M(R), shape (n_rows, n_rows); real at Gamma if M(R) is real.

        :param k: fractional k-point, shape (3,).
        :param rows_per_atom: rows of each atom, spin included, shape (n_atoms,).
        """
        first = np.concatenate([[0], np.cumsum(rows_per_atom)])
        rows, columns = self.entry_positions()
        pair = self.pair_of_entry
        rows = rows + first[self.atom_pairs[:, 3]][pair].astype(np.int32)
        columns = columns + first[self.atom_pairs[:, 4]][pair].astype(np.int32)
        values = self.entries
        k = np.asarray(k, dtype=np.float64)
        if k.any():
            values = values * np.exp(2j * np.pi * (self.atom_pairs[:, :3] @ k))[pair]
        return sp.coo_matrix((values, (rows, columns)), shape=(first[-1], first[-1])).tocsr()

    def _combined(self, other: BlockSparseMatrix, sign: int) -> BlockSparseMatrix:
        if not np.array_equal(self.atom_pairs, other.atom_pairs):
            raise DataError(
                "two matrices have different atom pairs", remedy="bring one to the pairs of the other with aligned_to"
            )
        return self.with_entries(self.entries + sign * other.entries)

    def __add__(self, other: BlockSparseMatrix) -> BlockSparseMatrix:
        return self._combined(other, 1)

    def __sub__(self, other: BlockSparseMatrix) -> BlockSparseMatrix:
        return self._combined(other, -1)

    def __mul__(self, factor: float) -> BlockSparseMatrix:
        return self.with_entries(self.entries * factor)

    __rmul__ = __mul__
