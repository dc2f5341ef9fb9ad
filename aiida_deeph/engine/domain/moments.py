"""Spin moments of the atoms: those that define a magnetic state, and those that it turned out to have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.gate import Gate
from aiida_deeph.engine.errors import DataError

# Smaller moments give an atom no direction of its own, Bohr magnetons.
SMALLEST = 0.1
# A state that was kept has this share of each nominal moment at least, along it.
KEPT = 0.2


@dataclass(frozen=True)
class Moments:
    """Of each atom, Bohr magnetons; collinear moments lie along z.

    :param nominal: initial moments and constraints, which define the state, shape (n_atoms, 3); None if unknown.
    :param converged: of the self-consistent density, as its code counts them, shape (n_atoms, 3); None if unknown.
    """

    nominal: NDArray[np.float64] | None = None
    converged: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name in ("nominal", "converged"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_vectors(getattr(self, name), name))
        if self.nominal is not None and self.converged is not None and len(self.nominal) != len(self.converged):
            raise DataError(
                "moments do not fit each other",
                found=f"{len(self.converged)} converged, {len(self.nominal)} nominal",
                expected="one for each atom",
            )

    def __len__(self) -> int:
        return len(self.state)

    @property
    def state(self) -> NDArray[np.float64]:
        """What tells this magnetic state from others: the nominal moments, else the converged ones."""
        known = self.converged if self.nominal is None else self.nominal
        return np.zeros((0, 3)) if known is None else known

    @property
    def is_magnetic(self) -> bool:
        """Whether any atom has a moment that counts."""
        return bool((np.linalg.norm(self.state, axis=1) >= SMALLEST).any())

    @property
    def signs(self) -> NDArray[np.int64]:
        """+1, -1 or 0 of each atom, along z, shape (n_atoms,)."""
        z = self.state[:, 2]
        return np.where(np.abs(z) < SMALLEST, 0, np.sign(z)).astype(np.int64)

    @property
    def order(self) -> str:
        """`nonmagnetic`, `ferromagnetic`, `antiferromagnetic` (no net moment) or `ferrimagnetic`; `noncollinear`."""
        state = self.state
        if not self.is_magnetic:
            return "nonmagnetic"
        largest = state[np.linalg.norm(state, axis=1).argmax()]
        along = state @ largest / np.linalg.norm(largest)
        if np.abs(np.linalg.norm(state, axis=1) - np.abs(along)).max() > SMALLEST:
            return "noncollinear"
        if along.min() > -SMALLEST:
            return "ferromagnetic"
        return "antiferromagnetic" if abs(along.sum()) < SMALLEST else "ferrimagnetic"

    def permuted(self, order: NDArray[np.int64]) -> Moments:
        """The same moments with atom `order[n]` at place n."""
        return Moments(*(None if m is None else m[order] for m in (self.nominal, self.converged)))

    def state_kept(self) -> list[Gate]:
        """Whether the converged state is the nominal one: each moment along its nominal one, and not lost.

        :returns: nothing where one of the two is unknown.
        """
        if self.nominal is None or self.converged is None:
            return []
        size = np.linalg.norm(self.nominal, axis=1)
        wanted = size >= SMALLEST
        if not wanted.any():
            return []
        share = np.einsum("ax,ax->a", self.nominal, self.converged)[wanted] / size[wanted] ** 2
        atom = int(np.flatnonzero(wanted)[share.argmin()])
        found, nominal = (np.round(m[atom], 3).tolist() for m in (self.converged, self.nominal))
        return [
            Gate(
                "magnetic state",
                bool(share.min() >= KEPT),
                float(share.min()),
                KEPT,
                "of the nominal moment",
                detail=f"atom {atom}: {found} of {nominal} Bohr magnetons"
                + ("" if share.min() >= KEPT else ", moved to another magnetic state"),
            )
        ]


def along(size: float, theta: float = 0.0, phi: float = 0.0) -> list[float]:
    """A moment of a size, which may be negative, along a direction in degrees: [x, y, z]."""
    t, p = np.radians([theta, phi])
    vector: list[float] = (size * np.array([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)])).tolist()
    return vector


def as_vectors(values: ArrayLike, where: object) -> NDArray[np.float64]:
    """Moments given as numbers along z or as vectors, shape (n_atoms, 3).

    :raises DataError: neither, or not finite.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.zeros((0, 0))
    if array.ndim == 1:
        array = np.stack([np.zeros_like(array), np.zeros_like(array), array], axis=1)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise DataError(
            "moments are not understood",
            where=where,
            found=repr(values)[:80],
            expected="a number along z or [x, y, z] for each atom, Bohr magnetons",
        )
    return array
