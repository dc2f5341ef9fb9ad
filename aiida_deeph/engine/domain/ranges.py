"""Distances that a model was trained on, and pairs of atoms outside of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.neighbours import pair_distances, pair_key
from aiida_deeph.engine.domain.structure import Structure

Ranges = dict[str, list[tuple[float, float]]]

GAP = 0.1
"""Two distances further apart belong to two ranges, Angstrom: between them a model interpolates at most this far."""
TOLERANCE = 0.005
"""A pair that leaves a range by less is within it, Angstrom."""
NAMED = 10
"""So many pairs are named, the furthest outside first."""


def trained_ranges(members: Iterable[Mapping[str, NDArray[np.float64]]]) -> Ranges:
    """Ranges of distances that occur, by pair of elements, ascending, Angstrom.

    :param members: distances of the pairs of two atoms by pair of elements, keys of `pair_key`.
    """
    found: Ranges = {}
    for member in members:
        for key, distances in member.items():
            own = [(float(d), float(d)) for d in np.unique(np.round(distances, 4))]
            found[key] = _joined([*found.get(key, []), *own])
    return dict(sorted(found.items()))


def outside_ranges(ranges: Mapping[str, Any], structure: Structure, atom_pairs: NDArray[np.int64]) -> dict[str, Any]:
    """Pairs whose distance lies in no range of their elements.

    :param ranges: of `trained_ranges`.
    :return: `n_pairs`, `largest_excess_A` (distance from the nearest range), and the furthest `pairs` by name.
    """
    rows: list[tuple[float, str, float, int]] = []
    n_outside = 0
    places = _places(structure, atom_pairs)
    for key, own in places.items():
        distances = pair_distances(structure, atom_pairs[own])
        limits = np.array(ranges.get(key) or [(np.inf, np.inf)], dtype=np.float64)
        below = limits[None, :, 0] - distances[:, None]
        above = distances[:, None] - limits[None, :, 1]
        excess = np.maximum(np.maximum(below, above), 0).min(axis=1)
        far = np.flatnonzero(excess > TOLERANCE)
        n_outside += len(far)
        worst = far[np.argsort(-excess[far], kind="stable")[:NAMED]]
        rows += [(float(excess[n]), key, float(distances[n]), int(own[n])) for n in worst]
    rows.sort(key=lambda row: -row[0])
    return {
        "n_pairs": n_outside,
        "largest_excess_A": _finite(rows[0][0]) if rows else 0.0,
        "pairs": [
            {"elements": key, "distance_A": distance, "excess_A": _finite(excess), "pair": atom_pairs[row].tolist()}
            for excess, key, distance, row in rows[:NAMED]
        ],
    }


def _finite(value: float) -> float | None:
    """None for a pair of elements of which no distance was trained on."""
    return value if np.isfinite(value) else None


def _places(structure: Structure, atom_pairs: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Rows of the pairs of two atoms, by pair of elements."""
    symbols = np.array(structure.symbols)
    is_site = (atom_pairs[:, 3] == atom_pairs[:, 4]) & ~atom_pairs[:, :3].any(axis=1)
    first, second = symbols[atom_pairs[:, 3]], symbols[atom_pairs[:, 4]]
    result: dict[str, list[NDArray[np.int64]]] = {}
    for a in structure.elements:
        for b in structure.elements:
            rows = np.flatnonzero((first == a) & (second == b) & ~is_site)
            if len(rows):
                result.setdefault(pair_key(a, b), []).append(rows)
    return {key: np.concatenate(rows) for key, rows in result.items()}


def _joined(ranges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Ranges closer than `GAP` made one."""
    result: list[tuple[float, float]] = []
    for low, high in sorted(ranges):
        if result and low - result[-1][1] <= GAP:
            result[-1] = (result[-1][0], max(result[-1][1], high))
        else:
            result.append((low, high))
    return result
