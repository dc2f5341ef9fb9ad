"""Few states around an energy of the largest systems: factorise H - sigma S, then Lanczos on its inverse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import ArrayLike

from aiida_deeph.engine.bands.bloch import BlochMatrices
from aiida_deeph.engine.bands.dense import Eigenstates
from aiida_deeph.engine.bands.factor import Factorisation, Factoriser, SuperluFactoriser
from aiida_deeph.engine.bands.lanczos import shift_invert
from aiida_deeph.engine.bands.memory import require_memory
from aiida_deeph.engine.errors import DataError

OFFSET = 1.3e-4
"""Shifts are moved by this (eV): a symmetric level at exactly the shift would make the matrix singular."""


@dataclass
class SparseSolver:
    """Solves at one k-point after the other; the symbolic factorisation is shared by all of one arithmetic.

    :param library: `pardiso`, `superlu`, or None for the fastest there is.
    """

    matrices: BlochMatrices
    library: str | None = None

    def __post_init__(self) -> None:
        self._factorisers: dict[bool, Factoriser] = {}

    @property
    def name(self) -> str:
        """Name of the factorisation in use."""
        return next(iter(self._factorisers.values())).name if self._factorisers else "none yet"

    def factoriser(self, *, complex_values: bool) -> Factoriser:
        """The factorisation for real or complex matrices of this pattern.

        :raises DataError: it will not fit into memory.
        """
        if complex_values not in self._factorisers:
            made = make_factoriser(self.matrices, complex_values=complex_values, library=self.library)
            needed = made.analyse()
            kind = "complex" if complex_values else "real"
            require_memory(
                needed,
                f"factorisation of {self.matrices.n_rows} orbitals ({made.name}, {kind})",
                "take a machine with more memory, or the density of states by --method kpm",
            )
            self._factorisers[complex_values] = made
        return self._factorisers[complex_values]

    def factor(self, hamiltonian: sp.csr_matrix, overlap: sp.csr_matrix, sigma: float) -> Factorisation:
        """Factorise H - sigma S."""
        complex_values = np.iscomplexobj(hamiltonian.data) or np.iscomplexobj(overlap.data)
        data = hamiltonian.data - sigma * overlap.data
        return self.factoriser(complex_values=complex_values).factor(data)

    def count_below(self, k: ArrayLike, energy: float, channel: int = 0) -> int | None:
        """Number of states below an energy, by the inertia of H - E S; None if the library cannot tell."""
        return self.factor(*self.matrices.at(k, channel), energy).n_negative

    def around(
        self,
        k: ArrayLike,
        sigma: float,
        num_bands: int,
        *,
        channel: int = 0,
        first: int | None = None,
        vectors: bool = False,
        where: str = "",
    ) -> Eigenstates:
        """The bands around an energy at one k-point.

        :param sigma: eV.
        :param num_bands: how many bands.
        :param first: index of the first band wanted; None centres them on sigma. Needs a library with inertia.
        """
        sigma = sigma + OFFSET
        h, s = self.matrices.at(k, channel)
        factors = self.factor(h, s, sigma)
        n, count = h.shape[0], factors.n_negative
        if first is not None and count is not None:
            below, above = count - first, first + num_bands - count
        else:
            below = num_bands // 2 if count is None else min(num_bands // 2, count)
            below = max(below, num_bands - (n - count)) if count is not None else below
            above = num_bands - below
        # A window that does not hold sigma: the states between are computed too and left out.
        extra_low, extra_high = max(-above, 0), max(-below, 0)
        energies, c = shift_invert(factors.solve, h, s, sigma, max(below, 0), max(above, 0), where=where)
        keep = slice(extra_high, len(energies) - extra_low)
        energies, c = energies[keep], c[:, keep]
        residual = float(np.abs(h @ c - (s @ c) * energies).max())
        if residual > 1e-4:
            raise DataError(
                "factorisation is too inaccurate",
                where=where or None,
                found=f"residual {residual:.1e} eV",
                remedy="shift the energy a little with --around",
            )
        index = None if count is None else (first if first is not None else count - below)
        return Eigenstates(energies, c if vectors else None, np.nan, first_band=index)

    def close(self) -> None:
        """Give the memory of the factors back."""
        for made in self._factorisers.values():
            made.close()
        self._factorisers.clear()


@contextmanager
def sparse_solver(matrices: BlochMatrices, library: str | None = None) -> Iterator[SparseSolver]:
    """A solver that gives its memory back at the end."""
    solver = SparseSolver(matrices, library)
    try:
        yield solver
    finally:
        solver.close()


def make_factoriser(matrices: BlochMatrices, *, complex_values: bool, library: str | None = None) -> Factoriser:
    """PARDISO where its library is installed, else SuperLU.

    :raises DataError: PARDISO is asked for but not there.
    """
    if library in (None, "pardiso"):
        from aiida_deeph.engine.bands.pardiso import PardisoFactoriser, load_library

        mkl = load_library()
        if mkl is not None:
            return PardisoFactoriser(mkl, matrices.indptr, matrices.indices, complex_values=complex_values)
        if library == "pardiso":
            raise DataError("PARDISO is not installed", remedy='pip install "aiida-deeph[pardiso]"')
    return SuperluFactoriser(matrices.indptr, matrices.indices, matrices.atom_of_row, complex_values=complex_values)


def smallest_overlap(overlap: sp.csr_matrix) -> float:
    """Smallest eigenvalue of S(k) by Lanczos on S itself, to a percent; from above if that is not reached."""
    n = overlap.shape[0]
    start = np.random.default_rng(0).standard_normal(n).astype(overlap.dtype)
    try:
        return float(
            spla.eigsh(overlap, k=1, which="SA", tol=1e-2, v0=start, ncv=min(n - 1, 60), return_eigenvectors=False)[0]
        )
    except spla.ArpackNoConvergence as error:
        return float(np.min(error.eigenvalues)) if len(error.eigenvalues) else float("nan")
