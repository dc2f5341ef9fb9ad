"""All states in a window of energies of a large system: slice by slice, none missed, none twice.

Each slice is one factorisation and one Lanczos run; the inertia tells the index of its states, so that slices join
(spectrum slicing, R. G. Grimes, J. G. Lewis, H. D. Simon, SIAM J. Matrix Anal. Appl. 15, 228 (1994)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.sparse import Shifted, SparseSolver

Observe = Callable[[NDArray[np.float64], NDArray[Any]], None]


def states_between(
    solver: SparseSolver,
    k: ArrayLike,
    low: float,
    high: float,
    *,
    channel: int = 0,
    start: float | None = None,
    per_side: int = 80,
    observe: Observe | None = None,
    where: str = "",
) -> tuple[NDArray[np.float64], int]:
    """Every eigenvalue in [low, high] at one k-point, ascending, and the index of the first among all bands.

    :param start: energy of the first slice; None takes the middle.
    :param per_side: states computed on each side of a shift.
    :param observe: called with the energies and vectors of each slice.
    :raises DataError: two slices do not join: a state was missed.
    """
    job = _Slices(solver, k, low, high, channel, per_side, observe, where)
    middle = (low + high) / 2 if start is None else min(max(start, low), high)
    shift = solver.shifted(k, middle, channel, where=where)
    n = solver.matrices.n_rows
    job.add(shift, max(shift.count - per_side, 0), min(shift.count + per_side, n))
    job.extend(middle, upwards=True)
    job.extend(middle, upwards=False)
    bands = [band for band in sorted(job.found) if low <= job.found[band] <= high]
    return np.array([job.found[band] for band in bands]), bands[0] if bands else shift.count


@dataclass
class _Slices:
    """The states found so far, by the index of their band."""

    solver: SparseSolver
    k: ArrayLike
    low: float
    high: float
    channel: int
    per_side: int
    observe: Observe | None
    where: str
    found: dict[int, float] = field(default_factory=dict)

    def add(self, shift: Shifted, first: int, last: int) -> None:
        """Bands first..last - 1; those already known must come out the same."""
        states = shift.bands(first, last)
        new = []
        for place, energy in enumerate(states.energies.tolist()):
            band = first + place
            if band not in self.found:
                self.found[band] = energy
                if self.low <= energy <= self.high:
                    new.append(place)
            elif abs(self.found[band] - energy) > 1e-6:
                raise DataError(
                    "slices of the spectrum do not join",
                    where=self.where or None,
                    found=f"band {band} at {self.found[band]:.6f} and {energy:.6f} eV",
                    remedy="choose the window a little differently",
                )
        if self.observe is not None and new and states.vectors is not None:
            self.observe(states.energies[new], states.vectors[:, new])

    def extend(self, sigma: float, *, upwards: bool) -> None:
        """Go on from the last slice to the end of the window, each slice overlapping the one before by a band."""
        n, end = self.solver.matrices.n_rows, self.high if upwards else self.low
        while sigma != end:
            edge = max(self.found) if upwards else min(self.found)
            energy = self.found[edge]
            if edge == (n - 1 if upwards else 0) or (energy > end if upwards else energy < end):
                return
            # As far beyond the edge as the last shift was before it: about as many states lie between.
            sigma = 2 * energy - sigma
            while True:
                sigma = min(sigma, end) if upwards else max(sigma, end)
                shift = self.solver.shifted(self.k, sigma, self.channel, where=self.where)
                if abs(shift.count - edge) <= 2 * self.per_side or abs(sigma - energy) < 1e-3:
                    break
                sigma = (sigma + energy) / 2
            beyond = 0 if sigma == end else self.per_side
            if upwards:
                self.add(shift, edge, min(max(shift.count + beyond, edge + 1), n))
            else:
                self.add(shift, max(min(shift.count - beyond, edge), 0), edge + 1)
