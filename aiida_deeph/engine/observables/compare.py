"""Two Hamiltonians of one structure: errors of H, bands and velocities, and whether the first explain the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import choose_kpoints
from aiida_deeph.engine.domain.transforms import gauge_of, shifted
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.linalg.dense import Eigenstates, solve_dense
from aiida_deeph.engine.linalg.kpoint_loop import Arrays, Loop
from aiida_deeph.engine.linalg.solvers import dense_bytes
from aiida_deeph.engine.observables.base import MAIN, KPointsConfig, Observable, ObservableConfig
from aiida_deeph.engine.observables.fermi import fermi_level
from aiida_deeph.engine.observables.projection import LETTERS
from aiida_deeph.engine.system import require_memory

DEGENERATE = 5e-3
"""States closer than this (eV) are one group: their velocities are not compared, their first order is a matrix."""

DISTANCE_STEP = 1.0
"""Width of the bins of distances, Angstrom."""


class CompareSettings(KPointsConfig):
    """How two Hamiltonians of one structure are compared.

    :param window: energies that count, eV, relative to the Fermi level of the reference.
    :param align: `gauge` removes the multiple of S that brings both H closest; `none` takes them as they are.
    :param n_electrons: valence electrons in the cell; None takes what the reference records.
    :param smearing: Fermi-Dirac width for metals, eV.
    """

    points_per_segment: int = Field(default=20, ge=2, le=100_000)
    window: tuple[float, float] = (-6.0, 3.0)
    align: Literal["gauge", "none"] = "gauge"
    n_electrons: float | None = Field(default=None, gt=0)
    smearing: float = Field(default=0.02585, gt=0)

    @model_validator(mode="after")
    def _ordered_window(self) -> CompareSettings:
        if self.window[0] >= self.window[1]:
            raise ValueError("window: the lower end first")
        return self


class CompareConfig(CompareSettings, ObservableConfig):
    """Compare a (predicted) Hamiltonian with a reference of the same structure, basis and spin; at Gamma, or at the
    k-points asked for.

    The file holds `gauge_shift` (eV), `matrix` (errors of H overall, by elements, by shells, by distance, and the
    difference of S), `bands` (mean and largest deviation in the window, gaps), `velocities` (eV Angstrom) and
    `perturbation`: deviations that first-order perturbation theory expects from the errors of H and S, what remains,
    and whether that is as little as it should be (`explained`).

    :param folder: DeepH folder to judge.
    :param reference: DeepH folder to judge by.
    """

    reference: str
    output: str = "compare.json"

    NO_MATTER: ClassVar[frozenset[str]] = ObservableConfig.NO_MATTER | {"reference"}
    OPTIONS: ClassVar[Mapping[str, str]] = {"points_per_segment": "--points", "n_electrons": "--electrons"}

    @model_validator(mode="before")
    @classmethod
    def _gamma_by_default(cls, values: Any) -> Any:
        chosen = ("kpoints", "kpath", "mesh", "spacing")
        if isinstance(values, Mapping) and all(values.get(name) is None for name in chosen):
            return {**values, "mesh": (1, 1, 1)}
        return values


class Comparison(Observable):
    """A Hamiltonian judged by another one of the same structure."""

    name = "compare"
    title = "comparison"
    Config = CompareConfig
    ARRAYS: ClassVar[Mapping[str, str]] = {}
    FOLDERS: ClassVar[Mapping[str, str]] = {"folder": "hamiltonian", "reference": "reference"}
    config: CompareConfig

    def __init__(self, config: CompareConfig, data: RealSpaceHamiltonian) -> None:
        from aiida_deeph.engine.io.folders import read_hamiltonian

        self.reference = read_hamiltonian(Path(config.reference))
        self._prepare(config, data, (config.folder, config.reference))

    @classmethod
    def between(
        cls,
        found: RealSpaceHamiltonian,
        reference: RealSpaceHamiltonian,
        settings: CompareSettings,
        names: tuple[str, str],
    ) -> Comparison:
        """The comparison of data that are in memory already."""
        comparison = cls.__new__(cls)
        comparison.reference = reference
        comparison._prepare(settings, found, names)
        return comparison

    def _prepare(self, config: Any, data: RealSpaceHamiltonian, names: tuple[str, str]) -> None:
        check_same_system(data, self.reference, names[0])
        self.config, self.names = config, names
        difference = data.hamiltonian, self.reference.hamiltonian
        assert difference[0] is not None and difference[1] is not None
        self.shift = gauge_shift(data, self.reference) if config.align == "gauge" else 0.0
        self.data = shifted(data, -self.shift) if self.shift else data
        given = config.n_electrons
        self.n_electrons = given if given is not None else self.reference.n_electrons
        self.matrices, self.theirs = bloch_matrices(self.data, names[0]), bloch_matrices(self.reference, names[1])
        self.points = choose_kpoints(self.reference, **config.kpoint_fields)
        n_rows, real = self.matrices.n_rows, all(map(self.matrices.is_real_at, self.points.fractional))
        needed = 2 * dense_bytes(n_rows, vectors=True, complex_values=not real)
        require_memory(needed, f"dense diagonalisation of {n_rows} orbitals", "take a machine with more memory")

    @property
    def systems(self) -> tuple[RealSpaceHamiltonian, ...]:
        return (self.data, self.reference)

    def solve(self, loop: Loop) -> dict[tuple[int, int], Arrays]:
        return loop.run(MAIN, self.tasks, self._compare_at)

    def _compare_at(self, channel: int, index: int) -> dict[str, NDArray[Any]]:
        """Energies of both (eV), changes of the reference's to first order (eV), and how far velocities are apart.

        First order is <c|dH - E dS|c>, diagonalised within groups of nearly degenerate states of the reference.
        """
        k = self.points.fractional[index]
        where = f"k = {np.round(k, 6).tolist()}"
        (h, s), (h0, s0) = self.matrices.at(k, channel), self.theirs.at(k, channel)
        ours, theirs = (solve_dense(*pair, vectors=True, where=where) for pair in ((h, s), (h0, s0)))
        c, e = theirs.vectors, theirs.energies
        assert c is not None
        dh_c, ds_c = (h - h0).toarray() @ c, (s - s0).toarray() @ c
        change = np.empty(len(e))
        for group in np.split(np.arange(len(e)), np.flatnonzero(np.diff(e) > DEGENERATE) + 1):
            inner = c[:, group].conj().T @ (dh_c[:, group] - e[group].mean() * ds_c[:, group])
            change[group] = la.eigvalsh(inner + np.diag(e[group])) - e[group]
        n = min(len(ours.energies), len(e))
        single = np.flatnonzero(_alone(e)[:n] & _alone(ours.energies)[:n])
        slopes = [
            gradient(matrices, k, channel, states, single)
            for matrices, states in ((self.matrices, ours), (self.theirs, theirs))
        ]
        apart = np.full(n, np.nan)
        apart[single] = np.linalg.norm((slopes[0] - slopes[1]) @ self.reference.structure.cell / (2 * np.pi), axis=1)
        return {
            "ours": ours.energies,
            "theirs": e,
            "first_order": change,
            "velocities": apart,
            "smallest_overlap": np.array(theirs.smallest_overlap),
        }

    def result(self, solved: dict[tuple[int, int], Arrays], loop: Loop) -> dict[str, Any]:
        level, edges = self._level(solved)
        low, high = (level + edge for edge in self.config.window)
        deviations, first_order, velocities = [], [], []
        for task in sorted(solved):
            arrays = solved[task]
            theirs, n = arrays["theirs"], len(arrays["velocities"])
            inside = np.flatnonzero((theirs[:n] >= low) & (theirs[:n] <= high))
            deviations.append(arrays["ours"][inside] - theirs[inside])
            first_order.append(arrays["first_order"][inside])
            velocities.append(arrays["velocities"][inside])
        deviation, expected, speed = (np.concatenate(parts) for parts in (deviations, first_order, velocities))
        if not len(deviation):
            raise InputError(
                "energy window without states",
                where="window",
                found=f"{low:g} to {high:g} eV",
                remedy=f"the window counts from the Fermi level of the reference, {level:.3f} eV",
            )
        left, speed = np.abs(deviation - expected), speed[np.isfinite(speed)]
        return {
            "energy_units": "eV",
            "gauge_shift": self.shift,
            "fermi_level": level,
            "window": list(self.config.window),
            "n_kpoints": len(self.points.fractional),
            "n_states": len(deviation),
            "matrix": matrix_errors(self.data, self.reference),
            "bands": {**spread(deviation), **edges},
            "velocities": {**spread(speed), "units": "eV angstrom", "n": speed.size},
            "perturbation": {
                "expected_mean": float(np.abs(expected).mean()),
                "expected_max": float(np.abs(expected).max()),
                "unexplained_mean": float(left.mean()),
                "unexplained_max": float(left.max()),
                # Second order is left: much less than the first, or next to nothing.
                "explained": bool(left.mean() <= max(0.5 * np.abs(expected).mean(), 1e-5)),
            },
            "smallest_overlap_eigenvalue": min(float(arrays["smallest_overlap"]) for arrays in solved.values()),
        }

    def _level(self, solved: dict[tuple[int, int], Arrays]) -> tuple[float, dict[str, float | None]]:
        """Fermi level of the reference on these k-points, and both gaps."""
        if self.n_electrons is None:
            if self.reference.fermi_energy is None:
                raise InputError("Fermi level unknown", where=self.names[1], remedy="give --electrons N")
            return self.reference.fermi_energy, {}
        n_k, weights = len(self.points.fractional), self.points.weights
        even = np.full(n_k, 1 / n_k) if weights is None else weights
        levels = []
        for side in ("theirs", "ours"):
            width = min(len(arrays[side]) for arrays in solved.values())
            channels = range(self.matrices.n_channels)
            energies = np.array([[solved[c, n][side][:width] for n in range(n_k)] for c in channels])
            degeneracy = self.reference.spin.electrons_per_state
            levels.append(fermi_level(energies, even, self.n_electrons, degeneracy, self.config.smearing))
        theirs, ours = levels
        difference = None if ours.gap is None or theirs.gap is None else ours.gap - theirs.gap
        return theirs.level, {"gap": ours.gap, "reference_gap": theirs.gap, "gap_difference": difference}

    @classmethod
    def summary(cls, result: Mapping[str, Any]) -> str:
        verdict = "explained" if result["perturbation"]["explained"] else "NOT explained"
        bands = result["bands"]
        return (
            f"H {1e3 * result['matrix']['mean']:.3g} meV, bands {1e3 * bands['mean']:.3g} meV (largest "
            f"{1e3 * bands['max']:.3g}), {verdict} by perturbation theory; written"
        )


def compare_hamiltonians(
    found: RealSpaceHamiltonian,
    reference: RealSpaceHamiltonian,
    settings: CompareSettings,
    names: tuple[str, str] = ("Hamiltonian", "reference"),
) -> dict[str, Any]:
    """What distinguishes a Hamiltonian from a reference, as `CompareConfig` describes, of data in memory.

    :param names: of both in error messages.
    :raises DeepHError: they are no two Hamiltonians of one system, or the window holds no states.
    """
    comparison, loop = Comparison.between(found, reference, settings, names), Loop()
    return comparison.result(comparison.solve(loop), loop)


def _alone(energies: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether no other state is near each one, shape (n_states,)."""
    near = np.concatenate([[False], np.diff(energies) < DEGENERATE, [False]])
    return np.asarray(~(near[:-1] | near[1:]))


def gradient(
    matrices: BlochMatrices,
    k: NDArray[np.float64],
    channel: int,
    states: Eigenstates,
    chosen: NDArray[np.int64],
) -> NDArray[np.float64]:
    """dE/dk of some states by Hellmann-Feynman, <c|dH/dk - E dS/dk|c>, k fractional, eV, shape (n_chosen, 3)."""
    assert states.vectors is not None
    c, e = states.vectors[:, chosen], states.energies[chosen]
    result = np.empty((len(chosen), 3))
    for axis in range(3):
        dh, ds = (term.toarray() for term in matrices.derivative_at(k, axis, channel))
        result[:, axis] = (c.conj() * (dh @ c - (ds @ c) * e)).sum(axis=0).real
    return result


def check_same_system(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian, where: str) -> None:
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


def gauge_shift(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian) -> float:
    """Multiple of S (eV) that both H differ by, in the sense of least squares over all matrix elements."""
    assert found.hamiltonian is not None and reference.hamiltonian is not None
    aligned = found.hamiltonian.aligned_to(reference.hamiltonian.atom_pairs, reference.rows_per_atom)
    return gauge_of(replace(reference, hamiltonian=aligned - reference.hamiltonian))


def matrix_errors(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian) -> dict[str, Any]:
    """Mean and largest |error| of H (eV) overall, by pair of elements, of shells and by distance; largest of S."""
    h, structure, basis = reference.hamiltonian, reference.structure, reference.basis
    overlap, ours, our_overlap = reference.overlap, found.hamiltonian, found.overlap
    assert h is not None and overlap is not None and ours is not None and our_overlap is not None
    error = np.abs((ours.aligned_to(h.atom_pairs, reference.rows_per_atom) - h).entries)
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
    s_error = (our_overlap.aligned_to(overlap.atom_pairs, reference.orbitals_per_atom) - overlap).entries
    return {
        **spread(error),
        "by_elements": _grouped(error, by_elements[pair]),
        "by_shells": _grouped(error, np.char.add(np.char.add(left, "-"), right)),
        "by_distance": _grouped(error, by_distance[pair]),
        "distance_units": "angstrom",
        "overlap_max": float(np.abs(s_error).max(initial=0.0)),
    }


def _grouped(error: NDArray[np.float64], names: NDArray[np.str_]) -> dict[str, dict[str, float]]:
    kinds, kind = np.unique(names, return_inverse=True)
    return {str(name): spread(error[kind == n]) for n, name in enumerate(kinds)}


def spread(error: NDArray[np.float64]) -> dict[str, float]:
    """Mean and largest size of errors."""
    size = np.abs(error)
    return {"mean": float(size.mean()) if size.size else 0.0, "max": float(size.max(initial=0.0))}
