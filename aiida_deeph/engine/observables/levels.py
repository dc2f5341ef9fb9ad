"""Levels of a molecule: their occupations, HOMO, LUMO and gap, the dipole moment, frontier orbitals as cube files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import ChosenKPoints
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.dense import Eigenstates, solve_dense
from aiida_deeph.engine.linalg.kpoint_loop import Arrays, Loop
from aiida_deeph.engine.observables.base import MAIN, Observable, ObservableConfig
from aiida_deeph.engine.observables.cube import boxed, on_grid, write_grid
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis, as_radial
from aiida_deeph.engine.overlap.basis import load_basis, named_basis
from aiida_deeph.engine.overlap.gaussian import positions_gaussian

Real = NDArray[np.float64]

GAMMA = (0.0, 0.0, 0.0)

DEBYE = 4.803204712570263
"""Of an elementary charge times an Angstrom."""


class LevelsConfig(ObservableConfig):
    """Levels of a molecule from its DeepH folder, written to `OUTPUT` (JSON).

    The file holds `levels` (eV) and `occupations` of each spin, `homo`, `lumo` and `gap` (eV) and, where the basis is
    known, the `dipole` (debye; of an ion about the centre of its nuclear charges).

    :param basis: Gaussians of the orbitals, in the words of `overlap`; None takes what the folder records.
    :param unpaired_electrons: of collinear data; None takes what the folder records, else fills the lowest levels.
    :param cubes: write the highest occupied and the lowest empty orbital, of both spins the first, as cube files.
    :param spacing: of their grid, Angstrom.
    :param homo_output: file of the highest occupied orbital.
    :param lumo_output: file of the lowest empty orbital.
    :param overlap_threshold: combinations of orbitals whose eigenvalue of S is smaller are projected out.
    """

    basis: str | dict[str, str] | None = None
    unpaired_electrons: int | None = Field(default=None, ge=0)
    cubes: bool = False
    spacing: float = Field(default=0.2, gt=0.01)
    homo_output: str = "homo.cube"
    lumo_output: str = "lumo.cube"
    overlap_threshold: float = Field(default=1e-8, gt=0)
    output: str = "levels.json"

    NO_MATTER: ClassVar[frozenset[str]] = ObservableConfig.NO_MATTER | {
        "homo_output",
        "lumo_output",
        "spacing",
        "cubes",
    }
    OPTIONS: ClassVar[Mapping[str, str]] = {"n_electrons": "--electrons"}


class Levels(Observable):
    """All levels of a molecule, and what follows from them."""

    name = "levels"
    title = "levels"
    Config = LevelsConfig
    UNITS: ClassVar[Mapping[str, str]] = {
        "homo": "eV",
        "lumo": "eV",
        "gap": "eV",
        "dft_fermi_level": "eV",
        "dipole": "debye",
        "dipole_size": "debye",
        "charge": "elementary charge",
    }
    ARRAYS: ClassVar[Mapping[str, str]] = {"levels": "eV", "occupations": ""}
    OF_MOLECULES = True
    FILES: ClassVar[Mapping[str, tuple[str, str]]] = {
        "homo_orbital": ("cubes", "homo_output"),
        "lumo_orbital": ("cubes", "lumo_output"),
    }
    config: LevelsConfig

    def __init__(self, config: LevelsConfig, data: RealSpaceHamiltonian) -> None:
        super().__init__(config, data)
        if self.n_electrons is None:
            raise InputError("number of electrons unknown", where=config.folder, remedy="give --electrons N")
        self.points = ChosenKPoints(np.zeros((1, 3)), ((0, "G"),))
        self.basis = self._basis()
        if config.cubes and self.basis is None:
            raise InputError("orbitals of an unknown basis", where="basis", remedy="give the Gaussian basis")

    def _basis(self) -> GaussianBasis | None:
        """The Gaussians that the orbitals are combinations of, if they are known."""
        spec = self.config.basis or named_basis(self.data.metadata)
        if spec is None:
            return None
        basis = load_basis(spec, self.data.structure.elements, Path())
        self.data.basis.union(basis.orbital_basis)
        return basis

    def solve(self, loop: Loop) -> list[Eigenstates]:
        def solve(channel: int, index: int) -> Arrays:
            threshold = self.config.overlap_threshold
            matrices = self.matrices.at(GAMMA, channel)
            return solve_dense(*matrices, vectors=True, overlap_threshold=threshold).arrays()

        found = loop.run(MAIN, self.tasks, solve)
        return [Eigenstates.from_arrays(dict(arrays)) for _, arrays in sorted(found.items())]

    def occupations(self, solved: list[Eigenstates]) -> Real:
        """Electrons in each level of each spin, shape (n_channels, n_levels)."""
        energies, full = np.array([states.energies for states in solved]), self.data.spin.electrons_per_state
        asked = self.config.unpaired_electrons
        return filled(energies, self.n_electrons or 0.0, full, unpaired_of(self.data) if asked is None else asked)

    def result(self, solved: list[Eigenstates], loop: Loop) -> dict[str, Any]:
        energies, occupations = np.array([states.energies for states in solved]), self.occupations(solved)
        homo, lumo = frontier(energies, occupations)
        values: dict[str, Any] = {
            "levels": energies.tolist(),
            "occupations": occupations.tolist(),
            "n_electrons": self.n_electrons,
            "homo": homo and float(energies[homo]),
            "lumo": lumo and float(energies[lumo]),
            "gap": float(energies[lumo] - energies[homo]) if homo and lumo else None,
            "smallest_overlap_eigenvalue": solved[0].smallest_overlap,
        }
        return {**values, **self._dipole(solved, occupations)}

    def _dipole(self, solved: list[Eigenstates], occupations: Real) -> dict[str, Any]:
        """sum_A Z_A R_A - tr(D r) in debye; nothing without a basis, or of spinors."""
        symbols = self.data.structure.symbols
        if self.basis is None or self.basis.n_electrons(symbols) is None or self.data.spin is SpinMode.NONCOLLINEAR:
            return {}
        vectors = [states.vectors for states in solved if states.vectors is not None]
        density = sum(np.real((c * f) @ c.conj().T) for c, f in zip(vectors, occupations, strict=True))
        charges = np.array([self.basis.valence[symbol] for symbol in symbols])
        places = self.data.structure.positions
        charge = float(charges.sum()) - float(self.n_electrons or 0.0)
        electrons = np.einsum("xij,ij->x", positions_gaussian(self.data.structure, self.basis), density)
        moment = (charges - charge * charges / charges.sum()) @ places - electrons
        return {
            "dipole": (moment * DEBYE).tolist(),
            "dipole_size": float(np.linalg.norm(moment)) * DEBYE,
            "charge": charge,
        }

    def write_files(self, solved: list[Eigenstates]) -> None:
        if not self.config.cubes or self.basis is None:
            return
        energies = np.array([states.energies for states in solved])
        functions, (box, _) = as_radial(self.basis), boxed(self.data.structure)
        files = (self.config.homo_output, self.config.lumo_output)
        for place, file in zip(frontier(energies, self.occupations(solved)), files, strict=True):
            if place is None:
                raise InputError("no such orbital", where=file, found=f"{self.n_electrons} electrons")
            vectors = solved[place[0]].vectors
            assert vectors is not None
            psi = on_grid(functions, box, vectors[:, place[1]], np.zeros(3), self.config.spacing)
            write_grid(Path(file), self.data.structure, psi.real)

    @classmethod
    def summary(cls, result: Mapping[str, Any]) -> str:
        gap = "no gap" if result["gap"] is None else f"HOMO {result['homo']:.3f} eV, LUMO {result['lumo']:.3f} eV"
        moment = f", dipole {result['dipole_size']:.3f} D" if "dipole" in result else ""
        return f"{gap}{moment}; levels written"


def unpaired_of(data: RealSpaceHamiltonian) -> int | None:
    """Unpaired electrons of collinear data, as their metadata record them; None if they do not."""
    settings = data.metadata.get("settings")
    if data.spin is not SpinMode.COLLINEAR or not isinstance(settings, Mapping):
        return None
    return settings.get("unpaired_electrons")


def filled(energies: Real, electrons: float, full: int, unpaired: int | None = None) -> Real:
    """Electrons in each level when the lowest are filled, in the shape of the energies.

    :param energies: of each spin, shape (n_channels, n_levels).
    :param full: electrons that a level holds.
    :param unpaired: of two channels: so many more of the first; None fills both up to one level.
    """
    if len(energies) == 2 and unpaired is not None:
        parts = zip(energies, ((electrons + unpaired) / 2, (electrons - unpaired) / 2), strict=True)
        return np.concatenate([filled(one[None], number, full) for one, number in parts])
    rank = np.argsort(np.argsort(energies.ravel(), kind="stable"), kind="stable")
    return np.clip(electrons - full * rank, 0.0, full).reshape(energies.shape)


def frontier(energies: Real, occupations: Real) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Spin and number of the highest level with electrons and of the lowest without; None if there is none."""
    occupied = occupations > 1e-9
    homo = np.argmax(np.where(occupied, energies, -np.inf)) if occupied.any() else None
    lumo = np.argmin(np.where(occupied, np.inf, energies)) if not occupied.all() else None
    places = [None if n is None else divmod(int(n), energies.shape[1]) for n in (homo, lumo)]
    return places[0], places[1]
