"""Data sets of many molecules in one file: what their readers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from aiida_deeph.engine.dft.base import HamiltonianReader, code_of_format
from aiida_deeph.engine.dft.record import BASIS_LIBRARY
from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.structure import molecule_cell
from aiida_deeph.engine.units import HARTREE_TO_EV

# def2-SVP of the elements that occur in them.
SHELLS = {"H": (0, 0, 1), **dict.fromkeys(("C", "N", "O", "F"), (0, 0, 0, 1, 1, 2))}
BASIS = "def2-svp"
# Largest |H| of such molecules, Hartree.
LARGEST = 1e4
# Parts of a published split, in their order.
PARTS = ("train", "validation", "test")


class CollectionReader(HamiltonianReader):
    """Reads molecule n of a data set as `FILE/n`, counted from 0."""

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        file, name = directory.parent, directory.name
        if not name.isdigit():
            expected = f"FILE/n, a molecule of the {self.count(directory)} in it" if directory.is_file() else "FILE/n"
            raise InputError("which molecule of the data set?", where=directory, expected=expected)
        return self.molecule(file, int(name))

    @abstractmethod
    def count(self, file: Path) -> int:
        """Molecules in a file.

        :raises InputError: it is no such data set.
        """

    @abstractmethod
    def molecule(self, file: Path, index: int) -> RealSpaceHamiltonian:
        """One of them.

        :raises InputError: there is no such molecule, or it is no such data set.
        :raises DataError: it is damaged.
        """

    @abstractmethod
    def published_split(self, file: Path, name: str) -> dict[str, NDArray[np.int64]]:
        """Molecules of each of PARTS.

        :param name: one of the record's `splits`.
        """

    def split(self, file: Path, name: str) -> dict[str, NDArray[np.int64]]:
        """A published split.

        :raises InputError: the data set has no such split.
        """
        if name not in self.record.splits:
            raise InputError(
                "no such published split", where=file, found=name, expected=f"one of {', '.join(self.record.splits)}"
            )
        return self.published_split(file, name)

    def from_dense(
        self,
        numbers: NDArray[Any],
        positions: NDArray[np.float64],
        hamiltonian: NDArray[np.float64],
        overlap: NDArray[np.float64] | None,
        metadata: Mapping[str, Any],
        where: object,
    ) -> RealSpaceHamiltonian:
        """A neutral molecule in def2-SVP with all its pairs.

        :param numbers: atomic numbers, shape (n_atoms,).
        :param positions: Angstrom, shape (n_atoms, 3).
        :param hamiltonian: Hartree, in the order of the record's convention, shape (n_orbitals, n_orbitals).
        :param overlap: in the same order.
        :raises DataError: elements or sizes are others.
        """
        symbols = [chemical_symbols[z] if 0 < z < len(chemical_symbols) else str(z) for z in numbers.tolist()]
        unknown = sorted(set(symbols) - set(SHELLS))
        if unknown or not symbols:
            raise DataError("element of another data set", where=where, found=", ".join(unknown), expected="H C N O F")
        structure = Structure(tuple(symbols), positions, molecule_cell(positions), (False,) * 3)
        basis = OrbitalBasis({symbol: SHELLS[symbol] for symbol in structure.elements})
        sizes = basis.orbitals_per_atom(symbols)
        n = int(sizes.sum())
        wrong = [M.shape for M in (hamiltonian, overlap) if M is not None and M.shape != (n, n)]
        if wrong:
            raise DataError("matrix does not fit the molecule", where=where, found=wrong[0], expected=(n, n))
        if not np.abs(hamiltonian).max() < LARGEST:
            raise DataError("numbers that are none", where=where, found="H beyond all energies")
        library = f"{code_of_format(BASIS_LIBRARY)}:{BASIS}"
        data = RealSpaceHamiltonian(
            structure,
            basis,
            hamiltonian=dense_blocks(hamiltonian * HARTREE_TO_EV, sizes),
            overlap=None if overlap is None else dense_blocks(overlap, sizes),
            n_electrons=float(sum(atomic_numbers[symbol] for symbol in symbols)),
            metadata={
                "code": self.record.name,
                "converged": True,
                "basis": dict.fromkeys(structure.elements, library),
                **metadata,
            },
        )
        return from_convention(data, self.record.convention)


def dense_blocks(matrix: NDArray[np.float64], sizes: NDArray[np.int64]) -> BlockSparseMatrix:
    """All blocks of a matrix of a molecule.

    :param sizes: orbitals of each atom, shape (n_atoms,).
    """
    i, j = np.divmod(np.arange(len(sizes) ** 2), len(sizes))
    pairs = np.stack([0 * i, 0 * i, 0 * i, i, j], axis=1)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    cuts = [slice(int(a), int(b)) for a, b in pairwise(ends)]
    entries = np.concatenate([matrix[a, b].ravel() for a in cuts for b in cuts])
    return BlockSparseMatrix.from_pairs(pairs, sizes, entries)


def cut(order: Sequence[int] | NDArray[np.int64], n_train: int, n_validation: int) -> dict[str, NDArray[np.int64]]:
    """Consecutive parts of an order: training, validation, and the rest to test."""
    order = np.asarray(order, dtype=np.int64)
    return dict(zip(PARTS, np.split(order, [n_train, n_train + n_validation]), strict=True))
