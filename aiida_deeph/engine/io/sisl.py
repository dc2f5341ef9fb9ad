"""H(R) and S(R) as a Hamiltonian of sisl (https://zerothi.github.io/sisl)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError

SPINS = {1: "unpolarized", 2: "polarized", 8: "spin-orbit"}
"""sisl's name of the spin by the number of reals per matrix element."""


def to_sisl(data: RealSpaceHamiltonian) -> Any:
    """The same matrices as `sisl.Hamiltonian`: eV, Angstrom, orbitals in our order (m = -l..l in every shell).

    Orbitals have no radial part: what needs one (wavefunctions on a grid) is not possible with them.

    :raises DataError: H is missing.
    :raises InputError: sisl is not installed.
    """
    try:
        import sisl
    except ImportError:
        raise InputError("sisl is not installed", remedy="pip install sisl") from None
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian in this data", remedy="give a folder with hamiltonian.h5")
    matrices = [m for m in (data.hamiltonian, data.overlap) if m is not None]
    reach = np.max([np.abs(m.atom_pairs[:, :3]).max(axis=0, initial=0) for m in matrices], axis=0)
    atoms = {
        symbol: sisl.Atom(
            symbol,
            [
                sisl.AtomicOrbital(n=l + 1, l=l, m=m, zeta=1 + data.basis.shells_of(symbol)[:shell].count(l), R=-1.0)
                for shell, l in enumerate(data.basis.shells_of(symbol))
                for m in range(-l, l + 1)
            ],
        )
        for symbol in data.structure.elements
    }
    lattice = sisl.Lattice(data.structure.cell, nsc=2 * reach + 1)
    geometry = sisl.Geometry(data.structure.positions, [atoms[s] for s in data.structure.symbols], lattice=lattice)
    parts = _spin_parts(data)
    overlap = None if data.overlap is None else _supercell_csr(data.overlap, data.orbitals_per_atom, geometry)
    csr = [_supercell_csr(part, data.orbitals_per_atom, geometry) for part in parts]
    return sisl.Hamiltonian.fromsp(geometry, csr, S=overlap, spin=sisl.Spin(SPINS[len(parts)]))


def _spin_parts(data: RealSpaceHamiltonian) -> list[BlockSparseMatrix]:
    """The real numbers that sisl keeps per element: H; up, down; or uu, dd, Re ud, Im ud, Im uu, Im dd, Re du, Im du.

    Collinear spin is real there; complex collinear matrices become general ones."""
    h = data.hamiltonian
    assert h is not None
    if data.spin is SpinMode.NONE:
        return [h]
    counts, pair = data.orbitals_per_atom, h.pair_of_entry
    rows, columns = h.entry_positions()
    down_row = rows >= counts[h.atom_pairs[:, 3]][pair]
    down_column = columns >= counts[h.atom_pairs[:, 4]][pair]

    def part(left: bool, right: bool) -> NDArray[Any]:
        found: NDArray[Any] = h.entries[(down_row == left) & (down_column == right)]
        return found

    uu, ud, du, dd = part(False, False), part(False, True), part(True, False), part(True, True)
    if data.spin is SpinMode.COLLINEAR and max(np.abs(m.imag).max(initial=0.0) for m in (uu, dd)) < 1e-12:
        values = [uu.real, dd.real]
    else:
        values = [uu.real, dd.real, ud.real, ud.imag, uu.imag, dd.imag, du.real, du.imag]
    return [BlockSparseMatrix.from_pairs(h.atom_pairs, counts, np.ascontiguousarray(v)) for v in values]


def _supercell_csr(matrix: BlockSparseMatrix, orbitals_per_atom: NDArray[np.int64], geometry: Any) -> sp.csr_matrix:
    """M_ij(R) at row i and column j + n_orbitals times sisl's index of R."""
    n = int(orbitals_per_atom.sum())
    first = np.concatenate([[0], np.cumsum(orbitals_per_atom)])
    cells, cell_of_pair = np.unique(matrix.atom_pairs[:, :3], axis=0, return_inverse=True)
    index = np.array([int(geometry.lattice.sc_index(cell)) for cell in cells.tolist()])[cell_of_pair.reshape(-1)]
    rows, columns = matrix.entry_positions()
    pair = matrix.pair_of_entry
    i = first[matrix.atom_pairs[:, 3]][pair] + rows
    j = first[matrix.atom_pairs[:, 4]][pair] + columns + n * index[pair]
    shape = (n, n * int(np.prod(geometry.lattice.nsc)))
    return sp.coo_matrix((matrix.entries, (i, j)), shape=shape).tocsr()
