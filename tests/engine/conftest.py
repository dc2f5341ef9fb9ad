"""Small random data in the package's conventions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure

BASIS = OrbitalBasis({"H": (0, 0, 1), "C": (0, 1, 2), "Mo": (0, 3)})


@pytest.fixture
def make_hamiltonian() -> Callable[..., RealSpaceHamiltonian]:
    """Function: H and S of a skew cell with interleaved elements, Hermitian, S(k) positive definite, H beyond S."""

    def make(spin: SpinMode = SpinMode.NONE, seed: int = 0, cutoff: float = 3.5) -> RealSpaceHamiltonian:
        rng = np.random.default_rng(seed)
        symbols = ("C", "H", "C", "Mo", "H")
        cell = np.array([[3.1, 0.2, 0.0], [-0.7, 3.6, 0.1], [0.3, 0.0, 4.2]])
        positions = rng.random((5, 3)) @ cell + 0.1
        structure = Structure(symbols, positions, cell, (True, True, False))
        spatial = BASIS.orbitals_per_atom(symbols)

        def matrix(pairs: np.ndarray, rows: np.ndarray, dtype: np.dtype) -> BlockSparseMatrix:
            zeros = BlockSparseMatrix.from_pairs(pairs, rows, dtype=dtype)
            values = rng.standard_normal(len(zeros.entries)).astype(dtype)
            if dtype.kind == "c":
                values += 1j * rng.standard_normal(len(values))
            return zeros.with_entries(values).hermitian_part()

        H = matrix(pairs_within(structure, cutoff), spatial * spin.multiplicity, spin.dtype)
        S = 1e-3 * matrix(pairs_within(structure, cutoff - 1), spatial, np.dtype(np.float64))
        for atom, n in enumerate(spatial):
            S.block((0, 0, 0), atom, atom)[...] += np.eye(n)
        return RealSpaceHamiltonian(structure, BASIS, spin, H, S, -1.25, 18.0, {"code": "none", "converged": True})

    return make
