"""S(R) and its gradient in a basis of numerical orbitals, all pairs of two elements at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pair_key
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.orbitals.harmonics import gaunt, solid_harmonic_gradients, solid_harmonics
from aiida_deeph.engine.orbitals.radial import RadialBasis
from aiida_deeph.engine.overlap.table import PairTable, couplings, sign, tabulate

# Pairs that are computed together: their intermediates stay in the cache of a core.
CHUNK = 1024
# Spacing of the distances at which the range of an overlap is looked for, Bohr.
RANGE_STEP = 0.05

Real = NDArray[np.float64]
Integers = NDArray[np.int64]


class NumericOverlap:
    """Overlaps in one basis; the tables of two elements are made when they are first needed, and kept."""

    def __init__(self, basis: RadialBasis) -> None:
        self.basis = basis
        self.orbital_basis = basis.orbital_basis
        self._tables: dict[str, PairTable] = {}

    def overlap(self, structure: Structure, atom_pairs: Integers) -> BlockSparseMatrix:
        """S_ij(R) = <phi_i in cell 0 | phi_j in cell R> of each pair; the cost is linear in the number of pairs.

        :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
        :return: blocks in the order of `atom_pairs`, orbitals m = -l..l.
        :raises InputError: an element has no basis.
        """
        sizes = self.orbital_basis.orbitals_per_atom(structure.symbols)
        matrix = BlockSparseMatrix.from_pairs(atom_pairs, sizes)
        for integrals, pairs, vectors in self._by_elements(structure, atom_pairs):
            blocks = integrals.blocks(vectors)
            matrix.entries[matrix.chunk_boundaries[pairs, None] + np.arange(len(blocks))] = blocks.T
        return matrix

    def gradient(self, structure: Structure, atom_pairs: Integers) -> Real:
        """dS_ij(R) / d(r_j + R - r_i), shape (3, n_entries), 1 / Angstrom; entries in the order of `overlap`.

        :raises InputError: an element has no basis.
        """
        sizes = self.orbital_basis.orbitals_per_atom(structure.symbols)
        begins = np.concatenate([[0], np.cumsum(sizes[atom_pairs[:, 3]] * sizes[atom_pairs[:, 4]])])
        result = np.empty((3, begins[-1]))
        for integrals, pairs, vectors in self._by_elements(structure, atom_pairs):
            gradients = integrals.gradients(vectors) / self.basis.bohr
            place = begins[pairs, None] + np.arange(gradients.shape[1])
            for axis in range(3):
                result[axis, place] = gradients[axis].T
        return result

    def ranges(self, threshold: float) -> dict[str, float]:
        """Distance beyond which no overlap of an element pair exceeds `threshold`, keys of `pair_key`, Angstrom.

        The bound on the entries of two shells is the Frobenius norm of their block, which does not depend on direction.
        """
        result = {}
        for key, norms in self._norms_by_distance():
            above = np.flatnonzero(norms > threshold)
            result[key] = float(((above[-1] + 1) if len(above) else 0) * RANGE_STEP * self.basis.bohr)
        return result

    def beyond(self, cutoffs: Mapping[str, float]) -> float:
        """Largest overlap that pairs beyond their cutoff can have; a missing key counts as a cutoff of zero.

        :param cutoffs: keys of `pair_key`, Angstrom.
        """
        largest = 0.0
        for key, norms in self._norms_by_distance():
            first = int(np.ceil(cutoffs.get(key, 0.0) / self.basis.bohr / RANGE_STEP))
            largest = max(largest, float(norms[max(first, 1) :].max(initial=0.0)))
        return largest

    def _norms_by_distance(self) -> Iterator[tuple[str, Real]]:
        """Largest Frobenius norm of two shells' overlap at the distances 0, RANGE_STEP, .., with `pair_key`."""
        symbols = list(self.basis.shells)
        for n, a in enumerate(symbols):
            for b in symbols[n:]:
                integrals = self._integrals(a, b)
                distances = np.arange(0.0, integrals.table.range + 2 * RANGE_STEP, RANGE_STEP)
                blocks = integrals.blocks(distances[:, None] * np.array([0.0, 0.0, 1.0]))
                square = blocks.reshape(*integrals.shape, -1) ** 2
                norms = np.add.reduceat(np.add.reduceat(square, integrals.firsts[0], 0), integrals.firsts[1], 1)
                yield pair_key(a, b), np.sqrt(norms.max(axis=(0, 1)))

    def _integrals(self, a: str, b: str) -> _Integrals:
        key, first, second = pair_key(a, b), *sorted((a, b))
        if key not in self._tables:
            self._tables[key] = tabulate(self.basis.shells[first], self.basis.shells[second])
        ls = self.orbital_basis.shells
        return _Integrals(self._tables[key], ls[a], ls[b], swapped=a != first)

    def _by_elements(self, structure: Structure, atom_pairs: Integers) -> Iterator[tuple[_Integrals, Integers, Real]]:
        """Pairs of the same two elements, `CHUNK` at a time, with their vectors in Bohr."""
        elements = structure.elements
        index = {symbol: n for n, symbol in enumerate(elements)}
        kinds = np.array([index[symbol] for symbol in structure.symbols], dtype=np.int64)
        codes = kinds[atom_pairs[:, 3]] * len(elements) + kinds[atom_pairs[:, 4]]
        for code in np.unique(codes):
            a, b = divmod(int(code), len(elements))
            integrals = self._integrals(elements[a], elements[b])
            rows = np.flatnonzero(codes == code)
            for begin in range(0, len(rows), CHUNK):
                pairs = rows[begin : begin + CHUNK]
                yield integrals, pairs, structure.pair_vectors(atom_pairs[pairs]) / self.basis.bohr


class _Integrals:
    """Overlaps of the orbitals of one element with those of another.

    :param ls: l of each shell of the two elements.
    :param swapped: the table has the two elements in the other order.
    """

    def __init__(self, table: PairTable, ls_a: tuple[int, ...], ls_b: tuple[int, ...], swapped: bool) -> None:
        self.table = table
        self.firsts = [np.cumsum([0, *(2 * l + 1 for l in ls)])[:-1] for ls in (ls_a, ls_b)]
        self.shape = sum(2 * l + 1 for l in ls_a), sum(2 * l + 1 for l in ls_b)
        self._lmax = max(ls_a) + max(ls_b)
        # (l1, l2, L) -> 8 Re[i^l1 (-i)^l2 (-i)^L] G as a matrix from the harmonics of L to the entries of a block.
        self._angular = {
            (l1, l2, L): 8.0 * sign(l1, l2, L) * gaunt(l1, l2, L).reshape(-1, 2 * L + 1)
            for l1 in set(ls_a)
            for l2 in set(ls_b)
            for L in couplings(l1, l2)
        }
        columns = table.columns(swapped)
        self._shell_pairs = [
            (
                slice(self.firsts[0][m], self.firsts[0][m] + 2 * l1 + 1),
                slice(self.firsts[1][n], self.firsts[1][n] + 2 * l2 + 1),
                [(columns[m, n, L], (l1, l2, L)) for L in couplings(l1, l2)],
            )
            for m, l1 in enumerate(ls_a)
            for n, l2 in enumerate(ls_b)
        ]

    def blocks(self, vectors: Real) -> Real:
        """Row-major blocks, shape (n_entries, n): pairs last, so that every operation runs over contiguous numbers.

        :param vectors: from the first atom to the second, shape (n, 3), Bohr.
        """
        return self._assembled(self.table(_lengths(vectors)), solid_harmonics(vectors, self._lmax))

    def gradients(self, vectors: Real) -> Real:
        """Derivatives of the blocks by the components of the vector, shape (3, n_entries, n), 1 / Bohr."""
        distances = _lengths(vectors)
        # At distance zero the radial parts are flat and the direction does not matter.
        directions = vectors / np.where(distances > 0, distances, 1.0)[:, None]
        radial, slope = self.table(distances), self.table.derivative(distances)
        harmonics, gradients = solid_harmonics(vectors, self._lmax), solid_harmonic_gradients(vectors, self._lmax)
        return np.stack(
            [
                self._assembled(slope * directions[:, axis], harmonics) + self._assembled(radial, gradients[:, axis])
                for axis in range(3)
            ]
        )

    def _assembled(self, radial: Real, harmonics: Real) -> Real:
        """Sum over L of radial part times coupled harmonics, shape (n_entries, n)."""
        n = radial.shape[1]
        blocks = np.empty((*self.shape, n))
        angular = {
            key: (matrix @ harmonics[key[2] ** 2 : (key[2] + 1) ** 2]).reshape(2 * key[0] + 1, 2 * key[1] + 1, n)
            for key, matrix in self._angular.items()
        }
        for rows, columns, terms in self._shell_pairs:
            block = blocks[rows, columns]
            (column, key), *others = terms
            np.multiply(radial[column], angular[key], out=block)
            for column, key in others:
                block += radial[column] * angular[key]
        return blocks.reshape(-1, n)


def _lengths(vectors: Real) -> Real:
    return np.asarray(np.sqrt(np.einsum("nx,nx->n", vectors, vectors)))
