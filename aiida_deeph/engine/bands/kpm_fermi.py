"""Fermi level from Chebyshev moments, with its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

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
    parts: Sequence[Part], n_electrons: float, electrons_per_state: int, broadening: float
) -> dict[str, Any]:
    """The level that holds the electrons. Its noise is that of the number of all states below it.

    :param parts: weight, energies (n,) and counts (n, n_vectors) of the pseudo-levels of each channel and k-point.
    :param n_electrons: in the cell; no more than the states hold.
    :param broadening: Gaussian width that the moments resolve, eV.
    :return: `level`, `uncertainty` (standard error, half a state at least), `dos_at_level` (electrons/eV), and the
        fields of `FermiLevel` of which nothing is known as None; eV.
    """

    def filled(energy: float) -> NDArray[np.float64]:
        """Electrons below an energy by each random vector, shape (n_vectors,)."""
        shares = [w * (step(e - energy, broadening) @ c) for w, e, c in parts]
        return electrons_per_state * np.sum(shares, axis=0)

    low, high = min(float(e.min()) for _, e, _ in parts), max(float(e.max()) for _, e, _ in parts)
    while high - low > 1e-6:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if filled(middle).mean() < n_electrons else (low, middle)
    level = (low + high) / 2
    noise = filled(level)
    slope = float((filled(level + broadening) - filled(level - broadening)).mean()) / (2 * broadening)
    error = float(noise.std(ddof=1) / np.sqrt(len(noise)))
    return {
        "level": level,
        "uncertainty": max(error, electrons_per_state / 2) / max(slope, 1e-12),
        "dos_at_level": slope,
        "smearing": 0.0,
        "insulator": None,
        "valence_maximum": None,
        "conduction_minimum": None,
        "gap": None,
    }
