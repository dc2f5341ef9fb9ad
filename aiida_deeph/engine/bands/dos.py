"""Density of states: eigenvalues on a mesh with Gaussian broadening, resolved by element and spin."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.bands.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.bands.config import DosConfig
from aiida_deeph.engine.bands.dense import Eigenstates
from aiida_deeph.engine.bands.fermi import FermiLevel, fermi_level, gamma_mesh
from aiida_deeph.engine.bands.kpath import check_directions
from aiida_deeph.engine.bands.levels import fermi_by_inertia
from aiida_deeph.engine.bands.memory import peak_memory_gib
from aiida_deeph.engine.bands.output import describe, electrons_of, read_folder, write_json
from aiida_deeph.engine.bands.slices import states_between
from aiida_deeph.engine.bands.solvers import DENSE_LIMIT, dense_spectrum
from aiida_deeph.engine.bands.sparse import SparseSolver, smallest_overlap
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.progress import track

REACH = 6.0
"""Widths after which a Gaussian has ended: 2e-9 of its height."""


def gaussian_dos(grid: ArrayLike, energies: ArrayLike, weights: ArrayLike, broadening: float) -> NDArray[np.float64]:
    """Sum of weighted normalised Gaussians, exp(-(x - E)^2 / (2 w^2)) / (w sqrt(2 pi)).

    :param grid: ascending and equally spaced, eV, shape (n_points,).
    :param energies: eV, shape (n,).
    :param weights: states that each energy counts for, shape (n,) or (n, n_columns).
    :param broadening: standard deviation w, eV; Gaussians end at `REACH` times w.
    :return: states/eV, shape (n_points,) or (n_points, n_columns).
    """
    x, e = np.asarray(grid, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    w = np.asarray(weights, dtype=np.float64)
    result = np.zeros((len(x), *w.shape[1:]))
    first = np.searchsorted(x, e - REACH * broadening)
    last = np.searchsorted(x, e + REACH * broadening)
    norm = 1 / (broadening * np.sqrt(2 * np.pi))
    for n in np.flatnonzero(last > first):
        part = slice(first[n], last[n])
        shape = norm * np.exp(-(((x[part] - e[n]) / broadening) ** 2) / 2)
        result[part] += np.multiply.outer(shape, w[n])
    return result


@dataclass(frozen=True)
class Levels:
    """Eigenvalues of one spin channel at one k-point.

    :param weight: of the k-point.
    :param energies: eV, shape (n,).
    :param shares: Mulliken share of each element in each state, shape (n, n_elements); None if not wanted.
    """

    channel: int
    weight: float
    energies: NDArray[np.float64]
    shares: NDArray[np.float64] | None


@dataclass(frozen=True)
class Found:
    """Levels of all spin channels and k-points, and what they say about the system."""

    levels: list[Levels]
    fermi: FermiLevel | None
    smallest_overlap: float | None
    n_dropped: int
    method: Literal["exact", "sparse"]


def run_dos(config: DosConfig, *, show_progress: bool | None = None) -> Path:
    """Compute the density of states that a configuration describes and write it.

    :returns: the file written.
    :raises DeepHError: one line about what is wrong; nothing is written then.
    """
    started = time.perf_counter()
    data = read_folder(config.folder)
    n_electrons = electrons_of(data, config.n_electrons)
    if config.window is not None and n_electrons is None:
        raise InputError(
            "window without a Fermi level",
            where="window",
            found="no number of electrons in the folder",
            expected="`occupation` in info.json",
            remedy="give n_electrons, or leave the window out",
        )
    matrices = bloch_matrices(data, config.folder)
    kpoints, weights = gamma_mesh(config.mesh, time_reversal=matrices.is_real_in_space)
    check_directions(kpoints, data.structure.pbc, f"mesh {list(config.mesh)}")
    elements = data.structure.elements
    job = _Job(config, data, matrices, kpoints, weights, n_electrons, show_progress)
    found = job.sparse() if _is_sparse(config, matrices.n_rows) else job.dense()

    grid = _grid(config, found)
    degeneracy = data.spin.electrons_per_state
    by_spin = np.zeros((matrices.n_channels, len(grid)))
    columns = np.zeros((len(grid), len(elements)))
    for part in found.levels:
        factor = degeneracy * part.weight
        by_spin[part.channel] += gaussian_dos(
            grid, part.energies, np.full(len(part.energies), factor), config.broadening
        )
        if part.shares is not None:
            columns += gaussian_dos(grid, part.energies, factor * part.shares, config.broadening)

    fermi = found.fermi
    result = {
        **describe(data, config.folder),
        "energies": grid.tolist(),
        "dos": by_spin.sum(axis=0).tolist(),
        "dos_units": "states/eV/cell",
        "dos_by_element": {e: columns[:, n].tolist() for n, e in enumerate(elements)} if config.projected else None,
        "dos_by_spin": by_spin.tolist() if len(by_spin) == 2 else None,
        "broadening": config.broadening,
        "mesh": list(config.mesh),
        "n_kpoints": len(kpoints),
        "n_electrons": n_electrons,
        "fermi_level": None if fermi is None else fermi.level,
        "fermi": None if fermi is None else fermi.as_dict(),
        "levels_near_fermi": None if fermi is None else _near(found.levels, fermi.level),
        "smallest_overlap_eigenvalue": found.smallest_overlap,
        "overlap_threshold": config.overlap_threshold,
        "dropped_states": found.n_dropped,
        "method": found.method,
        "seconds": time.perf_counter() - started,
        "peak_memory_gib": peak_memory_gib(),
    }
    return write_json(Path(config.output), result)


def _is_sparse(config: DosConfig, n_rows: int) -> bool:
    """Whether states are computed slice by slice inside the window, as large systems need it."""
    sparse = config.method == "sparse" or (config.method == "auto" and n_rows > DENSE_LIMIT)
    if sparse and config.window is None:
        raise InputError(
            "whole spectrum of a large system",
            where="window",
            found=f"{n_rows} orbitals and no window",
            expected="a window around the Fermi level",
            remedy="give --window LOW HIGH in eV, or --method exact if there is time and memory",
        )
    return sparse


@dataclass(frozen=True)
class _Job:
    config: DosConfig
    data: RealSpaceHamiltonian
    matrices: BlochMatrices
    kpoints: NDArray[np.float64]
    weights: NDArray[np.float64]
    n_electrons: float | None
    show_progress: bool | None

    def shares(self, vectors: NDArray[Any], overlap: sp.csr_matrix) -> NDArray[np.float64]:
        """Mulliken share of each element in each state, sum over its rows of Re c^* (S c)."""
        elements, symbols = self.data.structure.elements, self.data.structure.symbols
        element_of_row = np.array([elements.index(symbol) for symbol in symbols])[self.matrices.atom_of_row]
        populations = (vectors.conj() * (overlap @ vectors)).real
        return np.stack([populations[element_of_row == n].sum(axis=0) for n in range(len(elements))], axis=1)

    def dense(self) -> Found:
        """All levels by dense diagonalisation."""
        shares: dict[tuple[int, int], NDArray[np.float64]] = {}

        def project(channel: int, index: int, states: Eigenstates, overlap: sp.csr_matrix) -> None:
            shares[channel, index] = self.shares(states.vectors, overlap)

        spectrum = dense_spectrum(
            self.matrices,
            self.kpoints,
            overlap_threshold=self.config.overlap_threshold,
            show_progress=self.show_progress,
            observe=project if self.config.projected else None,
        )
        fermi = None
        if self.n_electrons is not None:
            degeneracy = self.data.spin.electrons_per_state
            fermi = fermi_level(spectrum.energies, self.weights, self.n_electrons, degeneracy, self.config.smearing)
        levels = [
            Levels(channel, float(self.weights[index]), states.energies, shares.get((channel, index)))
            for channel, all_states in enumerate(spectrum.states)
            for index, states in enumerate(all_states)
        ]
        return Found(levels, fermi, spectrum.smallest_overlap, spectrum.n_dropped, "exact")

    def sparse(self) -> Found:
        """The levels inside the window, and those just outside whose broadening reaches into it."""
        solver = SparseSolver(self.matrices)
        fermi = fermi_by_inertia(
            solver,
            self.kpoints,
            self.weights,
            self.n_electrons or 0.0,
            self.data.spin.electrons_per_state,
            self.config.smearing,
            start=self.data.fermi_energy,
            show_progress=self.show_progress,
        )
        low, high = (fermi.level + edge for edge in self.config.window or (0.0, 0.0))
        margin = REACH * self.config.broadening
        levels = []
        tasks = [(c, n) for c in range(self.matrices.n_channels) for n in range(len(self.kpoints))]
        for channel, index in track(tasks, "k-points", show=self.show_progress):
            k = self.kpoints[index]
            overlap = self.matrices.at(k, channel)[1]
            pieces: list[tuple[NDArray[np.float64], NDArray[np.float64] | None]] = []

            def collect(
                energies: NDArray[np.float64],
                vectors: NDArray[Any],
                overlap: sp.csr_matrix = overlap,
                pieces: list[Any] = pieces,
            ) -> None:
                pieces.append((energies, self.shares(vectors, overlap) if self.config.projected else None))

            states_between(solver, k, low - margin, high + margin, channel=channel, start=fermi.level, observe=collect)
            for energies, shares in pieces:
                levels.append(Levels(channel, float(self.weights[index]), energies, shares))
        smallest = smallest_overlap(self.matrices.at(self.kpoints[0])[1])
        return Found(levels, fermi, smallest, 0, "sparse")


def _grid(config: DosConfig, found: Found) -> NDArray[np.float64]:
    energies = np.concatenate([part.energies for part in found.levels] or [np.zeros(0)])
    if config.window is None or found.fermi is None:
        margin = 6 * config.broadening
        return np.linspace(energies.min() - margin, energies.max() + margin, config.n_points)
    low, high = (found.fermi.level + edge for edge in config.window)
    margin = REACH * config.broadening
    if high <= low or not ((energies >= low - margin) & (energies <= high + margin)).any():
        raise InputError(
            "energy window without states",
            where="window",
            found=f"{low:g} to {high:g} eV",
            expected="a window that holds states" if high > low else "the lower end first",
            remedy=f"window counts from the Fermi level, which is at {found.fermi.level:.3f} eV",
        )
    return np.linspace(low, high, config.n_points)


def _near(levels: list[Levels], level: float, count: int = 20) -> list[float]:
    """The eigenvalues nearest to the Fermi level, ascending."""
    e = np.sort(np.concatenate([part.energies for part in levels]))
    nearest = np.argsort(np.abs(e - level), kind="stable")[:count]
    return sorted(float(x) for x in e[nearest])
