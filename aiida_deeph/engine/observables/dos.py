"""Density of states: levels on a mesh with Gaussian broadening, resolved by element, shell, atom and spin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import automatic_mesh, mesh_for_spacing, mesh_kpoints, periodic_directions
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.linalg.dense import Eigenstates
from aiida_deeph.engine.linalg.kpm import REACH, gaussian_sum
from aiida_deeph.engine.linalg.kpoint_loop import Arrays, Loop
from aiida_deeph.engine.linalg.slices import states_between
from aiida_deeph.engine.linalg.solvers import DENSE_LIMIT, Spectrum, dense_spectrum
from aiida_deeph.engine.linalg.sparse import SparseSolver, smallest_overlap
from aiida_deeph.engine.observables.base import MAIN, Mesh, NamedArray, Observable, ObservableConfig
from aiida_deeph.engine.observables.fermi import fermi_by_moments, fermi_level
from aiida_deeph.engine.observables.fermi_sparse import fermi_by_inertia
from aiida_deeph.engine.observables.moments import MomentsSettings, moments_at, pseudo_levels
from aiida_deeph.engine.observables.projection import projection
from aiida_deeph.engine.system import require_memory

MOMENTS_WINDOW = (-10.0, 5.0)
"""Energies from the Fermi level (eV) that `auto` resolves in a large system: those far above cost and mean nothing."""

SPARSE_LIMIT = 40_000
"""Rows of H(k) up to which `auto` computes every state inside a window."""

UNIT = "states/eV/cell"


class DosConfig(ObservableConfig):
    """Density of states of a DeepH folder, written to `OUTPUT` (JSON).

    The file holds energies (eV), dos (states/eV/cell), fermi_level. Both spins are counted: the integral up to the
    Fermi level is the number of electrons. `dos_by_element`, `dos_by_shell` and `dos_by_atom` hold Mulliken shares,
    `dos_by_spin` the two channels of collinear data, `dos_error` the standard error of a `kpm` result.

    :param mesh: Gamma-centred mesh; without one and without a spacing, one that fits the cell, of 0.15 1/Angstrom where
        that is affordable.
    :param spacing: largest distance of neighbouring points of such a mesh, 1/Angstrom (with 2 pi).
    :param window: lowest and highest energy relative to the Fermi level, eV; None takes the whole spectrum (of large
        systems -10 to 5 eV, unless method is `kpm`).
    :param n_points: energies at which the density of states is given.
    :param broadening: Gaussian width, eV.
    :param method: `exact` (all eigenvalues by dense diagonalisation), `sparse` (all eigenvalues inside the window, for
        large systems), `kpm` (kernel polynomial method: the whole spectrum of the largest systems, with statistical
        errors), `auto` picks by size.
    :param projected: resolve by element and angular momentum, too (with `exact`, two to four times the time).
    :param atoms: atoms (counted from 0) whose local density of states is wanted, too.
    :param n_vectors: random vectors of `kpm`; statistical errors fall as its inverse square root.
    :param seed: of the random vectors.
    :param precision: of the moments of `kpm` in a window; `auto` takes single for large systems (half the memory).
    :param counted: whether `kpm` finds the Fermi level by exact counts of states and the states around it (a handful of
        factorisations per k-point); otherwise it comes from the moments, with a standard error.
    :param workers: processes that share the k-points, or the random vectors of `kpm`.
    :param smearing: Fermi-Dirac width for the Fermi level of metals, eV.
    :param overlap_threshold: combinations of orbitals whose eigenvalue of S(k) is smaller are projected out.
    """

    mesh: Mesh | None = None
    spacing: float | None = Field(default=None, gt=0)
    window: tuple[float, float] | None = None
    n_points: int = Field(default=1001, ge=2, le=1_000_000)
    broadening: float = Field(default=0.05, gt=0)
    method: Literal["auto", "exact", "sparse", "kpm"] = "auto"
    projected: bool = True
    atoms: tuple[int, ...] = ()
    n_vectors: int = Field(default=16, ge=2, le=100_000)
    seed: int = 0
    precision: Literal["auto", "single", "double"] = "auto"
    counted: bool = True
    smearing: float = Field(default=0.02585, gt=0)
    overlap_threshold: float = Field(default=1e-6, gt=0)
    output: str = "dos.json"

    OPTIONS: ClassVar[Mapping[str, str]] = {
        "n_points": "--points",
        "n_electrons": "--electrons",
        "projected": "--projected/--total",
        "atoms": "--atom",
        "n_vectors": "--vectors",
    }


@dataclass(frozen=True)
class Levels:
    """Levels of one spin channel at one k-point.

    :param weight: of the k-point.
    :param energies: eV, shape (n,).
    :param counts: states that each level counts for, shape (n,) or one column per random vector (n, n_vectors).
    :param shares: states of each group that it counts for, shape (n, n_groups); None if not wanted.
    """

    channel: int
    weight: float
    energies: NDArray[np.float64]
    counts: NDArray[np.float64]
    shares: NDArray[np.float64] | None


@dataclass(frozen=True)
class Found:
    """Levels of all spin channels and k-points, and what they say about the system.

    :param fermi: level (eV) and how it was found, if that came first.
    :param spectrum: what the levels are taken from by dense diagonalisation.
    :param details: settings of the method that the result should state.
    """

    levels: list[Levels]
    smallest_overlap: float | None
    fermi: dict[str, Any] | None = None
    spectrum: Spectrum | None = None
    details: dict[str, Any] = field(default_factory=dict)


class DensityOfStates(Observable):
    """Levels on a mesh of k-points, broadened."""

    name = "dos"
    title = "density of states"
    Config = DosConfig
    UNITS: ClassVar[Mapping[str, str]] = {**Observable.UNITS, "broadening": "eV", "levels_near_fermi": "eV"}
    ARRAYS: ClassVar[Mapping[str, str]] = {
        "energies": "eV",
        "dos": UNIT,
        "dos_error": UNIT,
        "dos_by_spin": UNIT,
        "dos_by_element": UNIT,
        "dos_by_shell": UNIT,
        "dos_by_atom": UNIT,
    }
    ABSCISSA = "energies"
    config: DosConfig

    def __init__(self, config: DosConfig, data: RealSpaceHamiltonian) -> None:
        super().__init__(config, data)
        if config.window is not None and self.n_electrons is None:
            raise InputError(
                "window without a Fermi level",
                where="window",
                found="no number of electrons in the folder",
                expected="`occupation` in info.json",
                remedy="give n_electrons, or leave the window out",
            )
        n_rows = self.matrices.n_rows
        self.method, self.window = choose_method(config, n_rows), config.window
        if self.method == "kpm" and config.method == "auto" and config.window is None and self.n_electrons is not None:
            self.window = MOMENTS_WINDOW
        mesh = config.mesh
        if config.spacing is not None:
            mesh = mesh_for_spacing(data.structure.cell, periodic_directions(data), config.spacing)
        # Gamma alone is no density of states of a periodic system, however large its cell.
        mesh = mesh or automatic_mesh(data, n_rows, least=2)
        self.points = mesh_kpoints(data, mesh, time_reversal=self.matrices.is_real_in_space)
        self.groups = projection(data, shells=config.projected, atoms=config.atoms)
        n_columns = 1 + len(self.groups)
        values = float(len(self.points.fractional) * self.matrices.n_channels * n_rows * n_columns)
        values += float(config.n_points) * (n_columns + config.n_vectors)
        require_memory(16 * values, f"{values:.3g} values", "ask for fewer k-points, energies or vectors")

    @property
    def weights(self) -> NDArray[np.float64]:
        """Of the k-points, sum 1, shape (n_k,)."""
        assert self.points.weights is not None
        return self.points.weights

    def solve(self, loop: Loop) -> Found:
        return {"exact": self._dense, "sparse": self._sparse, "kpm": self._moments}[self.method](loop)

    def _dense(self, loop: Loop) -> Found:
        """All levels by dense diagonalisation."""

        def project(channel: int, index: int, states: Eigenstates, overlap: sp.csr_matrix) -> dict[str, NDArray[Any]]:
            assert states.vectors is not None
            return {"shares": self.groups.shares(states.vectors, overlap)}

        spectrum = dense_spectrum(
            self.matrices,
            self.points.fractional,
            overlap_threshold=self.config.overlap_threshold,
            loop=loop,
            name=MAIN,
            observe=project if len(self.groups) else None,
        )
        levels = [
            Levels(c, float(weight), s.energies, np.ones(len(s.energies)), s.extras.get("shares"))
            for c, channel in enumerate(spectrum.states)
            for weight, s in zip(self.weights, channel, strict=False)
        ]
        return Found(levels, spectrum.smallest_overlap, spectrum=spectrum)

    def _sparse(self, loop: Loop) -> Found:
        """The levels inside the window, and those just outside whose broadening reaches into it."""
        solver, kpoints = SparseSolver(self.matrices), self.points.fractional
        solver.require_memory(loop.workers)
        fermi = self._counted(solver, loop.whole, self.data.fermi_energy)
        low, high = (fermi["level"] + edge for edge in self.window or (0.0, 0.0))
        margin = REACH * self.config.broadening

        def solve(channel: int, index: int) -> Arrays:
            k = kpoints[index]
            overlap = self.matrices.at(k, channel)[1]
            energies, shares = [np.zeros(0)], [np.zeros((0, len(self.groups)))]

            def collect(found: NDArray[np.float64], vectors: NDArray[Any]) -> None:
                energies.append(found)
                shares.append(self.groups.shares(vectors, overlap))

            start = fermi["level"]
            states_between(solver, k, low - margin, high + margin, channel=channel, start=start, observe=collect)
            return {"energies": np.concatenate(energies), "shares": np.concatenate(shares)}

        found = loop.run(MAIN, self.tasks, solve)
        levels = [
            Levels(c, float(self.weights[n]), a["energies"], np.ones(len(a["energies"])), a["shares"])
            for (c, n), a in sorted(found.items())
        ]
        return Found(levels, smallest_overlap(self.matrices.at(kpoints[0])[1]), fermi)

    def _moments(self, loop: Loop) -> Found:
        """Pseudo-levels from Chebyshev moments: one factorisation per k-point (and channel, with a window)."""
        config, solver = self.config, SparseSolver(self.matrices, self.config.precision == "single" or None)
        window, n_states = self.window, self.data.spin.electrons_per_state * self.matrices.n_channels
        known = window is not None and self.n_electrons is not None
        settings = MomentsSettings(
            config.broadening,
            window[1] if known and window is not None else None,
            (self.n_electrons or 0.0) / (n_states * self.matrices.n_rows),
            config.n_vectors,
            config.seed,
            config.precision,
            config.workers,
        )

        def solve(channel: int, index: int) -> Arrays:
            return moments_at(solver, self.points.fractional[index], channel, self.groups, settings, loop.show_progress)

        # The vectors of each k-point go through the processes.
        found = replace(loop, workers=1).run(MAIN, self.tasks, solve)
        levels = []
        for (c, n), arrays in sorted(found.items(), key=lambda item: item[0][::-1]):
            energies, counts, shares = pseudo_levels(dict(arrays))
            levels.append(Levels(c, float(self.weights[n]), energies, counts, shares if len(self.groups) else None))
        details = {
            "precision": "single" if any(bool(a["single"]) for a in found.values()) else "double",
            "n_moments": max((a["total"].shape[1] for a in found.values()), default=0),
            "n_vectors": config.n_vectors,
            "seed": config.seed,
        }
        smallest = min((float(a["smallest_overlap"]) for a in found.values()), default=None)
        return Found(levels, smallest, details=details)

    def _fermi(self, found: Found, loop: Loop) -> dict[str, Any] | None:
        """Level and how it was found; None without a number of electrons."""
        if self.n_electrons is None or found.fermi is not None:
            return found.fermi
        degeneracy, smearing = self.data.spin.electrons_per_state, self.config.smearing
        if found.spectrum is not None:
            energies = found.spectrum.energies
            return fermi_level(energies, self.weights, self.n_electrons, degeneracy, smearing).as_dict()
        # From the moments; the noise of a whole system's states is removed by counting them.
        parts = [(part.weight, part.energies, part.counts) for part in found.levels]
        estimate = fermi_by_moments(parts, self.n_electrons, degeneracy, self.config.broadening)
        if not self.config.counted:
            return estimate
        solver = SparseSolver(self.matrices, self.config.precision == "single" or None)
        slope = max(estimate["dos_at_level"] / degeneracy, 1.0)
        try:
            counted = self._counted(solver, loop, estimate["level"], slope)
        except DataError:  # too few states around the level, as in a small system: the moments are good enough there
            return estimate
        return {**counted, "by_moments": estimate["level"], "uncertainty_by_moments": estimate["uncertainty"]}

    def _counted(
        self, solver: SparseSolver, loop: Loop, start: float | None, slope: float | None = None
    ) -> dict[str, Any]:
        """Fermi level by counts of states."""
        return fermi_by_inertia(
            solver,
            self.points.fractional,
            self.weights,
            self.n_electrons or 0.0,
            self.data.spin.electrons_per_state,
            self.config.smearing,
            start=start,
            slope=slope,
            loop=loop,
        ).as_dict()

    def result(self, solved: Found, loop: Loop) -> dict[str, Any]:
        config, fermi = self.config, self._fermi(solved, loop)
        grid = self._grid(solved, fermi)
        by_spin = np.zeros((self.matrices.n_channels, len(grid)))
        columns = np.zeros((len(grid), len(self.groups)))
        by_vector = np.zeros((len(grid), config.n_vectors if self.method == "kpm" else 0))
        for part in solved.levels:
            factor = self.data.spin.electrons_per_state * part.weight
            curve = gaussian_sum(grid, part.energies, factor * part.counts, config.broadening)
            by_spin[part.channel] += curve if curve.ndim == 1 else curve.mean(axis=1)
            if curve.ndim == 2:
                by_vector += curve
            if part.shares is not None:
                columns += gaussian_sum(grid, part.energies, factor * part.shares, config.broadening)
        noise = by_vector.std(axis=1, ddof=1) / config.n_vectors**0.5 if self.method == "kpm" else None
        level = None if fermi is None else fermi["level"]
        return {
            "energies": grid.tolist(),
            "dos": by_spin.sum(axis=0).tolist(),
            "dos_units": UNIT,
            "dos_error": None if noise is None else noise.tolist(),
            **self.groups.named(columns),
            "dos_by_spin": by_spin.tolist() if len(by_spin) == 2 else None,
            "broadening": config.broadening,
            "mesh": list(self.points.mesh or ()),
            "n_kpoints": len(self.points.fractional),
            "n_electrons": self.n_electrons,
            "fermi_level": level,
            "fermi": fermi,
            "levels_near_fermi": None if level is None or self.method == "kpm" else _near(solved.levels, level),
            "smallest_overlap_eigenvalue": solved.smallest_overlap,
            "overlap_threshold": config.overlap_threshold,
            "dropped_states": 0 if solved.spectrum is None else solved.spectrum.n_dropped,
            "method": self.method,
            **solved.details,
        }

    def _grid(self, found: Found, fermi: dict[str, Any] | None) -> NDArray[np.float64]:
        n_points, width = self.config.n_points, self.config.broadening
        energies = np.concatenate([part.energies for part in found.levels] or [np.zeros(0)])
        if self.window is None or fermi is None:
            return np.asarray(np.linspace(energies.min() - 6 * width, energies.max() + 6 * width, n_points))
        low, high = (fermi["level"] + edge for edge in self.window)
        margin = REACH * width
        if high <= low or not ((energies >= low - margin) & (energies <= high + margin)).any():
            raise InputError(
                "energy window without states",
                where="window",
                found=f"{low:g} to {high:g} eV",
                expected="a window that holds states" if high > low else "the lower end first",
                remedy=f"window counts from the Fermi level, which is at {fermi['level']:.3f} eV",
            )
        return np.asarray(np.linspace(low, high, n_points))

    @classmethod
    def arrays(cls, result: Mapping[str, Any]) -> dict[str, NamedArray]:
        """`energies`, and `dos`, `dos_error`, `dos_ELEMENT`, `dos_ELEMENT_LETTER`, `dos_atom_N` (n_points,),
        `dos_by_spin` (2, n_points)."""
        curves = {"dos": result["dos"]}
        curves |= {f"dos_{element}": curve for element, curve in (result.get("dos_by_element") or {}).items()}
        for element, shells in (result.get("dos_by_shell") or {}).items():
            curves |= {f"dos_{element}_{letter}": curve for letter, curve in shells.items()}
        curves |= {f"dos_atom_{atom}": curve for atom, curve in (result.get("dos_by_atom") or {}).items()}
        curves |= {name: result[name] for name in ("dos_by_spin", "dos_error") if result.get(name)}
        named = {name: NamedArray(curve, UNIT) for name, curve in curves.items()}
        return {"energies": NamedArray(result["energies"], "eV"), **named}


def choose_method(config: DosConfig, n_rows: int) -> str:
    """All eigenvalues of small systems, those in a window of large ones, moments for the whole spectrum of these."""
    if config.method == "sparse" and config.window is None:
        raise InputError(
            "whole spectrum by the sparse solver",
            where="window",
            found=f"{n_rows} orbitals and no window",
            expected="a window around the Fermi level",
            remedy="give --window LOW HIGH in eV, or take --method kpm",
        )
    if config.method != "auto":
        return config.method
    if n_rows <= DENSE_LIMIT:
        return "exact"
    return "kpm" if config.window is None or n_rows > SPARSE_LIMIT else "sparse"


def _near(levels: list[Levels], level: float, count: int = 20) -> list[float]:
    """The eigenvalues nearest to the Fermi level, ascending."""
    e = np.sort(np.concatenate([part.energies for part in levels]))
    nearest = np.argsort(np.abs(e - level), kind="stable")[:count]
    return sorted(float(x) for x in e[nearest])
