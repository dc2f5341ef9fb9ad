"""Radial parts of two-centre integrals, tabulated once per pair of shells.

For phi = R_l(r) Y_lm and f(k) = int_0^inf r^2 R(r) j_l(k r) dr, the overlap of two orbitals at distance vector d is

    S(d) = 8 sum_L Re[i^l1 (-i)^l2 (-i)^L] I_L(|d|) sum_M G(l1 m1, l2 m2, L M) Y_LM(d / |d|),
    I_L(d) = int_0^inf k^2 f1(k) f2(k) j_L(k d) dk,     L = |l1 - l2|, |l1 - l2| + 2, .., l1 + l2

(O. F. Sankey, D. J. Niklewski, Phys. Rev. B 40, 3979 (1989); T. Ozaki, H. Kino, Phys. Rev. B 72, 045121 (2005)).
What is tabulated is I_L(d) / d^L: even and smooth at d = 0, to be multiplied by solid harmonics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import spherical_jn

from aiida_deeph.engine.orbitals.radial import RadialShell

# End of the integrals over k, 1 / Bohr, and spacing of the table, Bohr: errors below 1e-8 each.
K_MAX, STEP = 45.0, 0.01
# Gauss-Legendre panels over r and nodes on each.
PANELS, NODES = 120, 16

Real = NDArray[np.float64]
Term = tuple[int, int, int]


def couplings(l1: int, l2: int) -> range:
    """The L that join two shells."""
    return range(abs(l1 - l2), l1 + l2 + 1, 2)


def sign(l1: int, l2: int, L: int) -> int:
    """Re[i^l1 (-i)^l2 (-i)^L], which is +1 or -1 since l1 + l2 + L is even."""
    return -1 if ((l1 - l2 - L) // 2) % 2 else 1


def bessel_transform(shell: RadialShell, k: Real) -> Real:
    """f(k) = int_0^inf r^2 R(r) j_l(k r) dr, shape (n_k,).

    :param k: shape (n_k,), 1 / Bohr.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)  # type: ignore[no-untyped-call]
    edges = np.linspace(0.0, shell.extent, PANELS + 1)
    half = np.diff(edges)[:, None] / 2
    r = (edges[:-1, None] + half + half * nodes).ravel()
    integrand = (half * weights).ravel() * r**2 * shell.at(r)
    return np.asarray(spherical_jn(shell.l, np.outer(k, r)) @ integrand)


@dataclass(frozen=True)
class PairTable:
    """Radial parts of the overlaps of two elements' shells as cubic polynomials between equidistant distances.

    :param terms: (a, b, L) of each column: shells of the first and of the second element, and what couples them; if
        the elements are the same, (b, a, L) has the column of (a, b, L).
    :param same: the two elements are one.
    :param range: where the last orbitals cease to touch, Bohr.
    :param coefficients: of 1, t, t^2, t^3, with t the fraction of an interval, shape (n_intervals, 4, n_terms).
    """

    terms: Sequence[Term]
    same: bool
    range: float
    coefficients: Real

    def columns(self, swapped: bool) -> dict[Term, int]:
        """Column of each term.

        :param swapped: the shells of a term are those of the second and of the first element.
        """
        columns = {term: column for column, term in enumerate(self.terms)}
        turned = {(b, a, L): column for (a, b, L), column in columns.items()}
        return turned if swapped else {**turned, **columns} if self.same else columns

    def __call__(self, distances: Real) -> Real:
        """I_L(d) / d^L of all terms, zero beyond the range, shape (n_terms, n).

        :param distances: shape (n,), Bohr.
        """
        c, t = self._intervals(distances)
        return np.ascontiguousarray((((c[:, 3] * t + c[:, 2]) * t + c[:, 1]) * t + c[:, 0]).T)

    def derivative(self, distances: Real) -> Real:
        """d/dd of `__call__`, shape (n_terms, n)."""
        c, t = self._intervals(distances)
        return np.ascontiguousarray(((3 * c[:, 3] * t + 2 * c[:, 2]) * t + c[:, 1]).T) / STEP

    def _intervals(self, distances: Real) -> tuple[Real, Real]:
        place = np.minimum(distances / STEP, len(self.coefficients) - 1)  # the last interval is zero
        interval = place.astype(np.int64)
        fraction: Real = np.asarray(place - interval, dtype=np.float64)
        return self.coefficients[interval], fraction[:, None]


def tabulate(first: Sequence[RadialShell], second: Sequence[RadialShell]) -> PairTable:
    """The table of two elements; pass the same object twice for one element with itself."""
    same = first is second
    extent = max(s.extent for s in first) + max(s.extent for s in second)
    # The integrand is even and, as the orbitals end, band-limited: the trapezoidal rule is exact at this spacing.
    k = np.arange(0.0, K_MAX, pi / (1.25 * extent))
    dk = k[1]
    transforms = [
        np.array([bessel_transform(s, k) for s in shells]) for shells in ((first,) if same else (first, second))
    ]
    left, right = transforms[0], transforms[-1]
    distances = np.arange(int(np.ceil(extent / STEP)) + 1) * STEP
    terms, columns = [], []
    by_coupling: dict[int, list[tuple[int, int]]] = {}
    for a, one in enumerate(first):
        for b, other in enumerate(second):
            if not (same and b < a):
                for L in couplings(one.l, other.l):
                    by_coupling.setdefault(L, []).append((a, b))
    for L, pairs in by_coupling.items():
        bessel = spherical_jn(L, np.outer(k, distances[1:])) / distances[1:] ** L
        at_zero = k**L / np.prod(np.arange(1, 2 * L + 2, 2, dtype=np.float64))
        bessel = np.concatenate([at_zero[:, None], bessel], axis=1)
        a, b = np.array(pairs).T
        values = (left[a] * right[b] * k**2 * dk) @ bessel
        ends = np.array([first[n].extent + second[m].extent for n, m in pairs])
        values[distances >= ends[:, None]] = 0.0
        terms += [(n, m, L) for n, m in pairs]
        columns.append(values)
    table = np.concatenate(columns)
    pieces = CubicSpline(np.arange(len(distances)), table, axis=1, bc_type="clamped").c  # (4, n_intervals, n_terms)
    coefficients = np.concatenate([pieces[::-1].transpose(1, 0, 2), np.zeros((1, 4, len(terms)))])
    return PairTable(terms, same, extent, np.ascontiguousarray(coefficients))
