"""Density of states: exact eigenvalues on a mesh with Gaussian broadening, resolved by element and spin."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.bands.bloch import bloch_matrices
from aiida_deeph.engine.bands.config import DosConfig
from aiida_deeph.engine.bands.dense import Eigenstates
from aiida_deeph.engine.bands.fermi import fermi_level, gamma_mesh
from aiida_deeph.engine.bands.kpath import check_directions
from aiida_deeph.engine.bands.memory import peak_memory_gib
from aiida_deeph.engine.bands.output import describe, electrons_of, read_folder, write_json
from aiida_deeph.engine.bands.solvers import dense_spectrum
from aiida_deeph.engine.errors import InputError


def gaussian_dos(
    grid: ArrayLike, energies: ArrayLike, weights: ArrayLike, broadening: float, *, reach: float = 8.0
) -> NDArray[np.float64]:
    """Sum of weighted normalised Gaussians, exp(-(x - E)^2 / (2 w^2)) / (w sqrt(2 pi)).

    :param grid: ascending and equally spaced, eV, shape (n_points,).
    :param energies: eV, shape (n,).
    :param weights: states that each energy counts for, shape (n,) or (n, n_columns).
    :param broadening: standard deviation w, eV.
    :param reach: Gaussians are cut off at this many standard deviations.
    :return: states/eV, shape (n_points,) or (n_points, n_columns).
    """
    x, e = np.asarray(grid, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    w = np.asarray(weights, dtype=np.float64)
    result = np.zeros((len(x), *w.shape[1:]))
    first = np.searchsorted(x, e - reach * broadening)
    last = np.searchsorted(x, e + reach * broadening)
    norm = 1 / (broadening * np.sqrt(2 * np.pi))
    for n in np.flatnonzero(last > first):
        part = slice(first[n], last[n])
        shape = norm * np.exp(-(((x[part] - e[n]) / broadening) ** 2) / 2)
        result[part] += np.multiply.outer(shape, w[n])
    return result


def run_dos(config: DosConfig, *, show_progress: bool | None = None) -> Path:
    """Compute the density of states that a configuration describes and write it.

    :returns: the file written.
    :raises DeepHError: one line about what is wrong; nothing is written then.
    """
    started = time.perf_counter()
    data = read_folder(config.folder)
    matrices = bloch_matrices(data, config.folder)
    kpoints, weights = gamma_mesh(config.mesh, time_reversal=matrices.is_real_in_space)
    check_directions(kpoints, data.structure.pbc, f"mesh {list(config.mesh)}")

    elements = data.structure.elements
    element_of_row = np.array([elements.index(symbol) for symbol in data.structure.symbols])[matrices.atom_of_row]
    shares: dict[tuple[int, int], NDArray[np.float64]] = {}

    def project(channel: int, index: int, states: Eigenstates, overlap: Any) -> None:
        """Mulliken share of each element in each state, sum over its rows of Re c^* (S c)."""
        populations = (states.vectors.conj() * (overlap @ states.vectors)).real
        shares[channel, index] = np.stack(
            [populations[element_of_row == n].sum(axis=0) for n in range(len(elements))], axis=1
        )

    spectrum = dense_spectrum(
        matrices,
        kpoints,
        overlap_threshold=config.overlap_threshold,
        show_progress=show_progress,
        observe=project if config.projected else None,
    )
    energies = spectrum.energies
    degeneracy = data.spin.electrons_per_state
    n_electrons = electrons_of(data, config.n_electrons)
    fermi = None if n_electrons is None else fermi_level(energies, weights, n_electrons, degeneracy, config.smearing)

    grid = _grid(config, energies, None if fermi is None else fermi.level)
    columns = np.zeros((len(grid), len(elements)))
    by_spin = []
    for channel in range(matrices.n_channels):
        total = np.zeros(len(grid))
        for index, weight in enumerate(weights):
            e = spectrum.states[channel][index].energies
            total += gaussian_dos(grid, e, np.full(len(e), degeneracy * weight), config.broadening)
            if config.projected:
                columns += gaussian_dos(grid, e, degeneracy * weight * shares[channel, index], config.broadening)
        by_spin.append(total)

    result = {
        **describe(data, config.folder),
        "energies": grid.tolist(),
        "dos": np.sum(by_spin, axis=0).tolist(),
        "dos_units": "states/eV/cell",
        "dos_by_element": {e: columns[:, n].tolist() for n, e in enumerate(elements)} if config.projected else None,
        "dos_by_spin": [total.tolist() for total in by_spin] if len(by_spin) == 2 else None,
        "broadening": config.broadening,
        "mesh": list(config.mesh),
        "n_kpoints": len(kpoints),
        "n_electrons": n_electrons,
        "fermi_level": None if fermi is None else fermi.level,
        "fermi": None if fermi is None else fermi.as_dict(),
        "levels_near_fermi": None if fermi is None else _near(energies, fermi.level),
        "smallest_overlap_eigenvalue": spectrum.smallest_overlap,
        "overlap_threshold": config.overlap_threshold,
        "dropped_states": spectrum.n_dropped,
        "method": "exact",
        "seconds": time.perf_counter() - started,
        "peak_memory_gib": peak_memory_gib(),
    }
    return write_json(Path(config.output), result)


def _grid(config: DosConfig, energies: NDArray[np.float64], level: float | None) -> NDArray[np.float64]:
    if config.window is None:
        margin = 6 * config.broadening
        return np.linspace(energies.min() - margin, energies.max() + margin, config.n_points)
    if level is None:
        raise InputError(
            "window without a Fermi level",
            where="window",
            found="no number of electrons in the folder",
            expected="`occupation` in info.json",
            remedy="give n_electrons, or leave the window out",
        )
    low, high = config.window[0] + level, config.window[1] + level
    inside = (energies >= low - 6 * config.broadening) & (energies <= high + 6 * config.broadening)
    if high <= low or not inside.any():
        raise InputError(
            "energy window without states",
            where="window",
            found=f"{low:g} to {high:g} eV",
            expected=f"a part of {energies.min():g} to {energies.max():g} eV",
            remedy="window counts from the Fermi level, lower end first",
        )
    return np.linspace(low, high, config.n_points)


def _near(energies: NDArray[np.float64], level: float, count: int = 20) -> list[float]:
    """The eigenvalues nearest to the Fermi level, ascending."""
    e = np.sort(energies.ravel())
    nearest = np.argsort(np.abs(e - level), kind="stable")[:count]
    return sorted(float(x) for x in e[nearest])
