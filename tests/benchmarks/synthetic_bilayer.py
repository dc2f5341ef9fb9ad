"""A synthetic H(R), S(R) of twisted bilayer graphene, of a real calculation's size and sparsity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure

LATTICE, LAYERS = 2.46, 3.35  # Angstrom
RANGE = 6.33  # of two carbon orbitals of OpenMX's C6.0, Angstrom

ON_SITE = {"s": -8.0, "p": 0.0, "s2": 16.0, "p2": 20.0, "d": 28.0}  # eV
SHELLS = (0, 0, 1, 1, 2)
NAMES = ("s", "s2", "p", "p2", "d")


def synthetic_hamiltonian(structure: Structure) -> RealSpaceHamiltonian:
    """Slater-Koster-like rule with 13 orbitals per atom [s2 p2 d1], range 6.33 Angstrom, about 80 pairs per atom.

    p_z couples as in the usual model of twisted bilayers (P. Moon, M. Koshino, Phys. Rev. B 85, 195458 (2012)), all
    other pairs of shells by sigma bonds of similar range, and S follows H, so that the spectrum around the Fermi level,
    the conditioning and the sparsity resemble a calculation's. The numbers mean nothing beyond that.
    """
    basis = OrbitalBasis({"C": SHELLS})
    pairs = pairs_within(structure, RANGE)
    vectors = structure.pair_vectors(pairs)
    distance = np.linalg.norm(vectors, axis=1)
    n_orbitals = sum(2 * l + 1 for l in SHELLS)
    counts = np.full(len(structure), n_orbitals)
    h = np.zeros((len(pairs), n_orbitals, n_orbitals))
    s = np.zeros_like(h)
    off_site = distance > 1e-6
    r = distance[off_site]
    unit = vectors[off_site] / r[:, None]
    bond = LATTICE / np.sqrt(3)
    cutoff = 0.5 * (1 + np.cos(np.pi * np.minimum(r / RANGE, 1.0)))
    decay = np.exp(-(r - bond) / 0.45) * cutoff
    harmonics = {0: np.ones((len(r), 1)), 1: unit[:, [1, 2, 0]], 2: _d_harmonics(unit)}
    starts = np.concatenate([[0], np.cumsum([2 * l + 1 for l in SHELLS])])
    for a, la in enumerate(SHELLS):
        for b, lb in enumerate(SHELLS):
            block = np.s_[starts[a] : starts[a + 1], starts[b] : starts[b + 1]]
            # phi_i(r) to phi_j(r - R): a swap of the atoms turns the vector round, hence the parity of the first shell.
            sigma = (-1) ** la * harmonics[la][:, :, None] * harmonics[lb][:, None, :]
            strength = 4.0 / (1 + abs(a - b))
            h[off_site, block[0], block[1]] = -strength * decay[:, None, None] * sigma
            s[off_site, block[0], block[1]] = 0.18 * decay[:, None, None] * sigma
    p = np.s_[starts[2] : starts[3]]
    outer = harmonics[1][:, :, None] * harmonics[1][:, None, :]
    v_pi = -2.7 * np.exp(-(r - bond) / (0.184 * LATTICE)) * cutoff
    v_sigma = 0.48 * np.exp(-(r - LAYERS) / (0.184 * LATTICE)) * cutoff
    h[off_site, p, p] = v_pi[:, None, None] * (np.eye(3) - outer) + v_sigma[:, None, None] * outer
    s[off_site, p, p] = 0.18 * decay[:, None, None] * (np.eye(3) - outer)
    on_site = np.concatenate([[ON_SITE[name]] * (2 * l + 1) for name, l in zip(NAMES, SHELLS, strict=True)])
    h[~off_site] = np.diag(on_site)
    s[~off_site] = np.eye(n_orbitals)
    matrices = [BlockSparseMatrix.from_pairs(pairs, counts, m.reshape(-1)) for m in (h, s)]
    return RealSpaceHamiltonian(
        structure, basis, hamiltonian=matrices[0], overlap=matrices[1], n_electrons=4.0 * len(structure)
    )


def _d_harmonics(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Real harmonics of l = 2, m = -2..2, shape (n, 5), of norm one at the pole."""
    x, y, z = unit.T
    root = np.sqrt(3.0)
    return np.stack([root * x * y, root * y * z, (3 * z**2 - 1) / 2, root * x * z, root * (x**2 - y**2) / 2], axis=1)
