"""Which atom pairs of a DFT code's output are worth keeping."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, match_pairs
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError

# A pair of atoms is kept if an entry of its H (eV) or of its S exceeds this.
PAIR_THRESHOLD = 1e-7


def significant_pairs(data: RealSpaceHamiltonian, threshold: float = PAIR_THRESHOLD) -> RealSpaceHamiltonian:
    """H and S on the same pairs, closed under (R, i, j) -> (-R, j, i): those where |H| (eV) or |S| exceeds `threshold`.

    A block that is missing in one of them, or in one direction because the code left out small numbers, is zero.

    :raises DataError: H or S is missing.
    """
    H, S = data.hamiltonian, data.overlap
    if H is None or S is None:
        raise DataError("H and S are both needed", found="only one of them")
    pairs = [M.atom_pairs[M.norms() > threshold] for M in (H, S)]
    both = np.concatenate([*pairs, *(np.concatenate([-p[:, :3], p[:, 4:5], p[:, 3:4]], axis=1) for p in pairs)])
    both = np.unique(both, axis=0) if len(both) else both.reshape(0, 5)
    return replace(
        data,
        hamiltonian=_on_pairs(H, both, data.rows_per_atom).sorted(),
        overlap=_on_pairs(S, both, data.orbitals_per_atom).sorted(),
    )


def _on_pairs(matrix: BlockSparseMatrix, pairs: NDArray[Any], rows_per_atom: NDArray[Any]) -> BlockSparseMatrix:
    if len(pairs) == len(matrix) and (match_pairs(matrix.atom_pairs, pairs) >= 0).all():
        return matrix
    return matrix.aligned_to(pairs, rows_per_atom)


def unwrapped(data: RealSpaceHamiltonian, shift: NDArray[np.int64]) -> RealSpaceHamiltonian:
    """R between moved atoms -> R + n_i - n_j between atoms as they stand in `data.structure`.

    :param shift: lattice vector n that the code took from each atom, shape (n_atoms, 3).
    """
    if not shift.any():
        return data

    def moved(matrix: BlockSparseMatrix | None) -> BlockSparseMatrix | None:
        if matrix is None:
            return None
        pairs = matrix.atom_pairs.copy()
        pairs[:, :3] += shift[pairs[:, 3]] - shift[pairs[:, 4]]
        return replace(matrix, atom_pairs=pairs).sorted()

    return replace(data, hamiltonian=moved(data.hamiltonian), overlap=moved(data.overlap))
