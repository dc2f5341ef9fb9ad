"""Bands at k-points and the Fermi level, dense or sparse, with what is made of the vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import (
    KPoints,
    automatic_mesh,
    check_directions,
    gamma_mesh,
)
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.bloch import BlochMatrices
from aiida_deeph.engine.linalg.dense import Eigenstates
from aiida_deeph.engine.linalg.loop import Loop
from aiida_deeph.engine.linalg.solvers import Observe, Spectrum, dense_spectrum, sparse_spectrum
from aiida_deeph.engine.linalg.sparse import SparseSolver
from aiida_deeph.engine.observables.config import BandsConfig
from aiida_deeph.engine.observables.cube import write_wavefunctions
from aiida_deeph.engine.observables.fermi import FermiLevel, fermi_level
from aiida_deeph.engine.observables.fermi_sparse import fermi_by_inertia
from aiida_deeph.engine.observables.unfold import Unfolding

"""Distance of the k-points of an automatic mesh for the Fermi level, 1/Angstrom (with 2 pi)."""

"""Rows cubed times k-points up to which that mesh is kept (about a minute of one core)."""


@dataclass(frozen=True)
class Solved:
    """Bands at the k-points asked for.

    :param energies: those asked for, shape (n_channels, n_k, n_bands), eV.
    :param first_band: index of the first of them; None if it could not be counted.
    :param spectrum: everything that was computed at these k-points.
    """

    energies: NDArray[np.float64]
    first_band: int | None
    spectrum: Spectrum
    fermi: FermiLevel | None
    fermi_mesh: list[int] | None


@dataclass(frozen=True)
class BandsJob:
    """Bands at the k-points asked for and the Fermi level.

    :param weights: of the k-points if they are a mesh.
    :param unfolded: how the cell repeats a primitive one, if the bands are to be unfolded.
    :param states: bands whose coefficients are wanted.
    """

    config: BandsConfig
    data: RealSpaceHamiltonian
    matrices: BlochMatrices
    points: KPoints
    weights: NDArray[np.float64] | None
    n_electrons: float | None
    unfolded: Unfolding | None
    states: NDArray[np.int64] | None

    @property
    def kpoints(self) -> NDArray[np.float64]:
        """k-points of the cell itself, fractional, shape (n_k, 3)."""
        fractional = self.points.fractional
        return fractional if self.unfolded is None else self.unfolded.folded(fractional)

    def fermi_kpoints(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
        """k-points and weights of the mesh for the Fermi level, and that mesh."""
        config, data = self.config, self.data
        mesh = config.fermi_mesh or (config.mesh if self.unfolded is None else None)
        mesh = mesh or automatic_mesh(data, self.matrices.n_rows)
        kpoints, weights = gamma_mesh(mesh, time_reversal=self.matrices.is_real_in_space)
        check_directions(kpoints, data.structure.pbc, f"fermi_mesh {list(mesh)}")
        return kpoints, weights, list(mesh)

    @property
    def observe(self) -> Observe | None:
        """What is kept of the vectors; None if nothing is."""
        if self.unfolded is None and self.states is None:
            return None

        def keep(channel: int, index: int, found: Eigenstates, overlap: sp.csr_matrix) -> dict[str, NDArray[Any]]:
            kept = {}
            if self.unfolded is not None:
                k, atoms = self.points.fractional[index], self.matrices.atom_of_row
                kept["weights"] = self.unfolded.weights(found.vectors, overlap, k, atoms)
            if self.states is not None:
                places = self.states - (found.first_band or 0)
                if places[0] < 0 or places[-1] >= len(found.energies):
                    raise InputError(
                        "states outside the bands that are computed",
                        where="wavefunctions",
                        found=f"bands {self.states.tolist()}",
                        expected=f"{found.first_band} to {(found.first_band or 0) + len(found.energies) - 1}",
                        remedy="compute more bands with num_bands",
                    )
                kept["coefficients"], kept["levels"] = found.vectors[:, places], found.energies[places]
            return kept

        return keep

    @property
    def needs_fermi_mesh(self) -> bool:
        """Whether the Fermi level needs k-points besides those asked for."""
        config = self.config
        own = self.weights is not None and config.fermi_mesh is None and self.unfolded is None
        return self.n_electrons is not None and not own

    def solve_share(self, loop: Loop, solver: str) -> int:
        """Solve the share of the k-points that the loop takes, which keeps them; how many there are."""
        if solver == "sparse":
            # Every share needs the Fermi level first; what it rests on is kept whole.
            states = self._sparse(replace(loop, share=(0, 1)), loop)[0].states
        else:
            threshold = self.config.overlap_threshold
            states = dense_spectrum(
                self.matrices, self.kpoints, overlap_threshold=threshold, loop=loop, observe=self.observe
            ).states
            if self.needs_fermi_mesh:
                extra = self.fermi_kpoints()[0]
                dense_spectrum(self.matrices, extra, overlap_threshold=threshold, loop=loop, name="Fermi level")
        return sum(len(channel) for channel in states)

    def dense(self, loop: Loop) -> Solved:
        """All bands at the k-points asked for and on a mesh for the Fermi level."""
        config, weights, mesh = self.config, self.weights, None if self.config.mesh is None else list(self.config.mesh)
        threshold = config.overlap_threshold
        spectrum = dense_spectrum(
            self.matrices, self.kpoints, overlap_threshold=threshold, loop=loop, observe=self.observe
        )
        energies = spectrum.energies
        fermi = None
        if self.n_electrons is not None:
            if self.needs_fermi_mesh:
                extra, extra_weights, mesh = self.fermi_kpoints()
                more = dense_spectrum(
                    self.matrices, extra, overlap_threshold=threshold, loop=loop, name="Fermi level"
                ).energies
                # Points of the path carry no weight, but a state of theirs inside the gap of the mesh closes it.
                n_bands = min(energies.shape[2], more.shape[2])
                energies = np.concatenate([energies[:, :, :n_bands], more[:, :, :n_bands]], axis=1)
                weights = np.concatenate([np.zeros(len(self.kpoints)), extra_weights])
            degeneracy = self.data.spin.electrons_per_state
            fermi = fermi_level(energies, weights, self.n_electrons, degeneracy, config.smearing)
        first, energies = _window(config, spectrum.energies, fermi)
        return Solved(energies, first, spectrum, fermi, None if fermi is None else mesh)

    def sparse(self, loop: Loop) -> Solved:
        """Few bands, and the Fermi level from the states around it."""
        spectrum, fermi, mesh = self._sparse(loop, loop)
        return Solved(spectrum.energies, spectrum.states[0][0].first_band, spectrum, fermi, mesh)

    def _sparse(self, fermi_loop: Loop, loop: Loop) -> tuple[Spectrum, FermiLevel | None, list[int] | None]:
        """Bands, Fermi level and its mesh; the level comes first, as it is what the bands are counted from."""
        config, fermi, mesh = self.config, None, None
        solver = SparseSolver(self.matrices)
        if self.n_electrons is not None:
            kpoints, mesh_weights, mesh = self.fermi_kpoints()
            fermi = fermi_by_inertia(
                solver,
                kpoints,
                mesh_weights,
                self.n_electrons,
                self.data.spin.electrons_per_state,
                config.smearing,
                start=self.data.fermi_energy,
                loop=fermi_loop,
            )
        energy, count = centre_energy(config, fermi), config.num_bands or 1
        spectrum = sparse_spectrum(solver, self.kpoints, energy, count, loop=loop, observe=self.observe)
        return spectrum, fermi, mesh

    def unfolding_result(self, solved: Solved) -> dict[str, Any]:
        """Spectral weights of the bands asked for, and what the unfolding rests on."""
        if self.unfolded is None:
            return {}
        skipped = (solved.first_band or 0) - (solved.spectrum.states[0][0].first_band or 0)
        bands = slice(skipped, skipped + solved.energies.shape[2])
        weights = [
            [states.extras["weights"][bands].tolist() for states in channel] for channel in solved.spectrum.states
        ]
        return {
            "spectral_weights": weights,
            "cell": self.unfolded.cell.tolist(),
            "unfolding": {
                "supercell": self.unfolded.matrix.tolist(),
                "largest_displacement": self.unfolded.displacement,
                "folded_kpoints": self.kpoints.tolist(),
            },
        }

    def write_wavefunctions(self, path: Path, solved: Solved) -> None:
        """The coefficients of the states asked for."""
        assert self.states is not None
        channels = solved.spectrum.states
        coefficients, levels = (
            np.array([[states.extras[name] for states in channel] for channel in channels])
            for name in ("coefficients", "levels")
        )
        write_wavefunctions(path, self.data, self.matrices, self.kpoints, self.states, levels, coefficients)


def _window(
    config: BandsConfig, energies: NDArray[np.float64], fermi: FermiLevel | None
) -> tuple[int, NDArray[np.float64]]:
    """The bands asked for: the same band indices at every k-point."""
    n_bands = energies.shape[2]
    if config.num_bands is None or config.num_bands >= n_bands:
        return 0, energies
    level = centre_energy(config, fermi)
    below = round(float((energies < level).sum(axis=2).mean()))
    first = min(max(below - config.num_bands // 2, 0), n_bands - config.num_bands)
    return first, energies[:, :, first : first + config.num_bands]


def centre_energy(config: BandsConfig, fermi: FermiLevel | None) -> float:
    """The energy around which bands are wanted, eV."""
    if config.around != "fermi":
        return float(config.around)
    if fermi is None:
        raise InputError("Fermi level unknown", where="around", remedy="give an energy with --around E")
    return fermi.level
