"""Contracted Gaussians as tabulated radial functions, for what works on any radial function: grids, cube files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from aiida_deeph.engine.overlap.basis import GaussianBasis, GaussianShells
from aiida_deeph.engine.overlap.numeric.radial import RadialBasis, RadialShell

SMALLEST = 1e-7
"""Where a function has fallen to this (Bohr^-3/2) it ends."""

N_POINTS = 3000
"""Of the table, equally spaced in log r from 1e-3 Bohr; between them cubics are exact to 1e-8."""


def as_radial(basis: GaussianBasis) -> RadialBasis:
    """The same shells in the same order, R(r) = sum over primitives of c N r^l exp(-a r^2), normalised."""
    shells = {
        symbol: tuple(_tabulated(group, column) for group in groups for column in range(group.coefficients.shape[1]))
        for symbol, groups in basis.shells.items()
    }
    return RadialBasis(shells, basis.valence, basis.source)


def _tabulated(group: GaussianShells, column: int) -> RadialShell:
    l, a = group.l, group.exponents
    # Integral of r^(2l + 2) exp(-b r^2) over all r: Gamma(l + 3/2) / (2 b^(l + 3/2)).
    factors = group.coefficients[:, column] / np.sqrt(_integral(2 * a, l))
    factors = factors / np.sqrt(factors @ _integral(a[:, None] + a, l) @ factors)

    def value(r: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(r**l * (np.exp(-np.outer(r**2, a)) @ factors))

    far = np.linspace(0.01, 60.0, 6000)
    end = far[np.flatnonzero(np.abs(value(far)) > SMALLEST)[-1]] + 0.01
    r = np.geomspace(1e-3, end, N_POINTS)
    return RadialShell(l, r, value(r))


def _integral(b: NDArray[np.float64], l: int) -> NDArray[np.float64]:
    return np.asarray(gamma(l + 1.5) / (2 * b ** (l + 1.5)))
