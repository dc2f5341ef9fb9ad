"""S(R) of any structure in a Gaussian basis: two-centre integrals by libcint, atom by atom with its neighbours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.convention import LIBCINT
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_key
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention, orbital_map
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis, no_library
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

# Spacing and end of the distances at which the range of an overlap is looked for, Bohr.
RANGE_STEP, RANGE_END = 0.1, 80.0

Real = NDArray[np.float64]


def overlap_gaussian(
    structure: Structure, basis: GaussianBasis, atom_pairs: NDArray[np.int64]
) -> tuple[OrbitalBasis, BlockSparseMatrix]:
    """S_ij(R) = <phi_i in cell 0 | phi_j in cell R> of each pair; the cost is linear in the number of pairs.

    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    :return: the orbital basis, and the blocks in the order of `atom_pairs` with m = -l..l.
    :raises InputError: an element has no basis.
    """
    orbital_basis = basis.orbital_basis
    sizes = orbital_basis.orbitals_per_atom(structure.symbols)
    matrix = BlockSparseMatrix.from_pairs(atom_pairs, sizes)
    entries, begins = matrix.entries, matrix.chunk_boundaries[:-1]
    integrals = _Integrals(basis)
    vectors = structure.pair_vectors(atom_pairs) / BOHR_TO_ANGSTROM
    # One direction of each pair is computed, the other is its transpose: S_ji(-R) = S_ij(R)^T.
    partner = matrix.conjugate_pairs()
    computed = np.flatnonzero((partner < 0) | (partner >= np.arange(len(matrix))))
    order = computed[np.argsort(atom_pairs[computed, 3], kind="stable")]
    bounds = np.searchsorted(atom_pairs[order, 3], np.arange(len(structure) + 1))
    for i in range(len(structure)):
        rows = order[bounds[i] : bounds[i + 1]]
        if not len(rows):
            continue
        neighbours = atom_pairs[rows, 4]
        block = integrals.one_with_many(structure.symbols[i], [structure.symbols[j] for j in neighbours], vectors[rows])
        # Column c of the wide block is column `local` of its pair's own block.
        counts = sizes[neighbours]
        local = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        place = np.repeat(begins[rows], counts) + local
        stride = np.repeat(counts, counts)
        entries[place + np.arange(sizes[i])[:, None] * stride] = block
        back = partner[rows]
        place = np.repeat(begins[back], counts) + local * sizes[i]
        known = np.repeat(back >= 0, counts)
        entries[place[known] + np.arange(sizes[i])[:, None]] = block[:, known]
    data = RealSpaceHamiltonian(structure, orbital_basis, overlap=matrix)
    ordered = from_convention(data, LIBCINT).overlap
    assert ordered is not None
    return orbital_basis, ordered


def positions_gaussian(structure: Structure, basis: GaussianBasis) -> Real:
    """<phi_i | r | phi_j> of a molecule, m = -l..l, Angstrom, shape (3, n_orbitals, n_orbitals).

    :raises InputError: an element has no basis.
    """
    integrals, sizes = _Integrals(basis), basis.orbital_basis.orbitals_per_atom(structure.symbols)
    places = structure.positions / BOHR_TO_ANGSTROM
    rows = [
        # About the first atom, which stands at the origin of the integrals: <i|r|j> = <i|r - R_i|j> + R_i <i|j>.
        integrals.one_with_many(symbol, list(structure.symbols), places - places[i], "int1e_r_sph", 3)
        + places[i][:, None, None] * integrals.one_with_many(symbol, list(structure.symbols), places - places[i])
        for i, symbol in enumerate(structure.symbols)
    ]
    index, sign = orbital_map(basis.orbital_basis, structure.symbols, LIBCINT)
    result = np.empty((3, int(sizes.sum()), int(sizes.sum())))
    result[:, index[:, None], index] = np.concatenate(rows, axis=1) * np.outer(sign, sign)
    return result * BOHR_TO_ANGSTROM


def overlap_ranges(basis: GaussianBasis, threshold: float) -> dict[str, float]:
    """Distance beyond which no overlap of an element pair can exceed `threshold`, keys of `pair_key`, Angstrom.

    The bound on the entries of two shells is the Frobenius norm of their block, which does not depend on direction.
    """
    return {key: _range_of(norms, threshold) for key, norms in _norms_by_distance(basis).items()}


def overlap_beyond(basis: GaussianBasis, cutoffs: Mapping[str, float]) -> float:
    """Largest overlap that pairs beyond their cutoff can have; a missing key counts as a cutoff of zero.

    :param cutoffs: keys of `pair_key`, Angstrom.
    """
    largest = 0.0
    for key, norms in _norms_by_distance(basis).items():
        first = int(np.ceil(cutoffs.get(key, 0.0) / BOHR_TO_ANGSTROM / RANGE_STEP))
        largest = max(largest, float(norms[max(first, 1) :].max(initial=0.0)))
    return largest


def _range_of(norms: Real, threshold: float) -> float:
    above = np.flatnonzero(norms > threshold)
    return float(((above[-1] + 1) if len(above) else 0) * RANGE_STEP * BOHR_TO_ANGSTROM)


def _norms_by_distance(basis: GaussianBasis) -> dict[str, Real]:
    """Largest Frobenius norm of two shells' overlap at the distances 0, RANGE_STEP, .., keys of `pair_key`."""
    integrals = _Integrals(basis)
    distances = np.arange(0.0, RANGE_END, RANGE_STEP)
    vectors = np.zeros((len(distances), 3))
    vectors[:, 2] = distances
    shells = basis.orbital_basis.shells
    result = {}
    for n, a in enumerate(shells):
        for b in list(shells)[n:]:
            first_a, first_b = (np.cumsum([0, *(2 * l + 1 for l in shells[s])])[:-1] for s in (a, b))
            block = integrals.one_with_many(a, [b] * len(distances), vectors)
            square = block.reshape(len(block), len(distances), -1).transpose(1, 0, 2) ** 2
            norms = np.sqrt(np.add.reduceat(np.add.reduceat(square, first_a, axis=1), first_b, axis=2))
            result[pair_key(a, b)] = norms.max(axis=(1, 2))
    return result


class _Integrals:
    """libcint's tables of a basis, and overlaps of one atom with many others."""

    def __init__(self, basis: GaussianBasis) -> None:
        try:
            from pyscf.gto import mole, moleintor
        except ImportError as error:
            raise no_library(error) from None
        self._getints, self._atom_slots, self._coordinates = moleintor.getints2c, mole.ATM_SLOTS, mole.PTR_COORD
        self._tables: dict[str, NDArray[np.int32]] = {}
        self._environment = np.zeros(mole.PTR_ENV_START)
        for symbol, groups in basis.shells.items():
            shells = [
                [g.l, *([float(e), *map(float, c)] for e, c in zip(g.exponents, g.coefficients, strict=True))]
                for g in groups
            ]
            table, values = mole.make_bas_env(shells, 0, len(self._environment))
            self._tables[symbol] = table
            self._environment = np.concatenate([self._environment, values])

    def one_with_many(
        self, symbol: str, others: list[str], vectors: Real, name: str = "int1e_ovlp_sph", components: int = 1
    ) -> Real:
        """Overlaps of an atom at the origin with atoms elsewhere, libcint's order of orbitals.

        :param name: of other integrals, as libcint calls them; those of r count from the origin.
        :param components: of these integrals.

        :param others: element of each other atom.
        :param vectors: their positions, shape (n_others, 3), Bohr.
        :return: shape (n_orbitals, sum of the others' orbitals), of r with the three components before.
        """
        tables = [self._tables[symbol], *(self._tables[other] for other in others)]
        counts = [len(table) for table in tables]
        shells = np.concatenate(tables)
        shells[:, 0] = np.repeat(np.arange(len(tables)), counts)
        atoms = np.zeros((len(tables), self._atom_slots), dtype=np.int32)
        atoms[:, self._coordinates] = len(self._environment) + 3 * np.arange(len(tables))
        environment = np.concatenate([self._environment, np.zeros(3), vectors.ravel()])
        limits = (0, counts[0], counts[0], len(shells))
        return np.asarray(self._getints(name, atoms, shells, environment, shls_slice=limits, comp=components))
