"""Kernel polynomial method in a non-orthogonal basis: Chebyshev moments of S^-1 H from random vectors.

A. Weisse, G. Wellein, A. Alvermann, H. Fehske, Rev. Mod. Phys. 78, 275 (2006). With S = L L^dagger factorised once,
vectors y = L^-dagger z of uncorrelated z obey <y^dagger S T_n y> = Tr T_n, and A = S^-1 H is self-adjoint in the
product <x|S|y>, so that two moments come from each step: S T_m y and T_n y give T_(m + n). The moments become twice as
many pseudo-levels (Gauss-Chebyshev quadrature), which are broadened like eigenvalues: `MOMENTS_PER_WIDTH` times
half-width of the spectrum over w moments reproduce a Gaussian of width w to 1e-4 of its height, without a kernel.

Nearly dependent orbitals stretch the spectrum far upwards, which costs moments. The eigenvalues 1 / (E - pole) of
(H - pole S)^-1 S, with the pole below all states, leave the upper states together: what lies below an energy E needs
MOMENTS_PER_WIDTH (E - pole)^2 / (2 w (E_min - pole)) moments then, fewest with the pole as far below E_min as E above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.kpoint_loop import parallel
from aiida_deeph.engine.linalg.symbolic import Factorisation
from aiida_deeph.engine.system import track

MOMENTS_PER_WIDTH = 4.3
"""The Chebyshev coefficients of a Gaussian of width w fall as exp(-(n w / half-width)^2 / 2)."""

BLOCK = 32
"""Vectors that go through the recurrence together."""

REACH = 6.0
"""Widths after which a Gaussian has ended: 2e-9 of its height."""


@dataclass(frozen=True)
class Interval:
    """Eigenvalues of the pencil all lie at centre + half_width x with |x| < 1.

    :param pole: None if the eigenvalues are energies (eV); else they are 1 / (E - pole) (1/eV).
    """

    centre: float
    half_width: float
    pole: float | None = None

    def n_moments(self, broadening: float, highest: float = 0.0) -> int:
        """Moments that a Gaussian of this width needs; even.

        :param broadening: eV.
        :param highest: energy up to which, eV; matters with a pole only.
        """
        width = broadening if self.pole is None else broadening / (highest - self.pole) ** 2
        return 2 * max(8, int(np.ceil(MOMENTS_PER_WIDTH * self.half_width / width / 2)))

    def levels(self, n_moments: int) -> NDArray[np.float64]:
        """Energies of the pseudo-levels, in the order of `level_weights`, shape (2 n_moments,), eV."""
        n = 2 * n_moments
        values = self.centre - self.half_width * np.cos(np.pi * (np.arange(n) + 0.5) / n)
        if self.pole is None:
            return np.asarray(values)
        # The margin may reach below zero, where there are no states.
        return np.asarray(self.pole + 1 / np.maximum(values, 1e-12))


def level_weights(moments: ArrayLike) -> NDArray[np.float64]:
    """States that each pseudo-level counts for, w_j = (mu_0 + 2 sum_n mu_n T_n(x_j)) / n_levels; of either sign.

    :param moments: shape (n_moments, ...).
    :return: shape (2 n_moments, ...), in the order of `Interval.levels`.
    """
    mu = np.asarray(moments, dtype=np.float64)
    padded = np.concatenate([mu, np.zeros_like(mu)])
    # DCT-III: mu_0 + 2 sum_n mu_n cos(pi n (j + 1/2) / n_levels), j from the highest energy downwards.
    return np.asarray(scipy.fft.dct(padded, type=3, axis=0)[::-1] / len(padded))


def gaussian_sum(grid: ArrayLike, energies: ArrayLike, weights: ArrayLike, broadening: float) -> NDArray[np.float64]:
    """Sum of weighted normalised Gaussians, exp(-(x - E)^2 / (2 w^2)) / (w sqrt(2 pi)).

    :param grid: ascending and equally spaced, eV, shape (n_points,).
    :param energies: eV, shape (n,).
    :param weights: states that each energy counts for, shape (n,) or (n, n_columns).
    :param broadening: standard deviation w, eV; Gaussians end at `REACH` times w.
    :return: states/eV, shape (n_points,) or (n_points, n_columns).
    """
    x, e = np.asarray(grid, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    w = np.asarray(weights, dtype=np.float64)
    result = np.zeros((len(x), *w.shape[1:]))
    first = np.searchsorted(x, e - REACH * broadening)
    last = np.searchsorted(x, e + REACH * broadening)
    norm = 1 / (broadening * np.sqrt(2 * np.pi))
    for n in np.flatnonzero(last > first):
        part = slice(first[n], last[n])
        shape = norm * np.exp(-(((x[part] - e[n]) / broadening) ** 2) / 2)
        result[part] += np.multiply.outer(shape, w[n])
    return result


def spectral_interval(
    hamiltonian: sp.csr_matrix,
    overlap: sp.csr_matrix,
    factors: Factorisation,
    *,
    pole: float | None = None,
    steps: int = 60,
) -> Interval:
    """An interval that holds all eigenvalues: the extreme ones by Lanczos and a margin of two percent.

    :param hamiltonian: H(k) in eV, shape (n, n); S(k) with a pole.
    :param overlap: S(k); H(k) - pole S(k) with a pole.
    :param factors: of `overlap`.
    :param pole: eV.
    """
    n = hamiltonian.shape[0]
    v = factors.half_solve(_random(n, 1, hamiltonian.dtype, np.random.default_rng(0)))[:, 0]
    sv = overlap @ v
    size = np.sqrt(np.vdot(v, sv).real)
    v, sv, before, beta = v / size, sv / size, np.zeros_like(v), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, n)):
        w = hamiltonian @ v
        diagonal.append(float(np.vdot(v, w).real))
        sw = w - diagonal[-1] * sv - beta * before
        x = factors.solve(sw)
        beta = float(np.sqrt(max(np.vdot(x, sw).real, 0.0)))
        if beta < 1e-10 * (1 + abs(diagonal[-1])):
            break
        beside.append(beta)
        before, v, sv = sv, x / beta, sw / beta
    values, y = la.eigh_tridiagonal(diagonal, beside[: len(diagonal) - 1])
    error = beta * np.abs(y[-1])
    low, high = float(values[0] - error[0]), float(values[-1] + error[-1])
    half_width = max((high - low) / 2, 1e-3 * max(abs(low), abs(high)), 1e-9)
    return Interval((low + high) / 2, 1.02 * half_width, pole)


@dataclass(frozen=True)
class Moments:
    """Chebyshev moments of the density of states of one spin channel at one k-point.

    :param total: Tr T_n by each random vector, shape (n_vectors, n_moments).
    :param groups: Mulliken share of each group of rows, averaged over the vectors, shape (n_moments, n_groups).
    """

    interval: Interval
    total: NDArray[np.float64]
    groups: NDArray[np.float64]


def random_moments(
    hamiltonian: sp.csr_matrix,
    overlap: sp.csr_matrix,
    factors: Factorisation,
    interval: Interval,
    n_moments: int,
    n_vectors: int,
    groups: sp.csr_matrix | None = None,
    *,
    atom_of_row: NDArray[np.int64] | None = None,
    seed: int = 0,
    workers: int = 1,
    show_progress: bool | None = None,
) -> Moments:
    """Moments of the total density of states and of groups of rows.

    With a pole, S takes the place of H and H - pole S the place of S, here and in `local_moments`; Mulliken shares stay
    what they are. Matrices and factors in single precision give moments of an operator whose levels are off by about
    1e-7 times the norm of H - pole S times <c|c>, with <c|S|c> = 1: below 1e-2 eV if S has no eigenvalue below 1e-3.

    :param groups: 1 where a row belongs to a group, shape (n_groups, n); None for the total alone.
    :param atom_of_row: atom of each row, shape (n,): with equal atoms products go by blocks.
    :param n_vectors: a number n of states in a range of energies has a relative error of about 1 / sqrt(n_vectors n).
    :param workers: processes that share the vectors; the result does not depend on it.
    :raises DataError: the spectrum leaves the interval.
    """
    n = hamiltonian.shape[0]
    groups = sp.csr_matrix((0, n)) if groups is None else groups
    centre, half_width = interval.centre, interval.half_width
    product_with = _by_blocks(hamiltonian, atom_of_row)
    width = min(BLOCK, -(-n_vectors // workers))
    blocks = [(start, min(start + width, n_vectors)) for start in range(0, n_vectors, width)]

    def work(start: int, end: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Moments of some of the vectors, each with random numbers of its own."""
        vectors = [_random(n, 1, hamiltonian.dtype, np.random.default_rng([seed, v])) for v in range(start, end)]
        a = factors.half_solve(np.concatenate(vectors, axis=1).astype(hamiltonian.dtype))
        d = overlap @ a
        total, shares = np.zeros((end - start, n_moments)), np.zeros((n_moments, groups.shape[0]))

        def record(order: int, product: NDArray[np.float64]) -> None:
            total[:, order] = product.sum(axis=0, dtype=np.float64)
            shares[order] = (groups @ product).sum(axis=1) / n_vectors

        record(0, _product(a, d))
        before_a, before_d = a, d
        d = (product_with(a) - centre * d) / half_width
        a = factors.solve(d)
        record(1, _product(before_a, d))
        for order in track(range(2, n_moments, 2), "moments", show=show_progress if workers == 1 else False):
            # T_(2n) = 2 T_n T_n - T_0 and T_(2n+1) = 2 T_(n+1) T_n - T_1, of which the products are recorded first.
            record(order, _product(a, d))
            # S a is d: no product with S.
            before_d = 2 / half_width * (product_with(a) - centre * d) - before_d
            before_a, before_d, a, d = a, d, factors.solve(before_d), before_d
            record(order + 1, _product(before_a, d))
        _undo_doubling(total.T)
        return total, shares

    done = dict(parallel(blocks, work, workers))
    shares = np.sum([done[block][1] for block in blocks], axis=0)
    _undo_doubling(shares)
    total = np.concatenate([done[block][0] for block in blocks])
    if not np.abs(total).max() < 4 * n:
        raise DataError(
            "spectrum leaves its bounds", found=f"moment {np.abs(total).max():.3g}", expected=f"at most {n}"
        )
    return Moments(interval, total, shares)


def local_moments(
    hamiltonian: sp.csr_matrix,
    overlap: sp.csr_matrix,
    factors: Factorisation,
    interval: Interval,
    n_moments: int,
    rows: NDArray[np.int64],
    *,
    show_progress: bool | None = None,
) -> NDArray[np.float64]:
    """Moments of the Mulliken local density of states of some rows, (T_n(S^-1 H))_ii, without any randomness.

    :param rows: shape (n_chosen,).
    :return: shape (n_moments, n_chosen).
    """
    n = hamiltonian.shape[0]
    centre, half_width = interval.centre, interval.half_width
    result = np.zeros((n_moments, len(rows)))
    for start in range(0, len(rows), BLOCK):
        chosen = rows[start : start + BLOCK]
        columns = np.arange(len(chosen))
        a = np.zeros((n, len(chosen)), dtype=hamiltonian.dtype)
        a[chosen, columns] = 1.0
        before_d = overlap @ a
        result[0, start : start + BLOCK] = 1.0
        d = (hamiltonian @ a - centre * before_d) / half_width
        for order in track(range(1, n_moments), "local moments", show=show_progress):
            a = factors.solve(d)
            result[order, start : start + BLOCK] = a[chosen, columns].real
            before_d, d = d, 2 / half_width * (hamiltonian @ a - centre * d) - before_d
    return result


def _by_blocks(matrix: sp.csr_matrix, atom_of_row: NDArray[np.int64] | None) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Products with a matrix; for few vectors and equal atoms in blocks and vector by vector, four times faster."""
    rows = np.bincount(atom_of_row) if atom_of_row is not None else np.zeros(0)
    if not len(rows) or (rows != rows[0]).any():
        return lambda x: matrix @ x
    blocks = matrix.tobsr((int(rows[0]),) * 2)

    def product(x: NDArray[Any]) -> NDArray[Any]:
        if x.shape[1] > 4:
            return np.asarray(matrix @ x)
        return np.stack([blocks @ np.ascontiguousarray(x[:, n]) for n in range(x.shape[1])], axis=1)

    return product


def _product(a: NDArray[Any], d: NDArray[Any]) -> NDArray[np.float64]:
    """Re(conj(d) a), row by row and vector by vector."""
    if np.iscomplexobj(a):
        return np.asarray(a.real * d.real + a.imag * d.imag)
    return np.asarray(a * d)


def _undo_doubling(moments: NDArray[np.float64]) -> None:
    """From <T_n T_n> and <T_(n+1) T_n> to <T_2n> and <T_(2n+1)>, in place, shape (n_moments, ...)."""
    moments[2::2] = 2 * moments[2::2] - moments[0]
    moments[3::2] = 2 * moments[3::2] - moments[1]


def _random(n: int, width: int, dtype: Any, rng: np.random.Generator) -> NDArray[Any]:
    """Uncorrelated entries of size one: signs, or phases for complex matrices, whose traces fluctuate less."""
    if np.issubdtype(dtype, np.complexfloating):
        return np.asarray(np.exp(2j * np.pi * rng.random((n, width))))
    return rng.choice(np.array([-1.0, 1.0]), (n, width))
