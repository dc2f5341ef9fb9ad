"""Two Hamiltonians of one structure: errors of H, bands and velocities, and whether the first explain the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import mesh_for_spacing, periodic_directions
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.linalg.dense import Eigenstates, solve_dense
from aiida_deeph.engine.observables.bands import kpoints_of
from aiida_deeph.engine.observables.config import BandsConfig, CompareConfig, CompareSettings
from aiida_deeph.engine.observables.fermi import fermi_level
from aiida_deeph.engine.observables.output import electrons_of, read_folder, write_json
from aiida_deeph.engine.observables.projection import LETTERS
from aiida_deeph.engine.system import track

DEGENERATE = 5e-3
"""States closer than this (eV) are one group: their velocities are not compared, their first order is a matrix."""


def run_compare(config: CompareConfig, *, show_progress: bool | None = None) -> Path:
    """Compare as a configuration says and write the result of `compare_hamiltonians`.

    :returns: the file written.
    :raises DeepHError: one line about what is wrong; nothing is written then.
    """
    found, reference = (read_folder(folder) for folder in (config.folder, config.reference))
    names = (config.folder, config.reference)
    return write_json(
        Path(config.output), compare_hamiltonians(found, reference, config, names, show_progress=show_progress)
    )


def compare_hamiltonians(
    found: RealSpaceHamiltonian,
    reference: RealSpaceHamiltonian,
    settings: CompareSettings,
    names: tuple[str, str] = ("Hamiltonian", "reference"),
    *,
    show_progress: bool | None = None,
) -> dict[str, Any]:
    """What distinguishes a Hamiltonian from a reference, and whether the errors of H explain those of the bands.

    :param names: of both in error messages.
    :return: `gauge_shift` (eV), `matrix` (errors of H overall, by elements, by shells, by distance, and the difference
        of S), `bands` (mean and largest deviation in the window, gaps), `velocities` (eV Angstrom) and `perturbation`:
        deviations that first-order perturbation theory expects from the errors of H and S, what remains, and whether
        that is as little as it should be (`explained`).
    :raises DeepHError: they are no two Hamiltonians of one system, or the window holds no states.
    """
    check_same_system(found, reference, names[0])
    shift = gauge_shift(found, reference) if settings.align == "gauge" else 0.0
    if shift:
        aligned = found.overlap.aligned_to(found.hamiltonian.atom_pairs, found.orbitals_per_atom)
        found = replace(found, hamiltonian=found.hamiltonian - shift * spinful(aligned, found))
    if settings.spacing is not None:
        mesh = mesh_for_spacing(reference.structure.cell, periodic_directions(reference), settings.spacing)
        settings = settings.model_copy(update={"mesh": mesh, "spacing": None})
    fields = {name: getattr(settings, name) for name in ("kpoints", "kpath", "points_per_segment", "mesh")}
    points, weights = kpoints_of(BandsConfig(folder=names[1], **fields), reference)
    both = Pair(bloch_matrices(found, names[0]), bloch_matrices(reference, names[1]))
    kpoints = points.fractional
    tasks = [(c, n) for c in range(both.reference.n_channels) for n in range(len(kpoints))]
    solved = {(c, n): both.solve(kpoints[n], c) for c, n in track(tasks, "k-points", len(tasks), show=show_progress)}
    level, edges = _level(settings, names[1], reference, solved, weights, len(kpoints))
    low, high = (level + edge for edge in settings.window)
    deviations, first_order, velocities = [], [], []
    for (c, n), (ours, theirs) in solved.items():
        inside = np.flatnonzero((theirs.energies >= low) & (theirs.energies <= high))
        inside = inside[inside < len(ours.energies)]
        deviations.append(ours.energies[inside] - theirs.energies[inside])
        first_order.append(both.first_order(kpoints[n], c, theirs)[inside])
        single = inside[[_alone(theirs.energies, i) and _alone(ours.energies, i) for i in inside]]
        velocities.append(both.velocities(kpoints[n], c, ours, theirs, single, reference.structure.cell))
    deviation, expected = np.concatenate(deviations), np.concatenate(first_order)
    if not len(deviation):
        raise InputError(
            "energy window without states",
            where="window",
            found=f"{low:g} to {high:g} eV",
            remedy=f"the window counts from the Fermi level of the reference, {level:.3f} eV",
        )
    speed = np.concatenate(velocities)
    left = np.abs(deviation - expected)
    return {
        "energy_units": "eV",
        "gauge_shift": shift,
        "fermi_level": level,
        "window": list(settings.window),
        "n_kpoints": len(kpoints),
        "n_states": len(deviation),
        "matrix": matrix_errors(found, reference),
        "bands": {**summary(deviation), **edges},
        "velocities": {**summary(speed), "units": "eV angstrom", "n": speed.size},
        "perturbation": {
            "expected_mean": float(np.abs(expected).mean()),
            "expected_max": float(np.abs(expected).max()),
            "unexplained_mean": float(left.mean()),
            "unexplained_max": float(left.max()),
            # Second order is left: much less than the first, or next to nothing.
            "explained": bool(left.mean() <= max(0.5 * np.abs(expected).mean(), 1e-5)),
        },
        "smallest_overlap_eigenvalue": min(theirs.smallest_overlap for _, theirs in solved.values()),
    }


def _alone(energies: NDArray[np.float64], place: int) -> bool:
    """Whether no other state is near."""
    return np.count_nonzero(np.abs(energies - energies[place]) < DEGENERATE) == 1


def _level(
    settings: CompareSettings,
    name: str,
    reference: RealSpaceHamiltonian,
    solved: dict[Any, Any],
    weights: Any,
    n_k: int,
) -> tuple[float, dict[str, float | None]]:
    """Fermi level of the reference on these k-points, and both gaps."""
    electrons = electrons_of(reference, settings.n_electrons)
    if electrons is None:
        if reference.fermi_energy is None:
            raise InputError("Fermi level unknown", where=name, remedy="give --electrons N")
        return reference.fermi_energy, {}
    n_channels = 1 + max(c for c, _ in solved)
    even = np.full(n_k, 1 / n_k) if weights is None else weights
    levels = []
    for side in (1, 0):
        states = [[solved[c, n][side].energies for n in range(n_k)] for c in range(n_channels)]
        width = min(len(e) for channel in states for e in channel)
        energies = np.array([[e[:width] for e in channel] for channel in states])
        levels.append(fermi_level(energies, even, electrons, reference.spin.electrons_per_state, settings.smearing))
    theirs, ours = levels
    difference = None if ours.gap is None or theirs.gap is None else ours.gap - theirs.gap
    return theirs.level, {"gap": ours.gap, "reference_gap": theirs.gap, "gap_difference": difference}


class Pair:
    """Bloch matrices to judge and to judge by."""

    def __init__(self, found: BlochMatrices, reference: BlochMatrices) -> None:
        self.found, self.reference = found, reference

    def solve(self, k: NDArray[np.float64], channel: int) -> tuple[Eigenstates, Eigenstates]:
        """Eigenstates of both, with vectors."""
        where = f"k = {np.round(k, 6).tolist()}"
        return (
            solve_dense(*self.found.at(k, channel), vectors=True, where=where),
            solve_dense(*self.reference.at(k, channel), vectors=True, where=where),
        )

    def first_order(self, k: NDArray[np.float64], channel: int, states: Eigenstates) -> NDArray[np.float64]:
        """Changes of the reference's energies to first order in dH and dS, <c|dH - E dS|c>, shape (n_states,), eV.

        Groups of nearly degenerate states are diagonalised.
        """
        (h, s), (h0, s0) = self.found.at(k, channel), self.reference.at(k, channel)
        c, e = states.vectors, states.energies
        change = np.empty(len(e))
        groups = np.split(np.arange(len(e)), np.flatnonzero(np.diff(e) > DEGENERATE) + 1)
        for group in groups:
            v, middle = c[:, group], e[group].mean()
            inner = v.conj().T @ ((h - h0) @ v - middle * ((s - s0) @ v))
            change[group] = la.eigvalsh(inner + np.diag(e[group])) - e[group]
        return change

    def velocities(
        self,
        k: NDArray[np.float64],
        channel: int,
        ours: Eigenstates,
        theirs: Eigenstates,
        chosen: NDArray[np.int64],
        cell: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Lengths of the differences of dE/dk of some states, eV Angstrom, shape (n_chosen,)."""
        difference = gradient(self.found, k, channel, ours, chosen) - gradient(
            self.reference, k, channel, theirs, chosen
        )
        return np.linalg.norm(difference @ cell / (2 * np.pi), axis=1)


def gradient(
    matrices: BlochMatrices, k: NDArray[np.float64], channel: int, states: Eigenstates, chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """dE/dk of some states by Hellmann-Feynman, <c|dH/dk - E dS/dk|c>, k fractional, eV, shape (n_chosen, 3)."""
    phases = np.exp(2j * np.pi * (matrices.cells @ k))
    c, e = states.vectors[:, chosen], states.energies[chosen]
    result = np.empty((len(chosen), 3))
    shape = (matrices.n_rows, matrices.n_rows)
    for axis in range(3):
        factor = 2j * np.pi * matrices.cells[:, axis] * phases
        dh, ds = (
            sp.csr_matrix((term @ factor, matrices.indices, matrices.indptr), shape=shape)
            for term in (matrices.hamiltonian[channel], matrices.overlap)
        )
        result[:, axis] = (c.conj() * (dh @ c - (ds @ c) * e)).sum(axis=0).real
    return result


DISTANCE_STEP = 1.0
"""Width of the bins of distances, Angstrom."""


def check_same_system(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian, where: str) -> RealSpaceHamiltonian:
    """Refuse a Hamiltonian of another structure, basis or spin than the reference.

    :param where: name of the first one in error messages.
    :raises InputError: naming what differs.
    """
    for name, ours, theirs in (
        ("structure", found.structure.symbols, reference.structure.symbols),
        ("basis", dict(found.basis.shells), dict(reference.basis.shells)),
        ("spin", found.spin.value, reference.spin.value),
    ):
        if ours != theirs:
            raise InputError("two different systems", where=f"{name} of {where}", found=ours, expected=theirs)
    moved = np.abs(found.structure.positions - reference.structure.positions).max()
    strained = np.abs(found.structure.cell - reference.structure.cell).max()
    if max(moved, strained) > 1e-3:
        raise InputError(
            "two different structures",
            where=where,
            found=f"atoms {moved:.3g} and cell {strained:.3g} Angstrom away",
            expected="the same positions and cell",
        )


def spinful(overlap: BlockSparseMatrix, data: RealSpaceHamiltonian) -> BlockSparseMatrix:
    """S on the pairs of H in the rows of H."""
    if data.spin.multiplicity == 1:
        return overlap
    pairs, counts = overlap.atom_pairs, data.orbitals_per_atom
    doubled = BlockSparseMatrix.from_pairs(pairs, 2 * counts)
    rows, columns = doubled.entry_positions()
    i, j = (counts[pairs[:, 3 + n]][doubled.pair_of_entry] for n in (0, 1))
    same = (rows >= i) == (columns >= j)
    start = overlap.chunk_boundaries[:-1][doubled.pair_of_entry]
    place = start + (rows % i) * j + columns % j
    return doubled.with_entries(np.where(same, overlap.entries[place], 0.0))


def gauge_shift(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian) -> float:
    """Multiple of S (eV) that both H differ by, in the sense of least squares over all matrix elements."""
    pairs, rows = reference.hamiltonian.atom_pairs, reference.rows_per_atom
    difference = found.hamiltonian.aligned_to(pairs, rows) - reference.hamiltonian
    s = spinful(reference.overlap.aligned_to(pairs, reference.orbitals_per_atom), reference).entries
    return float(np.vdot(s, difference.entries).real / np.vdot(s, s).real)


def matrix_errors(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian) -> dict[str, Any]:
    """Mean and largest |error| of H (eV) overall, by pair of elements, of shells and by distance; largest of S."""
    h, structure, basis = reference.hamiltonian, reference.structure, reference.basis
    error = np.abs((found.hamiltonian.aligned_to(h.atom_pairs, reference.rows_per_atom) - h).entries)
    pairs, pair = h.atom_pairs, h.pair_of_entry
    symbols = np.array(structure.symbols)
    copies = reference.spin.multiplicity
    names = {
        e: np.tile([f"{e} {LETTERS[l]}" for l in basis.shells_of(e) for _ in range(2 * l + 1)], copies)
        for e in structure.elements
    }
    first = np.concatenate([[0], np.cumsum(reference.rows_per_atom)])
    shell_of_row = np.concatenate([names[s] for s in structure.symbols])
    rows, columns = h.entry_positions()
    left, right = shell_of_row[first[pairs[:, 3]][pair] + rows], shell_of_row[first[pairs[:, 4]][pair] + columns]
    by_elements = np.char.add(np.char.add(symbols[pairs[:, 3]], " "), symbols[pairs[:, 4]])
    distance = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    step = (distance / DISTANCE_STEP).astype(np.int64)
    by_distance = np.array([f"{n * DISTANCE_STEP:g}-{(n + 1) * DISTANCE_STEP:g}" for n in range(step.max() + 1)])[step]
    overlap = reference.overlap
    s_error = (found.overlap.aligned_to(overlap.atom_pairs, reference.orbitals_per_atom) - overlap).entries
    return {
        **summary(error),
        "by_elements": _grouped(error, by_elements[pair]),
        "by_shells": _grouped(error, np.char.add(np.char.add(left, "-"), right)),
        "by_distance": _grouped(error, by_distance[pair]),
        "distance_units": "angstrom",
        "overlap_max": float(np.abs(s_error).max(initial=0.0)),
    }


def _grouped(error: NDArray[np.float64], names: NDArray[np.str_]) -> dict[str, dict[str, float]]:
    kinds, kind = np.unique(names, return_inverse=True)
    return {str(name): summary(error[kind == n]) for n, name in enumerate(kinds)}


def summary(error: NDArray[np.float64]) -> dict[str, float]:
    size = np.abs(error)
    return {"mean": float(size.mean()) if size.size else 0.0, "max": float(size.max(initial=0.0))}
