"""A Hamiltonian made by hand: the Su-Schrieffer-Heeger chain, and the state that a domain wall puts in its gap.

Shows the central objects of the engine: Structure, OrbitalBasis, BlockSparseMatrix, RealSpaceHamiltonian.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from aiida_deeph import BlockSparseMatrix, OrbitalBasis, RealSpaceHamiltonian, Structure

HOPPING, ALTERNATION, HALF_WIDTH = 2.5, 0.25, 7.0  # eV, eV, sites


def ssh_chain(n_sites: int) -> RealSpaceHamiltonian:
    """A ring of `n_sites` s orbitals; with an odd number of sites the bond alternation has one domain wall."""
    cell = np.diag([1.22 * n_sites, 10.0, 10.0])
    positions = np.zeros((n_sites, 3))
    positions[:, 0] = 1.22 * np.arange(n_sites)
    structure = Structure(("C",) * n_sites, positions, cell, (True, False, False))
    basis = OrbitalBasis({"C": (0,)})
    site = np.arange(n_sites)
    hopping = -HOPPING + ALTERNATION * (-1.0) ** site * np.tanh((site + 0.5 - n_sites // 2) / HALF_WIDTH)
    # Rows (R1, R2, R3, i, j), both directions of each bond; the last bond reaches into the next cell.
    cells = np.zeros((n_sites, 3), dtype=np.int64)
    cells[-1, 0] = 1
    forth = np.column_stack([cells, site, (site + 1) % n_sites])
    back = np.column_stack([-cells, (site + 1) % n_sites, site])
    on_site = np.column_stack([np.zeros((n_sites, 3), dtype=np.int64), site, site])
    sizes = basis.orbitals_per_atom(structure.symbols)
    hamiltonian = BlockSparseMatrix.from_pairs(
        np.concatenate([on_site, forth, back]), sizes, np.concatenate([np.zeros(n_sites), hopping, hopping])
    )
    overlap = BlockSparseMatrix.from_pairs(on_site, sizes, np.ones(n_sites))
    return RealSpaceHamiltonian(structure, basis, hamiltonian=hamiltonian, overlap=overlap, n_electrons=n_sites)


def main() -> None:
    """Print the states around the middle of the gap."""
    chain = ssh_chain(201)
    gamma = np.zeros(3)
    energies = scipy.linalg.eigh(
        chain.hamiltonian_at(gamma).toarray(), chain.overlap_at(gamma).toarray(), eigvals_only=True
    )
    middle = len(energies) // 2
    print(f"hermiticity error: {chain.hamiltonian.hermiticity_error():.1e} eV")
    print("states around the gap (eV):", np.round(energies[middle - 2 : middle + 3], 3))
    assert abs(energies[middle]) < 0.01 < 0.4 < energies[middle + 1]


if __name__ == "__main__":
    main()
