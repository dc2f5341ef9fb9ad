"""H(R) and S(R) of a structure in a localised basis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError


@dataclass(frozen=True)
class RealSpaceHamiltonian:
    """Structure, basis, H(R) and S(R) in the package's conventions: eV, Angstrom, m = -l..l, both directions stored.

    :param hamiltonian: H(R) in eV, blocks (n_i, n_j) without spin, (2 n_i, 2 n_j) complex with it; None if unknown.
    :param overlap: S(R), real blocks (n_i, n_j) whatever the spin; None if unknown.
    :param fermi_energy: eV, on the same zero of energy as H; None if unknown.
    :param n_electrons: valence electrons in the cell; None if unknown.
    :param metadata: where the data came from (code, version, settings): JSON types only.
    :param moments: spin moments of the atoms; None if unknown.
    """

    structure: Structure
    basis: OrbitalBasis
    spin: SpinMode = SpinMode.NONE
    hamiltonian: BlockSparseMatrix | None = None
    overlap: BlockSparseMatrix | None = None
    fermi_energy: float | None = None
    n_electrons: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    moments: Moments | None = None

    def __post_init__(self) -> None:
        if self.moments is not None and len(self.moments) != len(self.structure):
            raise DataError(
                "moments of another number of atoms",
                where="moments",
                found=len(self.moments),
                expected=len(self.structure),
            )
        for name, matrix, per_atom in (
            ("hamiltonian", self.hamiltonian, self.rows_per_atom),
            ("overlap", self.overlap, self.orbitals_per_atom),
        ):
            if matrix is None:
                continue
            pairs = matrix.atom_pairs
            if len(pairs) and (pairs[:, 3:].min() < 0 or pairs[:, 3:].max() >= len(self.structure)):
                raise DataError(
                    "atom index outside the structure",
                    where=name,
                    found=int(pairs[:, 3:].max()),
                    expected=f"0 to {len(self.structure) - 1}",
                )
            wrong = (matrix.chunk_shapes != per_atom[pairs[:, 3:]]).any(axis=1)
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                raise DataError(
                    "block shape does not fit the basis",
                    where=f"{name}, pair {pairs[row].tolist()}",
                    found=matrix.chunk_shapes[row].tolist(),
                    expected=per_atom[pairs[row, 3:]].tolist(),
                )

    @cached_property
    def orbitals_per_atom(self) -> NDArray[np.int64]:
        """Spatial orbitals of each atom, shape (n_atoms,)."""
        return self.basis.orbitals_per_atom(self.structure.symbols)

    @property
    def rows_per_atom(self) -> NDArray[np.int64]:
        """Rows of H of each atom, spin included, shape (n_atoms,)."""
        return self.orbitals_per_atom * self.spin.multiplicity

    def hamiltonian_at(self, k: ArrayLike) -> sp.csr_matrix:
        """H(k) in eV, shape (n_rows, n_rows), rows atom by atom and spin-major inside each atom.

        :param k: fractional k-point, shape (3,).
        :raises DataError: no Hamiltonian is present.
        """
        if self.hamiltonian is None:
            raise DataError("no Hamiltonian in this data", remedy="give a folder with hamiltonian.h5")
        return self.hamiltonian.to_csr(k, self.rows_per_atom)

    def overlap_at(self, k: ArrayLike) -> sp.csr_matrix:
        """S(k), shape (n_rows, n_rows), in the rows of H: twice the spatial rows, spin-major in each atom, if spinful.

        :param k: fractional k-point, shape (3,).
        :raises DataError: no overlap is present.
        """
        return self.overlap_with_spin.to_csr(k, self.rows_per_atom)

    @property
    def overlap_with_spin(self) -> BlockSparseMatrix:
        """S(R) in the rows of H: [[S, 0], [0, S]] per atom pair if there is spin, S itself without; real.

        :raises DataError: no overlap is present.
        """
        S = self.overlap
        if S is None:
            raise DataError(
                "no overlap in this data",
                remedy="compute it with `deeph-engine overlap` or give a folder with overlap.h5",
            )
        if self.spin is SpinMode.NONE:
            return S
        full = BlockSparseMatrix.from_pairs(S.atom_pairs, self.rows_per_atom, dtype=S.entries.dtype)
        rows, columns = S.entry_positions()
        n, m = S.chunk_shapes[S.pair_of_entry].T
        up = full.chunk_boundaries[:-1][S.pair_of_entry] + rows * 2 * m + columns
        full.entries[up] = S.entries
        full.entries[up + n * 2 * m + m] = S.entries
        return full

    def permuted(self, order: NDArray[np.int64]) -> RealSpaceHamiltonian:
        """The same data with atom `order[n]` at place n."""
        place = np.argsort(order)

        def move(matrix: BlockSparseMatrix | None) -> BlockSparseMatrix | None:
            if matrix is None:
                return None
            pairs = matrix.atom_pairs.copy()
            pairs[:, 3:] = place[pairs[:, 3:]]
            return replace(matrix, atom_pairs=pairs)

        return replace(
            self,
            structure=self.structure.permuted(order),
            hamiltonian=move(self.hamiltonian),
            overlap=move(self.overlap),
            moments=None if self.moments is None else self.moments.permuted(order),
        )

    def grouped(self) -> tuple[RealSpaceHamiltonian, NDArray[np.int64]]:
        """Atoms grouped by element in the order of first appearance, as a POSCAR wants them, and the order used."""
        rank = {symbol: n for n, symbol in enumerate(self.structure.elements)}
        order = np.argsort([rank[symbol] for symbol in self.structure.symbols], kind="stable")
        return self.permuted(order), order
