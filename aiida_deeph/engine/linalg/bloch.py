"""H(k) and S(k) on one sparsity pattern, with all index work done once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, match_pairs
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError

HERMITICITY_LIMIT = 1e-6
"""Largest |H_ij(R) - H_ji(-R)^*| in eV (and the same for S) that is taken for rounding."""


@dataclass(frozen=True)
class BlochMatrices:
    """H(k) and S(k) as linear maps from the phases exp(2 pi i k.R) to the entries of one CSR pattern.

    Assembling at a k-point is one sparse matrix-vector product per matrix: no sorting, no searching.

    :param indptr: row pointers of the pattern, shape (n_rows + 1,).
    :param indices: columns of the pattern, sorted in each row, shape (n_nonzero,).
    :param cells: lattice vectors R that occur, shape (n_cells, 3), int64.
    :param hamiltonian: one map per spin channel, shape (n_nonzero, n_cells), eV; two channels if collinear, else one.
    :param overlap: the same for S, dimensionless.
    :param atom_of_row: atom that each row belongs to, shape (n_rows,).
    """

    indptr: NDArray[np.integer[Any]]
    indices: NDArray[np.integer[Any]]
    cells: NDArray[np.int64]
    hamiltonian: tuple[sp.csc_matrix, ...]
    overlap: sp.csc_matrix
    atom_of_row: NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        """Size of H(k) of one spin channel."""
        return len(self.indptr) - 1

    @property
    def n_channels(self) -> int:
        """Spin channels that are solved separately: 2 if collinear, else 1."""
        return len(self.hamiltonian)

    @property
    def is_real_in_space(self) -> bool:
        """Whether all H(R) are real, so that E(-k) = E(k)."""
        return not any(np.iscomplexobj(term.data) for term in self.hamiltonian)

    def is_real_at(self, k: ArrayLike) -> bool:
        """Whether H(k) is real: real H(R) and exp(2 pi i k.R) = +1 or -1 for all R."""
        doubled = 2 * (self.cells @ np.asarray(k, dtype=np.float64))
        return self.is_real_in_space and bool(np.abs(doubled - np.rint(doubled)).max(initial=0.0) < 1e-12)

    def at(self, k: ArrayLike, channel: int = 0) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """H(k) in eV and S(k), both of shape (n_rows, n_rows) and on the same pattern; real where they can be.

        :param k: fractional k-point, shape (3,).
        """
        phases = np.exp(2j * np.pi * (self.cells @ np.asarray(k, dtype=np.float64)))
        real = self.is_real_at(k)
        return self._matrix(self.hamiltonian[channel], phases, real), self._matrix(self.overlap, phases, real)

    def derivative_at(self, k: ArrayLike, axis: int, channel: int = 0) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """dH/dk (eV) and dS/dk along one reciprocal lattice vector, k fractional: sum_R 2 pi i R M(R) exp(2 pi i k.R).

        :param k: fractional k-point, shape (3,).
        """
        phases = np.exp(2j * np.pi * (self.cells @ np.asarray(k, dtype=np.float64)))
        factors = 2j * np.pi * self.cells[:, axis] * phases
        return self._matrix(self.hamiltonian[channel], factors, False), self._matrix(self.overlap, factors, False)

    def _matrix(self, term: sp.csc_matrix, phases: NDArray[np.complex128], real: bool) -> sp.csr_matrix:
        if real:
            data = term @ phases.real
        elif np.iscomplexobj(term.data):
            data = term @ phases
        else:
            # Two real products: scipy would turn the whole map complex first.
            data = np.empty(term.shape[0], dtype=np.complex128)
            data.real = term @ phases.real
            data.imag = term @ phases.imag
        return sp.csr_matrix((data, self.indices, self.indptr), shape=(self.n_rows, self.n_rows), copy=False)


def bloch_matrices(data: RealSpaceHamiltonian, where: object = None) -> BlochMatrices:
    """Prepare H(k) and S(k) of a Hamiltonian.

    :param where: name of the data in error messages.
    :raises DataError: no H or no S, non-Hermitian beyond 1e-6, NaN, or spin-mixing blocks in collinear data.
    """
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian", where=where, remedy="give a folder with hamiltonian.h5")
    if data.overlap is None:
        raise DataError("no overlap", where=where, remedy="compute it with `deeph-engine overlap` or add overlap.h5")
    hamiltonian = _hermitian(data.hamiltonian, "H (eV)", where)
    channels: tuple[BlockSparseMatrix, ...]
    if data.spin is SpinMode.COLLINEAR:
        channels = _split_spin(hamiltonian, data.orbitals_per_atom, where)
        overlap, rows_per_atom = _hermitian(data.overlap, "S", where), data.orbitals_per_atom
    else:
        channels, rows_per_atom = (hamiltonian,), data.rows_per_atom
        overlap = _hermitian(data.overlap_with_spin, "S", where)
    return _on_one_pattern(channels, overlap, rows_per_atom)


def _hermitian(matrix: BlockSparseMatrix, name: str, where: object) -> BlockSparseMatrix:
    if not np.isfinite(matrix.entries).all():
        raise DataError("NaN or infinite entries", where=f"{name} of {where}")
    adjoint = matrix.adjoint().entries
    error = float(np.abs(matrix.entries - adjoint).max(initial=0.0))
    if error > HERMITICITY_LIMIT:
        raise DataError(
            "matrix is not Hermitian",
            where=f"{name} of {where}",
            found=f"|M_ij(R) - M_ji(-R)^*| up to {error:.3g}",
            expected=f"at most {HERMITICITY_LIMIT:g}",
            remedy="average both directions (`deeph-engine predict` does unless told otherwise)",
        )
    return matrix if error == 0 else matrix.with_entries((matrix.entries + adjoint) / 2)


def _split_spin(
    matrix: BlockSparseMatrix, orbitals_per_atom: NDArray[np.int64], where: object
) -> tuple[BlockSparseMatrix, BlockSparseMatrix]:
    """The uu and dd parts of spin-major blocks [[uu, ud], [du, dd]], real if they are."""
    pairs, pair = matrix.atom_pairs, matrix.pair_of_entry
    rows, columns = matrix.entry_positions()
    down_row = rows >= orbitals_per_atom[pairs[:, 3]][pair]
    down_column = columns >= orbitals_per_atom[pairs[:, 4]][pair]
    mixing = float(np.abs(matrix.entries[down_row != down_column]).max(initial=0.0))
    if mixing > HERMITICITY_LIMIT:
        raise DataError(
            "collinear Hamiltonian mixes spins",
            where=where,
            found=f"|H_ud| up to {mixing:.3g} eV",
            expected=f"at most {HERMITICITY_LIMIT:g} eV",
            remedy='set "spin_mode": "noncollinear" in info.json',
        )
    entries = matrix.entries
    if np.iscomplexobj(entries) and np.abs(entries.imag).max(initial=0.0) < 1e-12:
        entries = entries.real
    up, down = (
        BlockSparseMatrix.from_pairs(pairs, orbitals_per_atom, entries[mask])
        for mask in (~down_row & ~down_column, down_row & down_column)
    )
    return up, down


def _on_one_pattern(
    channels: tuple[BlockSparseMatrix, ...], overlap: BlockSparseMatrix, rows_per_atom: NDArray[np.int64]
) -> BlochMatrices:
    pairs = _union(channels[0].atom_pairs, overlap.atom_pairs)
    # Grouped by R: then the entries of one R are one column of the maps below.
    cells, cell_of_pair = np.unique(pairs[:, :3], axis=0, return_inverse=True)
    cell_of_pair = cell_of_pair.reshape(-1)
    order = np.argsort(cell_of_pair, kind="stable")
    pairs, cell_of_pair = pairs[order], cell_of_pair[order]

    # Pattern: block row of atom i holds the blocks (i, j) that occur for any R, ordered by j.
    n_atoms = len(rows_per_atom)
    blocks, block_of_pair = np.unique(pairs[:, 3] * n_atoms + pairs[:, 4], return_inverse=True)
    block_of_pair = block_of_pair.reshape(-1)
    block_i, block_j = np.divmod(blocks, n_atoms)
    widths = rows_per_atom[block_j]
    block_start = np.concatenate([[0], np.cumsum(widths)])  # place of each block in the concatenated block rows
    atom_start = block_start[np.searchsorted(block_i, np.arange(n_atoms + 1))]
    row_length = np.diff(atom_start)  # nonzeros of each row of an atom
    data_start = np.concatenate([[0], np.cumsum(row_length * rows_per_atom)])
    first_row = np.concatenate([[0], np.cumsum(rows_per_atom)])
    columns = _ranges(first_row[block_j], widths)
    atom_of_row = np.repeat(np.arange(n_atoms), rows_per_atom)
    indices = columns[_ranges(atom_start[atom_of_row], row_length[atom_of_row])]
    indptr = np.concatenate([[0], np.cumsum(row_length[atom_of_row])])

    # Place of every entry (a, b) of a block (i, j) in the pattern: atom i + a * row length + block + b.
    layout = BlockSparseMatrix.from_pairs(pairs, rows_per_atom, entries=None, dtype=np.int8)
    pair = layout.pair_of_entry
    i = pairs[:, 3]
    in_block_row, in_block_column = layout.entry_positions()
    places = (data_start[i] + block_start[:-1][block_of_pair] - atom_start[i])[pair]
    places += in_block_row * row_length[i][pair]
    places += in_block_column
    n_nonzero = int(indptr[-1])
    index_type = np.int32 if n_nonzero < np.iinfo(np.int32).max else np.int64
    places = places.astype(index_type)
    pointers = layout.chunk_boundaries[np.searchsorted(cell_of_pair, np.arange(len(cells) + 1))]
    pointers = pointers.astype(np.int64 if len(places) >= np.iinfo(np.int32).max else index_type)

    def linear_map(matrix: BlockSparseMatrix) -> sp.csc_matrix:
        same = np.array_equal(matrix.atom_pairs, pairs)
        entries = matrix.entries if same else matrix.aligned_to(pairs, rows_per_atom).entries
        return sp.csc_matrix((entries, places, pointers), shape=(n_nonzero, len(cells)), copy=False)

    return BlochMatrices(
        indptr.astype(index_type),
        indices.astype(index_type),
        cells,
        tuple(linear_map(channel) for channel in channels),
        linear_map(overlap),
        atom_of_row,
    )


def _union(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of both, without repeating any."""
    extra = match_pairs(first, second) < 0
    return np.concatenate([first, second[extra]]) if extra.any() else first


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ..., start + length - 1 of each range, one range after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(starts - (ends - lengths), lengths))
