"""Density of states: levels on a mesh with Gaussian broadening, resolved by element, shell, atom and spin."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.kpoints import check_directions, gamma_mesh, mesh_for_spacing, periodic_directions
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.solvers import DENSE_LIMIT
from aiida_deeph.engine.observables.config import DosConfig
from aiida_deeph.engine.observables.dos_levels import REACH, Found, Levels, LevelsJob
from aiida_deeph.engine.observables.output import describe, electrons_of, read_folder, write_json
from aiida_deeph.engine.observables.projection import projection
from aiida_deeph.engine.system import peak_memory_gib

MOMENTS_WINDOW = (-10.0, 5.0)
"""Energies from the Fermi level (eV) that `auto` resolves in a large system: those far above cost and mean nothing."""

SPARSE_LIMIT = 40_000
"""Rows of H(k) up to which `auto` computes every state inside a window."""


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


def run_dos(config: DosConfig, *, show_progress: bool | None = None) -> Path:
    """Compute the density of states that a configuration describes and write it.

    :returns: the file written.
    :raises DeepHError: one line about what is wrong; nothing is written then.
    """
    started = time.perf_counter()
    data = read_folder(config.folder)
    if config.spacing is not None:
        mesh = mesh_for_spacing(data.structure.cell, periodic_directions(data), config.spacing)
        config = config.model_copy(update={"mesh": mesh, "spacing": None})
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
    method = choose_method(config, matrices.n_rows)
    if method == "kpm" and config.method == "auto" and config.window is None and n_electrons is not None:
        config = config.model_copy(update={"window": MOMENTS_WINDOW})
    kpoints, weights = gamma_mesh(config.mesh, time_reversal=matrices.is_real_in_space)
    check_directions(kpoints, data.structure.pbc, f"mesh {list(config.mesh)}")
    groups = projection(data, shells=config.projected, atoms=config.atoms)
    job = LevelsJob(config, data, matrices, kpoints, weights, groups, n_electrons, show_progress)
    methods = {"exact": job.dense, "sparse": job.sparse, "kpm": job.kpm}
    found = methods[method]()

    grid = _grid(config, found)
    degeneracy = data.spin.electrons_per_state
    by_spin = np.zeros((matrices.n_channels, len(grid)))
    columns = np.zeros((len(grid), len(groups)))
    by_vector = np.zeros((len(grid), config.n_vectors))
    for part in found.levels:
        factor = degeneracy * part.weight
        curve = gaussian_dos(grid, part.energies, factor * part.counts, config.broadening)
        by_spin[part.channel] += curve if curve.ndim == 1 else curve.mean(axis=1)
        if curve.ndim == 2:
            by_vector += curve
        if part.shares is not None:
            columns += gaussian_dos(grid, part.energies, factor * part.shares, config.broadening)

    fermi = found.fermi
    result = {
        **describe(data, config.folder),
        "energies": grid.tolist(),
        "dos": by_spin.sum(axis=0).tolist(),
        "dos_units": "states/eV/cell",
        "dos_error": (by_vector.std(axis=1, ddof=1) / config.n_vectors**0.5).tolist()
        if found.method == "kpm"
        else None,
        **groups.named(columns),
        "dos_by_spin": by_spin.tolist() if len(by_spin) == 2 else None,
        "broadening": config.broadening,
        "mesh": list(config.mesh),
        "n_kpoints": len(kpoints),
        "n_electrons": n_electrons,
        "fermi_level": None if fermi is None else fermi["level"],
        "fermi": fermi,
        "levels_near_fermi": None if fermi is None or found.method == "kpm" else _near(found.levels, fermi["level"]),
        "smallest_overlap_eigenvalue": found.smallest_overlap,
        "overlap_threshold": config.overlap_threshold,
        "dropped_states": found.n_dropped,
        "method": found.method,
        **found.details,
        "seconds": time.perf_counter() - started,
        "peak_memory_gib": peak_memory_gib(),
    }
    return write_json(Path(config.output), result)


def choose_method(config: DosConfig, n_rows: int) -> str:
    """All eigenvalues of small systems, those in a window of large ones, moments for the whole spectrum of these."""
    if config.method == "sparse" and config.window is None:
        raise InputError(
            "whole spectrum by the sparse solver",
            where="window",
            found=f"{n_rows} orbitals and no window",
            expected="a window around the Fermi level",
            remedy="give --window LOW HIGH in eV, or take --method kpm",
        )
    if config.method != "auto":
        return config.method
    if n_rows <= DENSE_LIMIT:
        return "exact"
    return "kpm" if config.window is None or n_rows > SPARSE_LIMIT else "sparse"


def _grid(config: DosConfig, found: Found) -> NDArray[np.float64]:
    energies = np.concatenate([part.energies for part in found.levels] or [np.zeros(0)])
    if config.window is None or found.fermi is None:
        margin = 6 * config.broadening
        return np.linspace(energies.min() - margin, energies.max() + margin, config.n_points)
    low, high = (found.fermi["level"] + edge for edge in config.window)
    margin = REACH * config.broadening
    if high <= low or not ((energies >= low - margin) & (energies <= high + margin)).any():
        raise InputError(
            "energy window without states",
            where="window",
            found=f"{low:g} to {high:g} eV",
            expected="a window that holds states" if high > low else "the lower end first",
            remedy=f"window counts from the Fermi level, which is at {found.fermi['level']:.3f} eV",
        )
    return np.linspace(low, high, config.n_points)


def _near(levels: list[Levels], level: float, count: int = 20) -> list[float]:
    """The eigenvalues nearest to the Fermi level, ascending."""
    e = np.sort(np.concatenate([part.energies for part in levels]))
    nearest = np.argsort(np.abs(e - level), kind="stable")[:count]
    return sorted(float(x) for x in e[nearest])
