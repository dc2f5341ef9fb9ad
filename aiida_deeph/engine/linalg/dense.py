"""All eigenvalues of H(k) c = E S(k) c with LAPACK, safe against nearly dependent orbitals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError

GHOST_EIGENVALUE = 1e-4
"""Eigenvectors of S(k) below this span the near-null space in which ghost states live."""

EXTRA = "extra_"
"""Before the names of `Eigenstates.extras` among its arrays."""


@dataclass(frozen=True)
class Eigenstates:
    """Eigenvalues at one k-point, ascending.

    :param energies: shape (n_bands,), eV.
    :param vectors: coefficients with C^dagger S C = 1, shape (n_rows, n_bands), or None.
    :param smallest_overlap: smallest eigenvalue of S(k).
    :param n_dropped: combinations of orbitals projected out because their eigenvalue of S(k) is below the threshold.
    :param null_weights: weight of each state in the near-null space of S(k), shape (n_bands,); None without one.
    :param first_band: index of the first of these bands among all bands; None if unknown.
    :param extras: what was made of the vectors before they were dropped, by name.
    """

    energies: NDArray[np.float64]
    vectors: NDArray[Any] | None
    smallest_overlap: float
    n_dropped: int = 0
    null_weights: NDArray[np.float64] | None = None
    first_band: int | None = 0
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name, as a file can hold it; what is None is left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extras"}
        plain = {name: np.asarray(value) for name, value in values.items() if value is not None}
        return plain | {EXTRA + name: value for name, value in self.extras.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Eigenstates:
        """The inverse of `arrays`."""
        values: dict[str, Any] = {"vectors": None, "first_band": None}
        values |= {name: a if a.ndim else a.item() for name, a in arrays.items() if not name.startswith(EXTRA)}
        extras = {name.removeprefix(EXTRA): a for name, a in arrays.items() if name.startswith(EXTRA)}
        return cls(**values, extras=extras)


def solve_dense(
    hamiltonian: sp.spmatrix,
    overlap: sp.spmatrix,
    *,
    vectors: bool = False,
    overlap_threshold: float = 1e-6,
    where: str = "",
) -> Eigenstates:
    """Solve H c = E S c completely.

    S = L L^dagger turns it into an ordinary problem (LAPACK hegst, heevd). Where the smallest eigenvalue of S is below
    `GHOST_EIGENVALUE`, S is diagonalised, S = U s U^dagger, and combinations with s < overlap_threshold are projected
    out (canonical orthogonalisation, P.-O. Loewdin, Adv. Quantum Chem. 5, 185 (1970)): X = U s^(-1/2),
    X^dagger H X y = E y.

    :param hamiltonian: H(k) in eV, shape (n, n), Hermitian.
    :param overlap: S(k), shape (n, n), Hermitian.
    :param vectors: whether coefficients are wanted too.
    :param overlap_threshold: smallest eigenvalue of S that is kept.
    :param where: name of the k-point in error messages.
    :raises DataError: S is not positive definite.
    """
    h = np.asfortranarray(hamiltonian.toarray())
    s = np.asfortranarray(overlap.toarray())
    factor, smallest = _cholesky(s)
    if factor is None or smallest < max(GHOST_EIGENVALUE, overlap_threshold):
        return _solve_canonical(h, s, vectors, overlap_threshold, where)
    (hegst,) = la.get_lapack_funcs(("hegst" if np.iscomplexobj(h) else "sygst",), (h,))
    reduced, info = hegst(h, factor, itype=1, lower=1, overwrite_a=1)
    if info:
        raise DataError("LAPACK hegst failed", where=where, found=f"info = {info}")
    if not vectors:
        energies = la.eigvalsh(reduced, lower=True, overwrite_a=True, check_finite=False, driver="evd")
        return Eigenstates(energies, None, smallest)
    energies, y = la.eigh(reduced, lower=True, overwrite_a=True, check_finite=False, driver="evd")
    coefficients = la.solve_triangular(factor, y, lower=True, trans="C", overwrite_b=True, check_finite=False)
    return Eigenstates(energies, coefficients, smallest)


def _cholesky(s: NDArray[Any]) -> tuple[NDArray[Any] | None, float]:
    """L with S = L L^dagger (None if there is none) and the smallest eigenvalue of S."""
    try:
        factor = la.cholesky(s, lower=True, check_finite=False)
    except la.LinAlgError:
        return None, -np.inf
    return factor, smallest_eigenvalue(lambda x: la.cho_solve((factor, True), x, check_finite=False), len(s), s.dtype)


def smallest_eigenvalue(solve: Any, n: int, dtype: Any) -> float:
    """Smallest eigenvalue of a positive definite matrix from products with its inverse (Lanczos, to 1e-3 of its value).

    :param solve: x -> S^-1 x, shape (n,).
    """
    if n < 100:
        inverse = solve(np.eye(n, dtype=dtype))
        return float(1 / np.linalg.eigvalsh((inverse + inverse.conj().T) / 2)[-1])
    operator = spla.LinearOperator((n, n), matvec=solve, dtype=dtype)
    start = np.random.default_rng(0).standard_normal(n).astype(dtype)  # the same answer every time
    largest = spla.eigsh(operator, k=1, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)[0]
    return float(1 / largest)


def _solve_canonical(h: NDArray[Any], s: NDArray[Any], vectors: bool, threshold: float, where: str) -> Eigenstates:
    weights, u = la.eigh(s, check_finite=False, driver="evd")
    if weights[0] < -threshold:
        raise DataError(
            "overlap is not positive definite",
            where=where or None,
            found=f"smallest eigenvalue of S(k) {weights[0]:.3g}",
            expected="more than 0",
            remedy="an overlap cut off too early loses positive definiteness: keep all pairs of atoms that overlap",
        )
    kept = weights >= threshold
    x = u[:, kept] / np.sqrt(weights[kept])
    reduced = x.conj().T @ h @ x
    energies, y = la.eigh(reduced, overwrite_a=True, check_finite=False, driver="evd")
    # Loewdin coefficients in the eigenbasis of S are y itself, so weights in its near-null space are sums over |y|^2.
    near_null = weights[kept] < GHOST_EIGENVALUE
    null_weights = (np.abs(y[near_null]) ** 2).sum(axis=0)
    return Eigenstates(energies, x @ y if vectors else None, float(weights[0]), int((~kept).sum()), null_weights)
