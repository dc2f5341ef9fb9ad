"""Any list of k-points as the straight pieces that OpenMX's `Band.kpath` takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError

# Points of a piece lie this close to even spacing, fractions of the reciprocal lattice vectors.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Piece:
    """Points `first` .. `first + count - 1` of the list, evenly spaced on a straight line.

    OpenMX cannot take a single point: such a piece is written as two equal points, of which the second is dropped.
    """

    first: int
    count: int

    @property
    def written(self) -> int:
        """Points that OpenMX computes."""
        return max(2, self.count)


def straight_pieces(kpoints: NDArray[np.float64]) -> tuple[Piece, ...]:
    """Longest straight pieces from the beginning on; no point belongs to two of them.

    :param kpoints: fractional, shape (n_k, 3).
    """
    pieces = []
    first, n = 0, len(kpoints)
    while first < n:
        count = min(2, n - first)
        step = kpoints[first + count - 1] - kpoints[first]
        while first + count < n and np.abs(kpoints[first] + count * step - kpoints[first + count]).max() < TOLERANCE:
            count += 1
        pieces.append(Piece(first, count))
        first += count
    return tuple(pieces)


def rows_of(kpoints: NDArray[np.float64], computed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row of OpenMX's list that holds each k-point of the list asked for, shape (n_k,).

    :param computed: k-points in the order of the `.Band` file, shape (n, 3).
    :raises DataError: they are not the points asked for.
    """
    pieces = straight_pieces(kpoints)
    starts = np.cumsum([0, *(piece.written for piece in pieces)])
    rows = np.concatenate([start + np.arange(piece.count) for start, piece in zip(starts, pieces, strict=False)])
    if len(computed) != starts[-1] or np.abs(computed[rows] - kpoints).max() > 1e-6:
        raise DataError(
            "other k-points than those asked for",
            where=".Band file",
            found=f"{len(computed)} points",
            expected=f"the {len(kpoints)} points of the input, {starts[-1]} with repetitions",
        )
    return rows
