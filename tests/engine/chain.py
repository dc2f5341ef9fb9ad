"""A crystal of s Gaussians: S by its formula, H proportional to it and to how far atoms are apart."""

from __future__ import annotations

import numpy as np

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_distances, pairs_within
from aiida_deeph.engine.domain.structure import Structure


def gaussian_chain(
    n_atoms: int = 6, width: float = 0.8, seed: int = 0, cutoff: float = 9.0, amplitude: float = 0.05
) -> RealSpaceHamiltonian:
    """A chain of hydrogen along x with two s orbitals an atom, periodic.

    :param width: of the Gaussians exp(-r^2 / (2 width^2)), Angstrom; the second is wider by a half.
    :param cutoff: of the pairs, Angstrom.
    :param amplitude: of the displacements, Angstrom.
    """
    positions = np.array([[1.1 * n, 4.0, 4.0] for n in range(n_atoms)])
    positions = positions + amplitude * np.random.default_rng(seed).uniform(-1, 1, positions.shape)
    structure = Structure(("H",) * n_atoms, positions, np.diag([1.1 * n_atoms, 8.0, 8.0]), (True, False, False))
    pairs = pairs_within(structure, cutoff)
    d = pair_distances(structure, pairs)
    widths = np.array([width, 1.5 * width])
    squares = widths[:, None] ** 2 + widths[None] ** 2
    front = (2 * widths[:, None] * widths[None] / squares) ** 1.5
    S = front * np.exp(-(d[:, None, None] ** 2) / (2 * squares))
    energies = np.array([[-12.0, -9.0], [-9.0, -4.0]])
    H = 1.75 * energies * S * (1 - 0.05 * d[:, None, None])
    counts = np.full(n_atoms, 2)
    return RealSpaceHamiltonian(
        structure,
        OrbitalBasis({"H": (0, 0)}),
        hamiltonian=BlockSparseMatrix.from_pairs(pairs, counts, H.ravel()),
        overlap=BlockSparseMatrix.from_pairs(pairs, counts, S.ravel()),
        n_electrons=float(n_atoms),
        metadata={"code": "none", "converged": True},
    )
