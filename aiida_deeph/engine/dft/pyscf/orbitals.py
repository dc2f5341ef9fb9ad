"""Bloch orbitals on a uniform grid.

In a rectangular cell a Gaussian is a product of functions of x, y and z, and so is its sum over lattice vectors: the
orbitals are outer products of short vectors, 30 times cheaper than evaluated point by point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]

# exp(-EXPONENT) is nothing beside 1 in float64.
EXPONENT = 42.0

# r^l Y_lm as a sum of c x^a y^b z^c, in PySCF's order: p as x, y, z; d as m = -2..2.
_S, _P, _D = np.sqrt(1 / (4 * np.pi)), np.sqrt(3 / (4 * np.pi)), np.sqrt(15 / (4 * np.pi))
_D0 = np.sqrt(5 / (16 * np.pi))
POLYNOMIALS: dict[int, list[list[tuple[float, int, int, int]]]] = {
    0: [[(_S, 0, 0, 0)]],
    1: [[(_P, 1, 0, 0)], [(_P, 0, 1, 0)], [(_P, 0, 0, 1)]],
    2: [
        [(_D, 1, 1, 0)],
        [(_D, 0, 1, 1)],
        [(2 * _D0, 0, 0, 2), (-_D0, 2, 0, 0), (-_D0, 0, 2, 0)],
        [(_D, 1, 0, 1)],
        [(_D / 2, 2, 0, 0), (-_D / 2, 0, 2, 0)],
    ],
}


def bloch_orbitals(cell: Any, shape: tuple[int, int, int], kpoints: Real) -> list[Real]:
    """phi_k(r) = sum_T exp(2 pi i k.T) phi(r - T) at r = (n1 / N1, n2 / N2, n3 / N3), PySCF's order of orbitals.

    :param cell: PySCF's cell.
    :param shape: numbers of grid points (N1, N2, N3).
    :param kpoints: fractional, shape (n_kpoints, 3).
    :return: for each k-point the real parts and, unless k = 0, the imaginary parts below them, shape
        (n_orbitals or 2 n_orbitals, N1 N2 N3).
    """
    lattice = cell.lattice_vectors()
    largest = max((cell.bas_angular(b) for b in range(cell.nbas)), default=0)
    if np.array_equal(lattice, np.diag(np.diag(lattice))) and largest in POLYNOMIALS and not cell.cart:
        return [_separable(cell, shape, k) for k in kpoints]
    coordinates = cell.get_uniform_grids(shape, wrap_around=False)
    values = cell.pbc_eval_gto("GTOval_sph", coordinates, kpts=cell.get_abs_kpts(kpoints))
    return [
        np.ascontiguousarray(np.concatenate([phi.T.real, phi.T.imag]) if np.any(k) else phi.T.real)
        for k, phi in zip(kpoints, values, strict=True)
    ]


def _separable(cell: Any, shape: tuple[int, int, int], k: Real) -> Real:
    lengths = np.diag(cell.lattice_vectors())
    parts = 2 if np.any(k) else 1
    result = np.zeros((parts, cell.nao, shape[0], shape[1] * shape[2]))
    first = 0
    for shell in range(cell.nbas):
        l, exponents, centre = cell.bas_angular(shell), cell.bas_exp(shell), cell.bas_coord(shell)
        # Coefficients of r^l exp(-a r^2) with the norms in them, shape (n_primitives, n_contractions).
        coefficients = cell._libcint_ctr_coeff(shell)
        x, y, z = (
            [_periodic_gaussian(power, exponents, centre[d], lengths[d], shape[d], k[d]) for power in range(l + 1)]
            for d in range(3)
        )
        for column in coefficients.T:
            for polynomial in POLYNOMIALS[l]:
                for factor, a, b, c in polynomial:
                    # A sum over the primitives of outer products in x and (y, z): one matrix product.
                    line = (factor * column)[:, None] * x[a]
                    plane = (y[b][:, :, None] * z[c][:, None, :]).reshape(len(exponents), -1)
                    if parts == 1:
                        result[0, first] += line.T @ plane
                    elif np.isrealobj(plane):
                        result[0, first] += line.real.T @ plane
                        result[1, first] += line.imag.T @ plane
                    else:
                        product = line.T @ plane
                        result[0, first] += product.real
                        result[1, first] += product.imag
                first += 1
    return result.reshape(parts * cell.nao, -1)


def _periodic_gaussian(power: int, exponents: Real, centre: float, length: float, n: int, k: float) -> Complex | Real:
    """sum_t exp(2 pi i k t) (x - t L)^power exp(-a (x - t L)^2) with x from the centre, shape (n_exponents, n)."""
    x = np.arange(n) * (length / n) - centre
    reach = np.sqrt(EXPONENT / exponents.min()) + 1.0
    cells = np.arange(np.floor((x[0] - reach) / length), np.ceil((x[-1] + reach) / length) + 1)
    shifted = x[:, None] - cells * length
    values = shifted**power * np.exp(-exponents[:, None, None] * shifted**2)
    phases: Complex | Real = np.exp(2j * np.pi * k * cells) if k else np.ones(len(cells))
    return np.asarray(values @ phases)
