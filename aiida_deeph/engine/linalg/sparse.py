"""Few states around an energy of the largest systems: factorise H - sigma S, then Lanczos on its inverse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.bloch import BlochMatrices
from aiida_deeph.engine.linalg.dense import GHOST_EIGENVALUE, Eigenstates
from aiida_deeph.engine.linalg.lanczos import shift_invert
from aiida_deeph.engine.linalg.multifrontal import factorise, peak_bytes
from aiida_deeph.engine.linalg.symbolic import Factorisation, Front, build_fronts
from aiida_deeph.engine.system import available_memory, require_memory

OFFSET = 1.3e-4
"""Shifts are moved by this (eV): a symmetric level at exactly the shift would make the matrix singular."""

NO_REMEDY = "take a machine with more memory"


class SparseSolver:
    """Solves at one k-point after the other; the symbolic factorisation is shared by all of them.

    :param single: keep factors in single precision and refine solutions; None does so where double will not fit.
    """

    def __init__(self, matrices: BlochMatrices, single: bool | None = None) -> None:
        self.matrices, self.single = matrices, single
        self._last: tuple[object, Shifted] | None = None

    @cached_property
    def fronts(self) -> list[Front]:
        """Order of elimination and fill."""
        return build_fronts(self.matrices.indptr, self.matrices.indices, self.matrices.atom_of_row)

    @property
    def _what(self) -> str:
        return f"sparse factorisation of {self.matrices.n_rows} orbitals"

    def require_memory(self, copies: int = 1, *, complex_values: bool = True) -> bool:
        """Refuse factorisations that do not fit; otherwise whether they must be in single precision.

        :param copies: how many there are at a time.
        :raises DataError: not even single precision fits into memory.
        """
        needed, free = copies * peak_bytes(self.fronts, complex_values=complex_values), available_memory()
        single = self.single if self.single is not None else free is not None and needed > free
        require_memory(
            needed / 2 if single else needed,
            self._what,
            NO_REMEDY,
        )
        return single

    def factor(self, data: NDArray[Any]) -> Factorisation:
        """Factorise a Hermitian matrix on the common pattern, in single precision where double will not fit.

        :param data: entries, shape (n_nonzero,); those in single precision give solutions without refinement.
        :raises DataError: not even single precision fits into memory.
        """
        if data.dtype in (np.float32, np.complex64):
            double = peak_bytes(self.fronts, complex_values=np.iscomplexobj(data))
            require_memory(double / 2, self._what, NO_REMEDY)
            return factorise(self.fronts, self.matrices.indptr, self.matrices.indices, data)
        single = self.require_memory(complex_values=np.iscomplexobj(data))
        return factorise(self.fronts, self.matrices.indptr, self.matrices.indices, data, single=single)

    def factor_overlap(self, overlap: sp.csr_matrix, *, where: str = "") -> Factorisation:
        """Factorise S(k).

        :raises DataError: S is not positive definite, or no memory.
        """
        factors = self.factor(overlap.data)
        if factors.n_negative:
            raise DataError(
                "overlap is not positive definite",
                where=where or None,
                found=f"{factors.n_negative} negative eigenvalues of S(k)",
                expected="none",
                remedy="an overlap cut off too early loses positive definiteness: keep all pairs of atoms that overlap",
            )
        return factors

    def shifted(self, k: ArrayLike, sigma: float, channel: int = 0, *, where: str = "") -> Shifted:
        """H(k) - sigma S(k), factorised; the last one is kept.

        :param sigma: eV; moved by `OFFSET`.
        """
        key = (tuple(np.asarray(k, dtype=np.float64).tolist()), sigma, channel)
        if self._last is None or self._last[0] != key:
            self._last = None  # two factorisations at a time might not fit
            h, s = self.matrices.at(k, channel)
            sigma = sigma + OFFSET
            self._last = (key, Shifted(h, s, sigma, self.factor(h.data - sigma * s.data), where))
        return self._last[1]

    def count_below(self, k: ArrayLike, energy: float, channel: int = 0) -> int:
        """Number of states below an energy, by the inertia of H - E S."""
        return self.shifted(k, energy, channel).count

    def around(
        self,
        k: ArrayLike,
        sigma: float,
        num_bands: int,
        *,
        channel: int = 0,
        first: int | None = None,
        where: str = "",
    ) -> Eigenstates:
        """The bands around an energy at one k-point.

        :param sigma: eV.
        :param num_bands: how many bands.
        :param first: index of the first band wanted; None centres them on sigma.
        """
        shift = self.shifted(k, sigma, channel, where=where)
        if first is None:
            first = min(max(shift.count - num_bands // 2, 0), self.matrices.n_rows - num_bands)
        return shift.bands(first, first + num_bands)


@dataclass(frozen=True)
class Shifted:
    """H - sigma S at one k-point, factorised: counts the states below sigma and computes those around it."""

    hamiltonian: sp.csr_matrix
    overlap: sp.csr_matrix
    sigma: float
    factors: Factorisation
    where: str = ""

    @property
    def count(self) -> int:
        """States below sigma."""
        return self.factors.n_negative

    def bands(self, first: int, last: int) -> Eigenstates:
        """Bands first..last - 1 with their vectors. Those between them and sigma are computed too and left out.

        :raises DataError: no convergence, S not positive definite, or a factorisation without accuracy.
        """
        h, s = self.hamiltonian, self.overlap
        below, above = self.count - first, last - self.count
        spare_high, spare_low = max(-below, 0), max(-above, 0)
        energies, c = shift_invert(self.factors.solve, h, s, self.sigma, max(below, 0), max(above, 0), where=self.where)
        keep = slice(spare_high, len(energies) - spare_low)
        energies, c = energies[keep], c[:, keep]
        residual = float(np.abs(h @ c - (s @ c) * energies).max())
        if residual > 1e-4:
            raise DataError(
                "factorisation is too inaccurate",
                where=self.where or None,
                found=f"residual {residual:.1e} eV",
                remedy="move the energy a little",
            )
        return Eigenstates(energies, c, np.nan, null_weights=null_share(c), first_band=first)


def null_share(vectors: NDArray[Any]) -> NDArray[np.float64] | None:
    """Estimate of the weight of states in the near-null space of S(k), shape (n_states,); None if all are far from it.

    With Loewdin coefficients y in the eigenbasis of S, C^dagger C = sum |y|^2 / s: large where s is small.
    """
    share = np.minimum(GHOST_EIGENVALUE * (np.abs(vectors) ** 2).sum(axis=0), 1.0)
    return share if share.max(initial=0.0) > 0.01 else None


def smallest_overlap(overlap: sp.csr_matrix, steps: int = 400) -> float:
    """Smallest eigenvalue of S(k), approached from above by plain Lanczos until it stands still to 0.3 percent.

    :param steps: products with S at most.
    """
    n = overlap.shape[0]
    if n <= 300:
        return float(la.eigvalsh(overlap.toarray(), subset_by_index=[0, 0])[0])
    v = np.random.default_rng(0).standard_normal(n).astype(overlap.dtype)
    v, before, beta = v / np.linalg.norm(v), np.zeros_like(v), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    last = np.inf
    for step in range(1, min(steps, n) + 1):
        w = overlap @ v - beta * before
        diagonal.append(float(np.vdot(v, w).real))
        w -= diagonal[-1] * v
        beta = float(np.linalg.norm(w))
        if step % 20 == 0 or step == min(steps, n) or beta < 1e-12:
            smallest = float(la.eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=(0, 0))[0])
            if abs(smallest - last) <= 0.003 * abs(smallest) or beta < 1e-12:
                return smallest
            last = smallest
        beside.append(beta)
        before, v = v, w / beta
    return last
