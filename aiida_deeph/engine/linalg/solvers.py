"""Which solver a problem gets, whether it fits into memory, and the loop over k-points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.bloch import BlochMatrices
from aiida_deeph.engine.linalg.dense import Eigenstates, solve_dense
from aiida_deeph.engine.linalg.kpoint_loop import Loop
from aiida_deeph.engine.linalg.sparse import SparseSolver, smallest_overlap
from aiida_deeph.engine.system import require_memory

DENSE_LIMIT = 5000
"""Rows of H(k) up to which `auto` takes the dense solver even if few bands are asked for."""

Solver = Literal["dense", "sparse"]
Observe = Callable[[int, int, Eigenstates, Any], Mapping[str, NDArray[Any]]]
"""(channel, index of k, states with vectors, S(k)) -> arrays by name."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenstates of every spin channel at every k-point.

    :param states: [channel][k], of a share those k-points alone.
    :param solver: what solved them.
    """

    states: tuple[tuple[Eigenstates, ...], ...]
    solver: Solver

    @property
    def energies(self) -> NDArray[np.float64]:
        """shape (n_channels, n_k, n_bands), eV; n_bands is the smallest number over all k-points."""
        n_bands = min(len(state.energies) for channel in self.states for state in channel)
        return np.array([[state.energies[:n_bands] for state in channel] for channel in self.states])

    @property
    def smallest_overlap(self) -> float | None:
        """Smallest eigenvalue of S over all k-points."""
        return min((state.smallest_overlap for channel in self.states for state in channel), default=None)

    @property
    def n_dropped(self) -> int:
        """Most combinations of orbitals projected out at one k-point."""
        return max(state.n_dropped for channel in self.states for state in channel)


def choose_solver(n_rows: int, num_bands: int | None, wanted: Literal["auto", "dense", "sparse"]) -> Solver:
    """Dense for small matrices or when many bands are asked for, sparse otherwise.

    :raises InputError: more bands than rows, or all bands from the sparse solver.
    """
    if num_bands is not None and num_bands > n_rows:
        raise InputError("more bands than orbitals", where="num_bands", found=num_bands, expected=f"at most {n_rows}")
    if wanted == "sparse" and (num_bands is None or num_bands > n_rows - 2):
        raise InputError(
            "the sparse solver cannot give all bands",
            where="num_bands",
            found=num_bands,
            expected=f"at most {n_rows - 2}",
            remedy="set num_bands, or take the dense solver",
        )
    if wanted != "auto":
        return wanted
    return "sparse" if num_bands is not None and n_rows > DENSE_LIMIT and num_bands <= n_rows // 10 else "dense"


def dense_bytes(n_rows: int, *, vectors: bool, complex_values: bool) -> float:
    """Memory of the dense solver: H, S, factor and work space, and twice more with eigenvectors."""
    return float((8 if vectors else 4) * n_rows**2 * (16 if complex_values else 8))


def dense_spectrum(
    matrices: BlochMatrices,
    kpoints: NDArray[np.float64],
    *,
    overlap_threshold: float,
    loop: Loop | None = None,
    name: str = "k-points",
    observe: Observe | None = None,
) -> Spectrum:
    """All eigenvalues at every k-point.

    :param kpoints: fractional, shape (n_k, 3).
    :param loop: how the k-points are worked through.
    :param observe: makes of states with their vectors what is kept of these.
    :raises DataError: S not positive definite, or not enough memory.
    """
    loop = loop or Loop()
    real = all(matrices.is_real_at(k) for k in kpoints)
    require_memory(
        loop.workers * dense_bytes(matrices.n_rows, vectors=observe is not None, complex_values=not real),
        f"dense diagonalisation of {matrices.n_rows} orbitals",
        "ask for few bands with the sparse solver (--num-bands N --solver sparse), or take a machine with more memory",
    )

    def solve(channel: int, index: int) -> Eigenstates:
        h, s = matrices.at(kpoints[index], channel)
        where = f"k = {np.round(kpoints[index], 6).tolist()}"
        found = solve_dense(h, s, vectors=observe is not None, overlap_threshold=overlap_threshold, where=where)
        extras = observe(channel, index, found, s) if observe is not None else {}
        return replace(found, vectors=None, extras=extras)

    return _spectrum(matrices, kpoints, loop, name, solve, "dense")


def sparse_spectrum(
    solver: SparseSolver,
    kpoints: NDArray[np.float64],
    energy: float,
    num_bands: int,
    *,
    loop: Loop | None = None,
    name: str = "k-points",
    observe: Observe | None = None,
) -> Spectrum:
    """The same bands at every k-point, those around an energy at the first one.

    :param kpoints: fractional, shape (n_k, 3).
    :param energy: eV.
    :param loop: how the k-points are worked through.
    :param observe: makes of states with their vectors what is kept of these.
    :raises DataError: S not positive definite, not enough memory, or no convergence.
    """
    loop, matrices = loop or Loop(), solver.matrices
    solver.require_memory(loop.workers)
    overlap = smallest_overlap(matrices.at(kpoints[0])[1])
    counts = [solver.count_below(kpoints[0], energy, channel) for channel in range(matrices.n_channels)]
    first = min(max(round(sum(counts) / len(counts)) - num_bands // 2, 0), matrices.n_rows - num_bands)

    def solve(channel: int, index: int) -> Eigenstates:
        k = kpoints[index]
        where = f"k = {np.round(k, 6).tolist()}"
        found = solver.around(k, energy, num_bands, channel=channel, first=first, where=where)
        extras = observe(channel, index, found, matrices.at(k, channel)[1]) if observe is not None else {}
        return replace(found, vectors=None, smallest_overlap=overlap, extras=extras)

    return _spectrum(matrices, kpoints, loop, name, solve, "sparse")


def _spectrum(
    matrices: BlochMatrices,
    kpoints: NDArray[np.float64],
    loop: Loop,
    name: str,
    solve: Callable[[int, int], Eigenstates],
    solver: Solver,
) -> Spectrum:
    tasks = [(c, n) for c in range(matrices.n_channels) for n in range(len(kpoints))]
    found = loop.run(name, tasks, lambda channel, index: solve(channel, index).arrays())
    states = [
        tuple(Eigenstates.from_arrays(found[task]) for task in tasks if task in found and task[0] == c)
        for c in range(matrices.n_channels)
    ]
    return Spectrum(tuple(states), solver)
