"""Which solver a problem gets, whether it fits into memory, and the loop over k-points."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.bands.bloch import BlochMatrices
from aiida_deeph.engine.bands.dense import Eigenstates, solve_dense
from aiida_deeph.engine.errors import DataError, InputError

DENSE_LIMIT = 5000
"""Rows of H(k) up to which `auto` takes the dense solver even if few bands are asked for."""

Solver = Literal["dense", "sparse"]
Progress = Callable[[], None]


@dataclass(frozen=True)
class Spectrum:
    """Eigenstates of every spin channel at every k-point.

    :param states: [channel][k].
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


def available_memory() -> int | None:
    """Bytes that this process may still take: free memory of the machine or of its cgroup, whichever is less."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration, ValueError):
        pass
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            limits.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no cgroup, or "max"
            continue
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits) if limits else None


def require_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse work that will not fit.

    :param needed: bytes.
    :raises DataError: naming what is needed and what there is.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise DataError(
            "not enough memory",
            where=what,
            found=f"{available / 2**30:.1f} GiB free",
            expected=f"{needed / 2**30:.1f} GiB",
            remedy=remedy,
        )


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def dense_bytes(n_rows: int, *, vectors: bool, complex_values: bool) -> float:
    """Memory of the dense solver: H, S, factor and work space, and twice more with eigenvectors."""
    return float((8 if vectors else 4) * n_rows**2 * (16 if complex_values else 8))


def dense_spectrum(
    matrices: BlochMatrices,
    kpoints: NDArray[np.float64],
    *,
    overlap_threshold: float,
    progress: Progress | None = None,
    observe: Callable[[int, int, Eigenstates, Any], None] | None = None,
) -> Spectrum:
    """All eigenvalues at every k-point.

    :param kpoints: fractional, shape (n_k, 3).
    :param progress: called after each diagonalisation.
    :param observe: called with (channel, index of k, states with vectors, S(k)); vectors are not kept after it.
    :raises DataError: S not positive definite, or not enough memory.
    """
    real = all(matrices.is_real_at(k) for k in kpoints)
    require_memory(
        dense_bytes(matrices.n_rows, vectors=observe is not None, complex_values=not real),
        f"dense diagonalisation of {matrices.n_rows} orbitals",
        "ask for few bands with the sparse solver (--num-bands N --solver sparse), or take a machine with more memory",
    )
    channels = []
    for channel in range(matrices.n_channels):
        states = []
        for index, k in enumerate(kpoints):
            h, s = matrices.at(k, channel)
            found = solve_dense(
                h,
                s,
                vectors=observe is not None,
                overlap_threshold=overlap_threshold,
                where=f"k = {np.round(k, 6).tolist()}",
            )
            if observe is not None:
                observe(channel, index, found, s)
                found = Eigenstates(found.energies, None, found.smallest_overlap, found.n_dropped, found.null_weights)
            states.append(found)
            if progress is not None:
                progress()
        channels.append(tuple(states))
    return Spectrum(tuple(channels), "dense")


@contextmanager
def progress_bar(description: str, total: int, show: bool | None = None) -> Iterator[Progress]:
    """A bar on standard error, shown on a terminal or when asked for; yields the function that advances it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    shown = sys.stderr.isatty() if show is None else show
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
