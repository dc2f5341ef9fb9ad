"""BlockSparseMatrix against dictionaries of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, match_pairs
from aiida_deeph.engine.errors import DataError

Blocks = dict[tuple[int, ...], np.ndarray]


def as_dict(matrix: BlockSparseMatrix) -> Blocks:
    """The slow truth: one block per pair."""
    begin, shapes = matrix.chunk_boundaries, matrix.chunk_shapes
    return {
        tuple(pair): matrix.entries[begin[n] : begin[n + 1]].reshape(shapes[n]).copy()
        for n, pair in enumerate(matrix.atom_pairs.tolist())
    }


@pytest.fixture(params=[SpinMode.NONE, SpinMode.NONCOLLINEAR])
def data(request, make_hamiltonian):
    return make_hamiltonian(request.param)


@pytest.fixture
def matrix(data) -> BlockSparseMatrix:
    """Not Hermitian, pairs in no order."""
    rng = np.random.default_rng(5)
    H = data.hamiltonian.selected(rng.permutation(len(data.hamiltonian)))
    return H.with_entries(H.entries + rng.standard_normal(len(H.entries)))


def test_match_pairs(matrix: BlockSparseMatrix) -> None:
    pairs = matrix.atom_pairs
    wanted = np.concatenate([pairs[::-2], [[9, 9, 9, 0, 0], [-9, 0, 0, 4, 4]]])
    expected = [*range(len(pairs))[::-2], -1, -1]
    np.testing.assert_array_equal(match_pairs(pairs, wanted), expected)
    assert match_pairs(pairs[:0], wanted).tolist() == [-1] * len(wanted)
    assert not len(match_pairs(pairs, wanted[:0]))


def test_block(matrix: BlockSparseMatrix) -> None:
    for (r1, r2, r3, i, j), block in as_dict(matrix).items():
        np.testing.assert_array_equal(matrix.block((r1, r2, r3), i, j), block)
    matrix.block((0, 0, 0), 1, 1)[0, 0] = 77
    assert 77 in matrix.entries, "a block is a view"
    with pytest.raises(KeyError, match=r"R = \(8, 8, 8\)"):
        matrix.block((8, 8, 8), 0, 0)


def test_adjoint(matrix: BlockSparseMatrix) -> None:
    blocks, adjoint = as_dict(matrix), as_dict(matrix.adjoint())
    for r1, r2, r3, i, j in blocks:
        np.testing.assert_array_equal(adjoint[r1, r2, r3, i, j], blocks[-r1, -r2, -r3, j, i].conj().T)
    assert matrix.hermiticity_error() == np.abs(matrix.entries - matrix.adjoint().entries).max() > 0.1
    part = matrix.hermitian_part()
    assert part.hermiticity_error() < 1e-15
    np.testing.assert_allclose((matrix - part).hermitian_part().entries, 0, atol=1e-15)


def test_adjoint_needs_both_directions(matrix: BlockSparseMatrix) -> None:
    off_site = int(np.flatnonzero(matrix.atom_pairs[:, 3] != matrix.atom_pairs[:, 4])[0])
    lonely = matrix.selected(np.arange(len(matrix)) != off_site)
    with pytest.raises(DataError, match=r"pair without its reverse.*found 1 such pairs"):
        lonely.adjoint()


def test_entry_positions(matrix: BlockSparseMatrix) -> None:
    rows, columns = matrix.entry_positions()
    expected = np.concatenate([np.indices(shape).reshape(2, -1) for shape in matrix.chunk_shapes], axis=1)
    np.testing.assert_array_equal([rows, columns], expected)


def test_selected_and_sorted(matrix: BlockSparseMatrix) -> None:
    blocks = as_dict(matrix)
    rows = np.array([7, 3, 11])
    some = as_dict(matrix.selected(rows))
    assert list(some) == [tuple(pair) for pair in matrix.atom_pairs[rows].tolist()]
    for pair, block in some.items():
        np.testing.assert_array_equal(block, blocks[pair])
    ordered = as_dict(matrix.sorted())
    assert list(ordered) == sorted(blocks, key=lambda p: (p[3], p[4], p[0], p[1], p[2]))
    for pair, block in ordered.items():
        np.testing.assert_array_equal(block, blocks[pair])


def test_aligned_to(data, matrix: BlockSparseMatrix) -> None:
    pairs = np.concatenate([matrix.atom_pairs[5:], [[5, 0, 0, 0, 1]]])
    blocks, aligned = as_dict(matrix), as_dict(matrix.aligned_to(pairs, data.rows_per_atom))
    assert list(aligned) == [tuple(pair) for pair in pairs.tolist()]
    for pair, block in aligned.items():
        np.testing.assert_array_equal(block, blocks.get(pair, np.zeros_like(block)))


def test_to_csr_is_the_sum_over_cells(data, matrix: BlockSparseMatrix) -> None:
    k = np.array([0.13, -0.4, 0.27])
    first = np.concatenate([[0], np.cumsum(data.rows_per_atom)])
    expected = np.zeros((first[-1], first[-1]), dtype=complex)
    for (r1, r2, r3, i, j), block in as_dict(matrix).items():
        phase = np.exp(2j * np.pi * (k @ [r1, r2, r3]))
        expected[first[i] : first[i + 1], first[j] : first[j + 1]] += phase * block
    np.testing.assert_allclose(matrix.to_csr(k, data.rows_per_atom).toarray(), expected, atol=1e-12)
    at_gamma = matrix.to_csr((0, 0, 0), data.rows_per_atom)
    assert at_gamma.dtype == matrix.entries.dtype, "Gamma stays real for a real matrix"
    hermitian = matrix.hermitian_part().to_csr(k, data.rows_per_atom).toarray()
    np.testing.assert_allclose(hermitian, hermitian.conj().T, atol=1e-12)


def test_norms(matrix: BlockSparseMatrix) -> None:
    np.testing.assert_array_equal(matrix.norms(), [np.abs(block).max() for block in as_dict(matrix).values()])
    assert matrix.selected(np.zeros(0, dtype=int)).norms().shape == (0,)


def test_arithmetic(matrix: BlockSparseMatrix) -> None:
    np.testing.assert_allclose((2 * matrix - matrix + matrix * 0.5).entries, 1.5 * matrix.entries)
    with pytest.raises(DataError, match="different atom pairs"):
        matrix + matrix.selected(slice(1, None))


def test_inconsistent_arrays_are_refused(matrix: BlockSparseMatrix) -> None:
    with pytest.raises(DataError, match="block-sparse matrix is inconsistent"):
        matrix.with_entries(matrix.entries[:-1])


def test_empty_matrix() -> None:
    empty = BlockSparseMatrix.from_pairs(np.zeros((0, 5), dtype=int), np.array([3, 1]))
    assert len(empty) == 0 and empty.hermiticity_error() == 0
    assert empty.to_csr((0.1, 0, 0), np.array([3, 1])).nnz == 0
