"""Fermi level of systems too large for all eigenvalues: states counted by inertia, then a few of them computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.bloch import BlochMatrices
from aiida_deeph.engine.linalg.dense import Eigenstates
from aiida_deeph.engine.linalg.kpoint_loop import Arrays, Loop
from aiida_deeph.engine.linalg.sparse import SparseSolver
from aiida_deeph.engine.observables.fermi import FermiLevel, fermi_level

CLUSTER_ROWS = 800
"""Rows of the cluster whose levels give the first guess."""

TAIL = 8.0
"""Widths of the Fermi-Dirac distribution after which states count as full or empty (they are to 3e-4)."""


def guess_level(matrices: BlochMatrices, filling: float) -> tuple[float, float, float]:
    """Of a cluster of atoms around the first one: Fermi level, states per eV (scaled to the system), lowest state.

    :param filling: share of all states that is occupied.
    """
    h, s = matrices.at((0, 0, 0))
    near = np.array([0])
    while len(near) < CLUSTER_ROWS:
        reached = np.unique(s[near].indices)
        if len(reached) <= len(near):
            break
        near = reached
    near = near[:CLUSTER_ROWS] if len(near) > 2 * CLUSTER_ROWS else near
    # Whole atoms: part of an atom's orbitals is no subsystem.
    rows = np.flatnonzero(np.isin(matrices.atom_of_row, matrices.atom_of_row[near]))
    try:
        energies = la.eigvalsh(h[rows][:, rows].toarray(), s[rows][:, rows].toarray())
    except la.LinAlgError as error:
        raise DataError(
            "overlap is not positive definite",
            where=f"{len(rows)} orbitals around the first atom",
            found=str(error).partition(".")[0],
            expected="only positive eigenvalues of S",
        ) from None
    place = min(max(round(filling * len(rows)), 1), len(rows) - 1)
    level = (energies[place - 1] + energies[place]) / 2
    around = np.count_nonzero(np.abs(energies - level) < 2.0) / 4.0
    return float(level), max(around, 0.1) * matrices.n_rows / len(rows), float(energies[0])


def fermi_by_inertia(
    solver: SparseSolver,
    kpoints: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_electrons: float,
    electrons_per_state: int,
    smearing: float,
    *,
    start: float | None = None,
    slope: float | None = None,
    loop: Loop | None = None,
) -> FermiLevel:
    """Fermi level on a k-mesh: an energy below which about the right number of states lies, then the states around it.

    :param kpoints: fractional, shape (n_k, 3); the first one serves for the search.
    :param weights: sum 1, shape (n_k,).
    :param start: first guess, eV; None takes that of a cluster.
    :param slope: states per eV around it (all channels); None takes those of a cluster.
    :param loop: how the k-points are worked through.
    :raises DataError: the level is not found.
    """
    matrices = solver.matrices
    n_channels = matrices.n_channels
    wanted = n_electrons / electrons_per_state
    if start is None or slope is None:
        guess, dense, _ = guess_level(matrices, wanted / (n_channels * matrices.n_rows))
        start, slope = (guess if start is None else start), (dense if slope is None else slope)
    # Enough states at each k-point for the tails of the occupations, if the cluster's density of states is about right.
    for_tails = 24 + int(3 * TAIL * smearing * slope / n_channels)
    # One k-point has discrete states: most likely the level lies in a gap, which few of them show.
    n_states = 24 if len(kpoints) * n_channels == 1 else for_tails
    energy = _search(solver, kpoints[0], wanted, start, slope, max(n_states // 8, 6))
    while True:
        count = min(n_states, matrices.n_rows // 2)

        def solve(channel: int, index: int, energy: float = energy, count: int = count) -> Arrays:
            return replace(solver.around(kpoints[index], energy, count, channel=channel), vectors=None).arrays()

        tasks = [(channel, n) for channel in range(n_channels) for n in range(len(kpoints))]
        found = (loop or Loop()).run(f"Fermi level {count}", tasks, solve)
        states = [
            [Eigenstates.from_arrays(found[channel, n]) for n in range(len(kpoints))] for channel in range(n_channels)
        ]
        level = _level(states, weights, n_electrons, electrons_per_state, smearing)
        if level is not None:
            return level
        if n_states > matrices.n_rows // 4:
            raise DataError("Fermi level not found", remedy="take the dense solver")
        n_states = max(2 * n_states, for_tails)


def _search(
    solver: SparseSolver, k: NDArray[np.float64], wanted: float, energy: float, slope: float, close: int
) -> float:
    """An energy with the wanted number of states below it, up to `close` states."""
    low, high = -np.inf, np.inf
    for _ in range(60):
        count = 0
        for channel in range(solver.matrices.n_channels):
            count += solver.count_below(k, energy, channel)
        missing = wanted - count
        if abs(missing) <= close:
            return energy
        low, high = (energy, high) if missing > 0 else (low, energy)
        following = energy + float(np.clip(missing / slope, -8.0, 8.0))
        if not low < following < high:
            following = (low + high) / 2
        # A step that did not pass the level shows that states are rarer than thought.
        if abs(missing) > 4 * close and not np.isfinite(high - low):
            slope /= 1.5
        if high - low < 1e-6:
            return energy
        energy = following
    raise DataError("Fermi level not found", found=f"between {low:g} and {high:g} eV")


def _level(
    states: list[list[Eigenstates]],
    weights: NDArray[np.float64],
    n_electrons: float,
    electrons_per_state: int,
    smearing: float,
) -> FermiLevel | None:
    """Level from windows of bands; None if they are too narrow to be sure."""
    firsts, lasts = [], []
    for channel in states:
        starts = [int(found.first_band or 0) for found in channel]
        firsts.append(max(starts))
        lasts.append(min(n + len(found.energies) for n, found in zip(starts, channel, strict=True)))
    width = min(last - first for first, last in zip(firsts, lasts, strict=True))
    left = n_electrons - electrons_per_state * sum(firsts)
    if width < 2 or not 0 < left < electrons_per_state * len(states) * width:
        return None
    energies = np.array(
        [
            [found.energies[first - int(found.first_band or 0) :][:width] for found in channel]
            for first, channel in zip(firsts, states, strict=True)
        ]
    )
    found = fermi_level(energies, weights, left, electrons_per_state, smearing)
    if found.insulator:
        return found if found.gap is not None else None
    margin = TAIL * smearing
    everywhere = energies[:, :, 0].max() < found.level - margin and energies[:, :, -1].min() > found.level + margin
    return found if everywhere else None
