"""Bands of a supercell unfolded onto the Brillouin zone of its primitive cell: spectral weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.engine.linalg.dense import Eigenstates
from aiida_deeph.engine.linalg.kpoint_loop import Loop
from aiida_deeph.engine.observables.bands import Bands, BandsConfig, Solved

CELL_TOLERANCE = 0.1
"""How far (in primitive lattice vectors) a supercell may be from a multiple of the primitive cell: room for strain."""


class UnfoldConfig(BandsConfig):
    """Bands of a supercell at k-points of its primitive cell, and how much of each state belongs there.

    The file is that of bands, with `spectral_weights` [spin][k][band] and `unfolding`.

    :param unfold: structure (file or DeepH folder) of the primitive cell.
    """

    unfold: str
    output: str = "unfolded.json"


class UnfoldedBands(Bands):
    """Bands of a supercell at k-points of its primitive cell, with spectral weights."""

    name = "unfold"
    title = "unfolded bands"
    Config = UnfoldConfig

    def __init__(self, config: BandsConfig, data: RealSpaceHamiltonian) -> None:
        assert config.unfold is not None
        self.unfolding = unfolding(data.structure, read_structure(Path(config.unfold)), config.unfold)
        super().__init__(config, data)

    @property
    def cell(self) -> NDArray[np.float64]:
        return self.unfolding.cell

    @property
    def own_mesh(self) -> None:
        return None  # a mesh of the primitive cell is none of the supercell

    @property
    def kpoints(self) -> NDArray[np.float64]:
        return self.unfolding.folded(self.points.fractional)

    @property
    def needs_vectors(self) -> bool:
        return True

    def kept(self, channel: int, index: int, found: Eigenstates, overlap: sp.csr_matrix) -> dict[str, NDArray[Any]]:
        assert found.vectors is not None
        k, atoms = self.points.fractional[index], self.matrices.atom_of_row
        weights = self.unfolding.weights(found.vectors, overlap, k, atoms)
        return {"weights": weights, **super().kept(channel, index, found, overlap)}

    def result(self, solved: Solved, loop: Loop) -> dict[str, Any]:
        found = super().result(solved, loop)
        states = solved.spectrum.states
        skipped = (found["first_band"] or 0) - (states[0][0].first_band or 0)
        bands = slice(skipped, skipped + np.shape(found["energies"])[2])
        return {
            **found,
            "spectral_weights": [[each.extras["weights"][bands].tolist() for each in channel] for channel in states],
            "cell": self.cell.tolist(),
            "unfolding": {
                "supercell": self.unfolding.matrix.tolist(),
                "largest_displacement": self.unfolding.displacement,
                "folded_kpoints": self.kpoints.tolist(),
            },
        }


@dataclass(frozen=True)
class Unfolding:
    """Which primitive cell and site each atom of a supercell belongs to.

    :param matrix: supercell vectors in terms of primitive ones, integers, shape (3, 3).
    :param cell: primitive lattice vectors in rows, strained as the supercell is, Angstrom.
    :param translations: primitive cell of each atom, integers, shape (n_atoms, 3).
    :param groups: equal for atoms of one element on the same primitive site, shape (n_atoms,).
    :param displacement: largest distance of an atom from its site, Angstrom.
    """

    matrix: NDArray[np.int64]
    cell: NDArray[np.float64]
    translations: NDArray[np.int64]
    groups: NDArray[np.int64]
    displacement: float

    @property
    def n_cells(self) -> int:
        """Primitive cells in the supercell."""
        return abs(round(float(np.linalg.det(self.matrix))))

    def folded(self, kpoints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where primitive k-points lie in the supercell's reciprocal vectors, shape (n_k, 3)."""
        return kpoints @ self.matrix.T

    def weights(
        self, vectors: NDArray[Any], overlap: sp.csr_matrix, k: NDArray[np.float64], atom_of_row: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Share of each state in the Bloch functions of one primitive k-point, shape (n_states,).

        W = sum_g Re (u_g^dagger C)^* (u_g^dagger S C) with u_g = sum_T exp(2 pi i k.T) |T, g> / sqrt(n_cells): the
        Mulliken form of C.-C. Lee, Y. Yamada-Takamura, T. Ozaki, J. Phys.: Condens. Matter 25, 345501 (2013). Over all
        primitive k-points that fold onto one point of the supercell, the weights of a state sum to one; single ones may
        be slightly negative.

        :param vectors: C, shape (n_rows, n_states), with C^dagger S C = 1.
        :param overlap: S at the folded k-point.
        :param k: primitive k-point, shape (3,).
        """
        n_rows = len(atom_of_row)
        first_row = np.searchsorted(atom_of_row, np.arange(atom_of_row[-1] + 1))
        orbital = np.arange(n_rows) - first_row[atom_of_row]
        group = self.groups[atom_of_row] * (orbital.max() + 1) + orbital
        phases = np.exp(-2j * np.pi * (self.translations @ k))[atom_of_row] / np.sqrt(self.n_cells)
        project = sp.csr_matrix((phases, (group, np.arange(n_rows))), shape=(group.max() + 1, n_rows))
        return np.asarray(((project @ vectors).conj() * (project @ (overlap @ vectors))).real.sum(axis=0))


def unfolding(supercell: Structure, primitive: Structure, where: object = None) -> Unfolding:
    """Match the atoms of a supercell, perturbed or defective, with the sites of a primitive cell.

    :param where: name of the primitive cell in error messages.
    :raises InputError: the supercell is no multiple of the primitive cell.
    """
    ratio = supercell.cell @ np.linalg.inv(primitive.cell)
    matrix = np.rint(ratio).astype(np.int64)
    if np.abs(ratio - matrix).max() > CELL_TOLERANCE or round(abs(np.linalg.det(matrix))) < 1:
        raise InputError(
            "supercell is no multiple of the primitive cell",
            where=where,
            found=f"supercell vectors {np.round(ratio, 3).tolist()} in primitive ones",
            expected="integers",
        )
    cell = np.linalg.solve(matrix.astype(np.float64), supercell.cell)
    sites = primitive.positions @ np.linalg.inv(primitive.cell)
    atoms = supercell.positions @ np.linalg.inv(cell)
    symbols = np.array(supercell.symbols)
    # The origin is free: the first atom sits on one of the sites of its element, or of any if it is an impurity.
    own = [n for n, symbol in enumerate(primitive.symbols) if symbol == symbols[0]] or range(len(sites))
    best = min((_match(atoms - (atoms[0] - sites[n]), sites, cell) for n in own), key=lambda found: found[2].mean())
    translations, site, distance = best
    elements = {symbol: n for n, symbol in enumerate(dict.fromkeys(supercell.symbols))}
    groups = site * len(elements) + np.array([elements[symbol] for symbol in symbols])
    return Unfolding(matrix, cell, translations, groups, float(distance.max()))


def _match(
    atoms: NDArray[np.float64], sites: NDArray[np.float64], cell: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Primitive cell, nearest site and distance from it (the mean drift removed) of each atom, all fractional."""
    for _ in range(2):
        difference = atoms[:, None] - sites[None]
        translations = np.rint(difference)
        offset = (difference - translations) @ cell
        site = np.linalg.norm(offset, axis=2).argmin(axis=1)
        each = np.arange(len(atoms))
        drift = np.median(offset[each, site], axis=0)
        atoms = atoms - drift @ np.linalg.inv(cell)
    distance = np.linalg.norm(offset[each, site], axis=1)
    return translations[each, site].astype(np.int64), site, distance
