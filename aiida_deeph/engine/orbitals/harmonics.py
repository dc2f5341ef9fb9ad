"""Real solid harmonics r^l Y_lm, their gradients, and integrals of three spherical harmonics: numpy only.

Y_lm, m = -l..l, are orthonormal on the sphere and have no Condon-Shortley phase: Y_1 is (y, z, x), Y_2 is
(xy, yz, z2, xz, x2-y2). Solid harmonics are polynomials, so they and their gradients need no direction at r = 0.
"""

from __future__ import annotations

from functools import cache
from math import factorial, pi, sqrt

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


def index(l: int, m: int) -> int:
    """Place of (l, m) when all l from 0 on stand one after the other."""
    return l * l + l + m


def solid_harmonics(vectors: Real, lmax: int) -> Real:
    """r^l Y_lm of all l <= lmax.

    :param vectors: shape (n, 3).
    :return: shape ((lmax + 1)^2, n).
    """
    cosine, sine, legendre = _parts(vectors, lmax)
    result = np.empty(((lmax + 1) ** 2, len(vectors)))
    for l in range(lmax + 1):
        for m in range(l + 1):
            factor = _norm(l, m) * legendre[l][m]
            np.multiply(factor, cosine[m], out=result[index(l, m)])
            if m:
                np.multiply(factor, sine[m], out=result[index(l, -m)])
    return result


def solid_harmonic_gradients(vectors: Real, lmax: int) -> Real:
    """Gradients of r^l Y_lm of all l <= lmax.

    With r^l Y_lm = N P(z, r^2) (c or s), c + i s = (x + i y)^m: dP_l^m/dx = -x P_(l-1)^(m+1), the same for y, and
    dP_l^m/dz = (l + m) P_(l-1)^m.

    :param vectors: shape (n, 3).
    :return: shape ((lmax + 1)^2, 3, n).
    """
    cosine, sine, legendre = _parts(vectors, lmax)
    x, y, _ = vectors.T
    zero = np.zeros(len(vectors))
    result = np.empty(((lmax + 1) ** 2, 3, len(vectors)))
    for l in range(lmax + 1):
        for m in range(l + 1):
            P = legendre[l][m]
            lower = legendre[l - 1][m] if m < l else zero
            raised = legendre[l - 1][m + 1] if m + 1 < l else zero
            c_before, s_before = (m * cosine[m - 1], m * sine[m - 1]) if m else (zero, zero)
            for sign, angular, dx, dy in ((1, cosine[m], c_before, -s_before), (-1, sine[m], s_before, c_before)):
                if m or sign > 0:
                    parts = (P * dx - x * raised * angular, P * dy - y * raised * angular, (l + m) * lower * angular)
                    result[index(l, sign * m)] = _norm(l, m) * np.stack(parts)
    return result


def _parts(vectors: Real, lmax: int) -> tuple[list[Real], list[Real], list[list[Real]]]:
    """Re and Im of (x + i y)^m, and r^(l-m) times the m-th derivative of the Legendre polynomial of z / r."""
    x, y, z = np.ascontiguousarray(vectors.T)
    square = x * x + y * y + z * z
    one = np.ones(len(vectors))
    cosine, sine = [one], [np.zeros(len(vectors))]
    for m in range(lmax):
        cosine.append(x * cosine[m] - y * sine[m])
        sine.append(x * sine[m] + y * cosine[m])
    legendre: list[list[Real]] = [[one]]
    for l in range(1, lmax + 1):
        row = []
        for m in range(l - 1):
            row.append(((2 * l - 1) * z * legendre[l - 1][m] - (l + m - 1) * square * legendre[l - 2][m]) / (l - m))
        row.append((2 * l - 1) * z * legendre[l - 1][l - 1])
        row.append((2 * l - 1) * legendre[l - 1][l - 1])
        legendre.append(row)
    return cosine, sine, legendre


def _norm(l: int, m: int) -> float:
    return sqrt((2 * l + 1) / (4 * pi) * factorial(l - m) / factorial(l + m) * (2 if m else 1))


@cache
def gaunt(l1: int, l2: int, l3: int) -> Real:
    """Integrals of Y_l1m1 Y_l2m2 Y_l3m3 over the sphere, shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1).

    By Gauss-Legendre times uniform quadrature, which is exact for polynomials of degree l1 + l2 + l3.
    """
    degree = l1 + l2 + l3
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)  # type: ignore[no-untyped-call]
    angles = 2 * pi * np.arange(degree + 1) / (degree + 1)
    radius = np.sqrt(1 - nodes**2)
    points = np.stack(
        [np.outer(radius, np.cos(angles)), np.outer(radius, np.sin(angles)), np.outer(nodes, np.ones(degree + 1))], -1
    ).reshape(-1, 3)
    Y = solid_harmonics(points, max(l1, l2, l3))
    a, b, c = (Y[l * l : (l + 1) ** 2] for l in (l1, l2, l3))
    result: Real = np.einsum("ap,bp,cp,p->abc", a, b, c, np.repeat(weights, degree + 1) * 2 * pi / (degree + 1))
    result[np.abs(result) < 1e-14] = 0.0
    result.setflags(write=False)
    return result
