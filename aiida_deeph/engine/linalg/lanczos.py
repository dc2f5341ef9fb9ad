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

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.symbolic import Solve


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
    n, wanted = hamiltonian.shape[0], below + above
    dtype = np.result_type(hamiltonian.dtype, overlap.dtype)
    limit = min(n, max_basis or 12 * wanted + 40 * block)
    rng = np.random.default_rng(0)  # the same start every time: results do not flicker
    basis = _Basis(n, dtype, limit)
    q = rng.standard_normal((n, min(block, n))).astype(dtype)
    q = _orthonormalised(q, overlap @ q, where)[0]
    checked = 0
    while True:
        w = solve(basis.append(q, overlap @ q))
        projected = basis.project(w)
        m, width = basis.size, q.shape[1]
        basis.matrix[:m, m - width : m] = projected
        basis.matrix[m - width : m, :m] = projected.conj().T
        coupling = np.zeros((0, width), dtype=dtype)
        if m < n:
            q, sq, coupling = _orthonormalised(w, overlap @ w, where)
            basis.project(q, sq)  # what scaling up of short directions brought back
            q, sq, change = _orthonormalised(q, sq, where)
            coupling = change @ coupling
        # Diagonalising the projected matrix costs its size cubed: not after every block when the basis is large.
        if (m >= min(wanted + block, n) and m - checked >= m // 16) or m >= limit:
            checked = m
            theta, y = la.eigh(basis.matrix[:m, :m])
            # theta = 1 / (E - sigma): the most negative are next below sigma, the most positive next above.
            chosen = np.concatenate([np.arange(below), np.arange(m - above, m)])
            residual = np.linalg.norm(coupling @ y[m - width :, chosen], axis=0)
            right_sides = (theta[:below] < 0).all() and (theta[m - above :] > 0).all()
            left = np.count_nonzero(residual > tolerance * theta[chosen] ** 2)
            if right_sides and not left:
                break
            if m >= limit:
                raise DataError(
                    "Lanczos iteration does not converge",
                    where=where or None,
                    found=f"{left} of {wanted} states left",
                    remedy="ask for fewer bands, or around an energy where there are states",
                )
        if q.shape[1] == 0 or m + q.shape[1] > limit:  # an invariant space, or the last columns
            q = q[:, : limit - m]
            if not q.shape[1]:
                q = rng.standard_normal((n, min(block, limit - m))).astype(dtype)
                basis.project(q)
                q = _orthonormalised(q, overlap @ q, where)[0]
    x = basis.vectors[:, :m] @ y[:, chosen]
    # Rayleigh-Ritz with H itself: free of the errors of the factorisation to first order.
    energies, rotation = la.eigh(x.conj().T @ (hamiltonian @ x), x.conj().T @ (overlap @ x))
    return energies, x @ rotation


class _Basis:
    """S-orthonormal vectors, their products with S, and the operator projected on them; room grows by doubling."""

    def __init__(self, n: int, dtype: Any, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self.vectors = np.empty((n, 0), dtype=dtype, order="F")
        self.products = np.empty((n, 0), dtype=dtype, order="F")
        self.matrix = np.zeros((0, 0), dtype=dtype)

    def append(self, q: NDArray[Any], sq: NDArray[Any]) -> NDArray[Any]:
        """Add vectors and their products with S; return these."""
        end = self.size + q.shape[1]
        if end > self.vectors.shape[1]:
            room = max(end, min(self._limit, max(64, 2 * end)))
            for name in ("vectors", "products"):
                grown = np.empty((len(q), room), dtype=self.vectors.dtype, order="F")
                grown[:, : self.size] = getattr(self, name)[:, : self.size]
                setattr(self, name, grown)
            matrix = np.zeros((room, room), dtype=self.vectors.dtype)
            matrix[: self.size, : self.size] = self.matrix[: self.size, : self.size]
            self.matrix = matrix
        self.vectors[:, self.size : end] = q
        self.products[:, self.size : end] = sq
        self.size = end
        return sq

    def project(self, w: NDArray[Any], sw: NDArray[Any] | None = None) -> NDArray[Any]:
        """Remove the basis from vectors, in place and twice; return their components, shape (size, n_vectors).

        :param sw: products of the vectors with S, which follow.
        """
        v, sv = self.vectors[:, : self.size], self.products[:, : self.size]
        total = np.zeros((self.size, w.shape[1]), dtype=self.vectors.dtype)
        for _ in range(2):
            part = sv.conj().T @ w
            w -= v @ part
            if sw is not None:
                sw -= sv @ part
            total += part
        return total


def _orthonormalised(q: NDArray[Any], sq: NDArray[Any], where: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Q, S Q and R with W = Q R and Q^dagger S Q = 1; directions shorter than 1e-11 of the longest are left out of Q.

    Each pass orthogonalises as well as its Gram matrix allows, 16 digits of length squared, hence the repetition.

    :param q: W, shape (n, n_vectors).
    :param sq: S W.
    """
    r = np.eye(q.shape[1], dtype=q.dtype)
    for _ in range(5):
        gram = q.conj().T @ sq
        squares, u = la.eigh((gram + gram.conj().T) / 2)
        if squares[0] < -1e-8 * abs(squares[-1]):
            raise DataError("overlap is not positive definite", where=where or None, found="a negative length")
        lengths = np.sqrt(np.maximum(squares, 1e-16 * squares[-1]))
        if not lengths[-1]:
            return q[:, :0], sq[:, :0], r[:0]
        u, r = u / lengths, lengths[:, None] * (u.conj().T @ r)
        sizes = np.linalg.norm(r, axis=1)
        kept = sizes > 1e-11 * sizes.max()
        q, sq, r = q @ u[:, kept], sq @ u[:, kept], r[kept]
        if squares[kept].min() > 0.1 and squares.max() < 10:
            break
    return q, sq, r
