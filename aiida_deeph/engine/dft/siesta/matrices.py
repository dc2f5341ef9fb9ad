"""What SIESTA's binary files say of H(R) and S(R), in SIESTA's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.siesta.fortran import FortranRecords
from aiida_deeph.engine.errors import DataError

Real = NDArray[np.float64]
Integers = NDArray[np.int64]
# Of H: without spin, collinear, noncollinear, with spin-orbit coupling.
SPIN_COMPONENTS = (1, 2, 4, 8)
# Principal quantum number, l and zeta of each orbital of a species.
Orbitals = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class SiestaMatrices:
    """Matrix elements between orbitals of the cell (rows) and of the auxiliary supercell (columns).

    :param layout: kind and version of the file, e.g. `HSX 2`.
    :param counts: elements in each row, shape (n_orbitals,).
    :param columns: orbital in the supercell, counted from 0; image = column // n_orbitals, shape (n_elements,).
    :param hamiltonian: one row per spin component: 1, 2, 4 or 8, shape (n_components, n_elements), Rydberg.
    :param overlap: shape (n_elements,).
    :param n_images: cells in the auxiliary supercell.
    :param images: lattice vector of each image, shape (n_images, 3); None if the file does not say.
    :param displacements: r_j + R - r_i of each element, shape (n_elements, 3), Bohr; None if the file does not say.
    :param cell: lattice vectors in rows, Bohr; None if the file does not say.
    :param positions: Bohr, shape (n_atoms, 3); None if the file does not say.
    :param orbitals_per_atom: shape (n_atoms,); None if the file does not say.
    :param species: of each atom, counted from 0, shape (n_atoms,); None if the file does not say.
    :param labels: of the species.
    :param orbitals: of each species.
    :param fermi_energy: Rydberg; None if the file does not say.
    :param n_electrons: in the cell.
    :param single_precision: the values are of 4 bytes.
    """

    path: Path
    layout: str
    counts: Integers
    columns: NDArray[np.int32]
    hamiltonian: Real
    overlap: Real
    n_images: int
    n_electrons: float
    images: Integers | None = None
    displacements: Real | None = None
    cell: Real | None = None
    positions: Real | None = None
    orbitals_per_atom: Integers | None = None
    species: Integers | None = None
    labels: tuple[str, ...] = ()
    orbitals: tuple[Orbitals, ...] = ()
    fermi_energy: float | None = None
    single_precision: bool = False

    def __post_init__(self) -> None:
        n_columns = len(self.counts) * self.n_images
        components = len(self.hamiltonian)
        if (
            components not in SPIN_COMPONENTS
            or self.counts.sum() != len(self.columns)
            or (len(self.columns) and not 0 <= self.columns.min() <= self.columns.max() < n_columns)
            or (self.orbitals_per_atom is not None and self.orbitals_per_atom.sum() != len(self.counts))
        ):
            raise DataError(
                "file is inconsistent",
                where=self.path,
                found=f"{components} spin components, {len(self.columns)} elements, supercell of {n_columns} orbitals",
            )

    @property
    def rows(self) -> NDArray[np.int32]:
        """Orbital of the cell of each element, shape (n_elements,)."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)


def read_elements(
    records: FortranRecords, n_orbitals: int, n_matrices: int, dtype: str = "<f8"
) -> tuple[Integers, NDArray[np.int32], Real]:
    """What HSX and TSHS hold alike: elements of each row, their columns, then several matrices row by row.

    :return: counts, shape (n_orbitals,); columns counted from 0, shape (n_elements,); values, shape (n_matrices,
        n_elements).
    :raises DataError: the file is cut off or damaged.
    """
    if n_matrices - 1 not in SPIN_COMPONENTS:
        raise DataError("file is damaged", where=records.path, found=f"{n_matrices - 1} spin components")
    counts = records.integers(n_orbitals)
    columns = records.rows(counts, "<i4")
    values = np.empty((n_matrices, len(columns)))
    for row in values:
        row[:] = records.rows(counts, dtype)
    return counts, columns - np.int32(1), values
