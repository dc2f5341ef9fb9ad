"""Radial functions of numerical atomic orbitals, whatever code they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

Real = NDArray[np.float64]


@dataclass(frozen=True)
class RadialShell:
    """phi(r) = R(r) Y_lm of one shell.

    :param l: angular momentum.
    :param r: increasing, shape (n_points,), Bohr.
    :param values: R at these r, shape (n_points,), Bohr^-3/2; below the first point R goes as r^l, beyond the last it
        is zero.
    """

    l: int
    r: Real
    values: Real

    def __post_init__(self) -> None:
        if (
            self.r.shape != self.values.shape
            or len(self.r) < 4
            or not (np.diff(self.r) > 0).all()
            or self.r[0] < 0
            or not np.isfinite(self.values).all()
            or not self.values.any()
        ):
            raise DataError(
                "radial function is wrong",
                where=f"l = {self.l}",
                found=f"{self.values.shape} values at {self.r.shape} points",
                expected="finite values at increasing r",
            )

    @property
    def extent(self) -> float:
        """Beyond this R is zero, Bohr."""
        last = int(np.flatnonzero(self.values)[-1])
        return float(self.r[min(last + 2, len(self.r) - 1)])  # the slope at the next point is not zero yet

    def at(self, r: Real) -> Real:
        """R at other points, shape (n,).

        Between two points the cubic with their values and slopes, a slope being that of the parabola through the point
        and its neighbours. The program of the `.pao` files does the same, and it matters: such orbitals have a kink at
        their end, which a spline with continuous second derivatives would spread as a wave of 1e-5.

        :param r: shape (n,), Bohr.
        """
        result = np.zeros(len(r))
        below = r < self.r[0]
        result[below] = self.values[0] * (r[below] / self.r[0]) ** self.l
        inside = ~below & (r < self.r[-1])
        slopes = np.gradient(self.values, self.r)
        result[inside] = CubicHermiteSpline(self.r, self.values, slopes)(r[inside])
        return result


@dataclass(frozen=True)
class RadialBasis:
    """The shells of each element in the order of the orbitals.

    :param valence: element -> electrons that its pseudopotential leaves, where that is known.
    :param source: element -> where its basis came from, as the user wrote it.
    :param bohr: Angstrom, as the code has it that the orbitals belong to: S is to be that code's to the last digit.
    """

    shells: Mapping[str, tuple[RadialShell, ...]]
    valence: Mapping[str, float] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    bohr: float = BOHR_TO_ANGSTROM

    @property
    def orbital_basis(self) -> OrbitalBasis:
        """l of each shell of each element."""
        return OrbitalBasis({symbol: tuple(shell.l for shell in shells) for symbol, shells in self.shells.items()})

    def n_electrons(self, symbols: Iterable[str]) -> float | None:
        """Valence electrons of a structure, None if an element's valence is unknown."""
        symbols = list(symbols)
        if any(symbol not in self.valence for symbol in symbols):
            return None
        return float(sum(self.valence[symbol] for symbol in symbols))
