"""From the positions to which a code's R refer, to those that the user gave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian


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
