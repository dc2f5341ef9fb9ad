"""Fermi level, band edges and occupations from eigenvalues on a k-mesh: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from aiida_deeph.engine.errors import InputError

ROOM_TEMPERATURE = 8.617333262e-5 * 300
"""k_B * 300 K in eV."""

SMALLEST_GAP = 1e-3
"""Gaps below this (eV) count as closed: the level is then found by smearing."""


@dataclass(frozen=True)
class FermiLevel:
    """Where the electrons end.

    :param level: middle of the gap of an insulator, chemical potential of a metal, eV.
    :param insulator: whether a gap separates full from empty bands at every k-point.
    :param valence_maximum: highest energy of the full bands, eV; None for a metal.
    :param conduction_minimum: lowest energy of the empty bands, eV; None for a metal or if no empty band was computed.
    :param gap: eV; 0 for a metal, None if no empty band was computed.
    :param smearing: width of the Fermi-Dirac distribution used, eV; 0 for an insulator.
    """

    level: float
    insulator: bool
    valence_maximum: float | None
    conduction_minimum: float | None
    gap: float | None
    smearing: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def check_electrons(n_electrons: float | None, n_states: int, electrons_per_state: int) -> None:
    """Refuse a number of electrons that the states cannot hold; None is not known and passes.

    :raises InputError: too many, or none.
    """
    capacity = n_states * electrons_per_state
    if n_electrons is not None and not 0 < n_electrons <= capacity + 1e-9:
        raise InputError(
            "electrons do not fit into the bands",
            where="n_electrons",
            found=f"{n_electrons:g}",
            expected=f"more than 0 and at most {capacity:g}",
            remedy="check `occupation` in info.json",
        )


def n_occupied_bands(n_electrons: float, electrons_per_state: int) -> int | None:
    """Full bands of an insulator without spin polarisation; None if the electrons do not fill whole bands."""
    bands = n_electrons / electrons_per_state
    return round(bands) if abs(bands - round(bands)) < 1e-6 else None


def fermi_level(
    energies: ArrayLike,
    weights: ArrayLike,
    n_electrons: float,
    electrons_per_state: int,
    smearing: float = ROOM_TEMPERATURE,
) -> FermiLevel:
    """Find the level that holds the electrons.

    Insulator: each spin channel has the same number of bands below the level at every k-point and the gap exceeds
    1 meV; the level is the middle of the gap. Otherwise Fermi-Dirac occupations of width `smearing` give the chemical
    potential.

    :param energies: shape (n_spin, n_k, n_bands), eV, from the lowest band on.
    :param weights: of the k-points, sum 1, shape (n_k,).
    :param electrons_per_state: 2 without spin, 1 with it.
    :raises InputError: the bands cannot hold the electrons.
    """
    e = np.asarray(energies, dtype=np.float64)
    w = np.asarray(weights, dtype=np.float64)
    n_spin, _, n_bands = e.shape
    check_electrons(n_electrons, n_spin * n_bands, electrons_per_state)
    e = np.sort(e, axis=-1)
    gapped = _insulator(e, n_electrons, electrons_per_state)
    if gapped is not None:
        return gapped
    level = chemical_potential(e, w, n_electrons, electrons_per_state, smearing)
    return FermiLevel(level, False, None, None, 0.0, smearing)


def _insulator(e: NDArray[np.float64], n_electrons: float, electrons_per_state: int) -> FermiLevel | None:
    """Bands of all channels ordered by their k-averaged energy are filled one after the other."""
    n_full = n_occupied_bands(n_electrons, electrons_per_state)
    if n_full is None:
        return None
    tops, bottoms = e.max(axis=1).ravel(), e.min(axis=1).ravel()
    order = np.argsort(bottoms + tops, kind="stable")
    highest = float(tops[order[:n_full]].max())
    if n_full == len(order):
        return FermiLevel(highest, True, highest, None, None, 0.0)
    lowest = float(bottoms[order[n_full:]].min())
    if lowest - highest <= SMALLEST_GAP:
        return None
    return FermiLevel((highest + lowest) / 2, True, highest, lowest, lowest - highest, 0.0)


def occupations(energies: NDArray[np.float64], level: float, smearing: float) -> NDArray[np.float64]:
    """Fermi-Dirac distribution 1 / (exp((E - level) / smearing) + 1)."""
    return np.asarray(0.5 * (1 - np.tanh((energies - level) / (2 * smearing))))


def chemical_potential(
    energies: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_electrons: float,
    electrons_per_state: int,
    smearing: float,
) -> float:
    """Level at which Fermi-Dirac occupations sum to the electrons, by bisection to 1e-10 eV.

    :param energies: shape (n_spin, n_k, n_bands), eV.
    :param weights: shape (n_k,), sum 1.
    """
    low, high = energies.min() - 40 * smearing, energies.max() + 40 * smearing
    while high - low > 1e-10:
        middle = (low + high) / 2
        filled = electrons_per_state * np.einsum("skb,k->", occupations(energies, middle, smearing), weights)
        if middle in (low, high):
            break
        low, high = (middle, high) if filled < n_electrons else (low, middle)
    return float((low + high) / 2)


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
        return np.asarray(electrons_per_state * np.sum(shares, axis=0))

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
