"""Fermi level from Chebyshev moments, pinned by exact counts of states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from aiida_deeph.engine.bands.fermi import check_electrons
from aiida_deeph.engine.bands.sparse import SparseSolver

Part = tuple[float, NDArray[np.float64], NDArray[np.float64]]


def step(energies: NDArray[np.float64], broadening: float) -> NDArray[np.float64]:
    """1 below zero and 0 above, as sharp as Gaussians of that width allow, with vanishing second and fourth moments.

    M. Methfessel, A. T. Paxton, Phys. Rev. B 40, 3616 (1989), order two: a plain Gaussian step would shift the level of
    a metal whose density of states is not flat.
    """
    x = energies / (np.sqrt(2) * broadening)
    correction = (-0.5 * x + (x**3 - 1.5 * x) / 4) * np.exp(-np.minimum(x**2, 700.0)) / np.sqrt(np.pi)
    return np.asarray(0.5 * erfc(x) + correction)


def fermi_by_moments(
    parts: Sequence[Part],
    solver: SparseSolver,
    kpoints: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_electrons: float,
    electrons_per_state: int,
    broadening: float,
    counts: int,
) -> dict[str, Any]:
    """The level that holds the electrons, and its standard error.

    The noise of random vectors grows with the number of states counted; between two near energies there are few. So the
    states below the first estimate are counted exactly (Sylvester inertia of H - E S at every k-point), the moments
    give only the rest, and so on.

    :param parts: weight, energies (n,) and counts (n, n_vectors) of the pseudo-levels of each channel and k-point.
    :param broadening: Gaussian width that the moments resolve, eV.
    :param counts: exact counts at most, one factorisation each per k-point and channel.
    :return: `level`, `uncertainty` (standard error), `dos_at_level` (electrons/eV), `exact_counts` and as much of
        `FermiLevel` as is known; eV.
    :raises InputError: the bands cannot hold the electrons.
    """
    check_electrons(n_electrons, solver.matrices.n_rows * solver.matrices.n_channels, electrons_per_state)

    def filled(energy: float) -> NDArray[np.float64]:
        """Electrons below an energy by each random vector, shape (n_vectors,)."""
        shares = [w * (step(e - energy, broadening) @ c) for w, e, c in parts]
        return electrons_per_state * np.sum(shares, axis=0)

    low = bottom = min(float(e.min()) for _, e, _ in parts)
    high = top = max(float(e.max()) for _, e, _ in parts)

    def solve(wanted: float) -> float:
        below, above = bottom, top
        while above - below > 1e-6:
            middle = (below + above) / 2
            below, above = (middle, above) if filled(middle).mean() < wanted else (below, middle)
        return (below + above) / 2

    level = solve(n_electrons)
    noise = filled(level)
    counted = 0
    for _ in range(counts):
        exact = sum(
            w * electrons_per_state * solver.count_below(k, level, channel)
            for w, k in zip(weights, kpoints, strict=True)
            for channel in range(solver.matrices.n_channels)
        )
        counted += 1
        before, missing = level, n_electrons - exact
        low, high = (level, high) if missing > 0 else (low, level)
        if abs(missing) < 1e-6 * n_electrons:  # in a gap, or right between two states
            noise = np.zeros_like(noise)
            break
        level = solve(filled(before).mean() + missing)
        if not low < level < high:
            level = (low + high) / 2
        noise = filled(level) - filled(before)
    slope = max(float((filled(level + broadening) - filled(level - broadening)).mean()) / (2 * broadening), 1e-12)
    error = float(noise.std(ddof=1) / np.sqrt(len(noise)))
    return {
        "level": float(level),
        "uncertainty": max(error, electrons_per_state / 2) / slope,
        "dos_at_level": slope,
        "exact_counts": counted,
        "smearing": 0.0,
        "insulator": None,
        "valence_maximum": None,
        "conduction_minimum": None,
        "gap": None,
    }
