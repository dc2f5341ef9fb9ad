"""Block Lanczos on the spectral transformation (H - sigma S)^-1 S, with full reorthogonalisation.

T. Ericsson, A. Ruhe, Math. Comput. 35, 1251 (1980); R. G. Grimes, J. G. Lewis, H. D. Simon, SIAM J. Matrix Anal. Appl.
15, 228 (1994). Blocks find degenerate states at once and give the factorisation many right-hand sides together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.bands.factor import Solve
from aiida_deeph.engine.errors import DataError


def shift_invert(
    solve: Solve,
    hamiltonian: sp.csr_matrix,
    overlap: sp.csr_matrix,
    sigma: float,
    below: int,
    above: int,
    *,
    block: int = 8,
    tolerance: float = 1e-8,
    max_basis: int | None = None,
    where: str = "",
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The `below` states next below sigma and the `above` states next above it, ascending.

    :param solve: B -> (H - sigma S)^-1 B.
    :param hamiltonian: H(k) in eV, shape (n, n).
    :param overlap: S(k), shape (n, n), positive definite.
    :param tolerance: bound of the error of each eigenvalue from its residual, eV (the error itself is far smaller).
    :return: energies (n_states,) in eV and vectors (n, n_states) with C^dagger S C = 1.
    :raises DataError: S is not positive definite, or no convergence.
    """
    n = hamiltonian.shape[0]
    dtype = np.result_type(hamiltonian.dtype, overlap.dtype)
    limit = min(n, max_basis or 12 * (below + above) + 40 * block)
    rng = np.random.default_rng(0)  # the same start every time: results do not flicker
    v = np.empty((n, 0), dtype=dtype, order="F")
    sv = np.empty((n, 0), dtype=dtype, order="F")
    t = np.zeros((0, 0), dtype=dtype)
    start = rng.standard_normal((n, min(block, n))).astype(dtype)
    q, _ = _orthonormalised(start, overlap, where)
    coupling = np.zeros((0, 0), dtype=dtype)
    while True:
        sq = overlap @ q
        v, sv = np.hstack([v, q]), np.hstack([sv, sq])
        m, width = v.shape[1], q.shape[1]
        w = solve(sq)
        projected = sv.conj().T @ w
        w = w - v @ projected
        again = sv.conj().T @ w
        w -= v @ again
        projected += again
        grown = np.zeros((m, m), dtype=dtype)
        grown[: m - width, : m - width] = t
        grown[:, m - width :] = projected
        grown[m - width :, : m - width] = projected[: m - width].conj().T
        t = grown
        if m < n:
            q, coupling = _orthonormalised(w, overlap, where)
            q -= v @ (sv.conj().T @ q)  # what scaling up of short directions brought back
            q, change = _orthonormalised(q, overlap, where)
            coupling = change @ coupling
        theta, y = la.eigh((t + t.conj().T) / 2)
        residual = np.linalg.norm(coupling @ y[m - width :], axis=0) if m < n and coupling.size else np.zeros(m)
        # theta = 1 / (E - sigma): most negative are next below sigma, most positive next above.
        chosen = np.concatenate([np.arange(min(below, m)), np.arange(max(m - above, below), m)])
        fitting = (theta[: min(below, m)] < 0).all() and (theta[m - above :] > 0).all() if m >= below + above else False
        if fitting and (residual[chosen] <= tolerance * theta[chosen] ** 2).all():
            break
        if m >= limit:
            left = int((residual[chosen] > tolerance * theta[chosen] ** 2).sum())
            raise DataError(
                "Lanczos iteration does not converge",
                where=where or None,
                found=f"{left} of {below + above} states left",
                remedy="ask for fewer bands, or around an energy where there are states",
            )
        if q.shape[1] == 0 or m + q.shape[1] > n:  # an invariant space: go on in a random direction
            q = rng.standard_normal((n, min(block, n - m))).astype(dtype)
            for _ in range(2):
                q -= v @ (sv.conj().T @ q)
            q, _ = _orthonormalised(q, overlap, where)
            coupling = np.zeros((0, 0), dtype=dtype)
    x = v @ y[:, chosen]
    # Rayleigh-Ritz with H itself: free of the errors of the factorisation to first order.
    energies, rotation = la.eigh(x.conj().T @ (hamiltonian @ x), x.conj().T @ (overlap @ x))
    return energies, x @ rotation


def _orthonormalised(w: NDArray[Any], overlap: sp.csr_matrix, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Q and R with W = Q R and Q^dagger S Q = 1; directions shorter than 1e-11 of the longest are left out of Q.

    Each pass orthogonalises as well as its Gram matrix allows, 16 digits of length squared, hence the repetition.
    """
    q, r = w, np.eye(w.shape[1], dtype=w.dtype)
    for _ in range(5):
        gram = q.conj().T @ (overlap @ q)
        squares, u = la.eigh((gram + gram.conj().T) / 2)
        if squares[0] < -1e-8 * abs(squares[-1]):
            raise DataError(
                "overlap is not positive definite", where=where or None, found="a vector of negative length"
            )
        lengths = np.sqrt(np.maximum(squares, 1e-16 * squares[-1]))
        if not lengths[-1]:
            return q[:, :0], r[:0]
        q, r = (q @ u) / lengths, lengths[:, None] * (u.conj().T @ r)
        sizes = np.linalg.norm(r, axis=1)
        kept = sizes > 1e-11 * sizes.max()
        q, r = q[:, kept], r[kept]
        if squares[kept].min() > 0.1 and squares.max() < 10:
            break
    return q, r
