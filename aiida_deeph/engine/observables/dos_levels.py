"""Levels whose broadening gives a density of states: eigenvalues, or the pseudo-levels of Chebyshev moments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.bloch import BlochMatrices
from aiida_deeph.engine.linalg.dense import Eigenstates
from aiida_deeph.engine.linalg.kpm import Interval, level_weights, local_moments, random_moments, spectral_interval
from aiida_deeph.engine.linalg.loop import Loop
from aiida_deeph.engine.linalg.slices import states_between
from aiida_deeph.engine.linalg.solvers import dense_spectrum
from aiida_deeph.engine.linalg.sparse import SparseSolver, smallest_overlap
from aiida_deeph.engine.linalg.symbolic import Factorisation
from aiida_deeph.engine.observables.config import DosConfig
from aiida_deeph.engine.observables.fermi import check_electrons, fermi_by_moments, fermi_level
from aiida_deeph.engine.observables.fermi_sparse import fermi_by_inertia, guess_level
from aiida_deeph.engine.observables.projection import Projection
from aiida_deeph.engine.system import track

LEVEL_MARGIN = 1.0
"""How far (eV) the Fermi level may be above its first guess before the resolution at the top of a window suffers."""

REACH = 6.0
"""Widths after which a Gaussian has ended: 2e-9 of its height."""

SINGLE_LIMIT = 20_000
"""Rows of H(k) above which `auto` computes moments in a window in single precision, whose errors stay far below those
of the random vectors: half the memory of the factor, and the time is that of reading it."""


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

    :param fermi: level (eV) and how it was found, as plain values; None without a number of electrons.
    :param details: settings of the method that the result should state.
    """

    levels: list[Levels]
    fermi: dict[str, Any] | None
    smallest_overlap: float | None
    method: Literal["exact", "sparse", "kpm"]
    n_dropped: int = 0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LevelsJob:
    """Finds the levels of a system.

    :param kpoints: fractional, shape (n_k, 3).
    :param weights: sum 1, shape (n_k,).
    """

    config: DosConfig
    data: RealSpaceHamiltonian
    matrices: BlochMatrices
    kpoints: NDArray[np.float64]
    weights: NDArray[np.float64]
    groups: Projection
    n_electrons: float | None
    show_progress: bool | None

    def __post_init__(self) -> None:
        n_states = self.matrices.n_rows * self.matrices.n_channels
        check_electrons(self.n_electrons, n_states, self.data.spin.electrons_per_state)

    @property
    def tasks(self) -> list[tuple[int, int]]:
        """Spin channel and k-point of each solution, the channels of a k-point one after the other."""
        return [(c, n) for n in range(len(self.kpoints)) for c in range(self.matrices.n_channels)]

    def dense(self) -> Found:
        """All levels by dense diagonalisation."""

        def project(
            channel: int, index: int, states: Eigenstates, overlap: sp.csr_matrix
        ) -> dict[str, NDArray[np.float64]]:
            return {"shares": self.groups.shares(states.vectors, overlap)}

        spectrum = dense_spectrum(
            self.matrices,
            self.kpoints,
            overlap_threshold=self.config.overlap_threshold,
            loop=Loop(None, self.config.workers, self.show_progress),
            observe=project if len(self.groups) else None,
        )
        fermi = None
        if self.n_electrons is not None:
            degeneracy = self.data.spin.electrons_per_state
            found = fermi_level(spectrum.energies, self.weights, self.n_electrons, degeneracy, self.config.smearing)
            fermi = found.as_dict()
        levels = [
            Levels(
                channel,
                float(self.weights[index]),
                states.energies,
                np.ones(len(states.energies)),
                states.extras.get("shares"),
            )
            for channel, all_states in enumerate(spectrum.states)
            for index, states in enumerate(all_states)
        ]
        return Found(levels, fermi, spectrum.smallest_overlap, "exact", spectrum.n_dropped)

    def sparse(self) -> Found:
        """The levels inside the window, and those just outside whose broadening reaches into it."""
        solver = SparseSolver(self.matrices)
        fermi = fermi_by_inertia(
            solver,
            self.kpoints,
            self.weights,
            self.n_electrons or 0.0,
            self.data.spin.electrons_per_state,
            self.config.smearing,
            start=self.data.fermi_energy,
            loop=Loop(show_progress=self.show_progress),
        )
        low, high = (fermi.level + edge for edge in self.config.window or (0.0, 0.0))
        margin = REACH * self.config.broadening
        levels = []
        for channel, index in track(self.tasks, "k-points", show=self.show_progress):
            k = self.kpoints[index]
            overlap = self.matrices.at(k, channel)[1]
            pieces: list[tuple[NDArray[np.float64], NDArray[np.float64] | None]] = []

            def collect(
                energies: NDArray[np.float64],
                vectors: NDArray[Any],
                overlap: sp.csr_matrix = overlap,
                pieces: list[Any] = pieces,
            ) -> None:
                pieces.append((energies, self.groups.shares(vectors, overlap) if len(self.groups) else None))

            states_between(solver, k, low - margin, high + margin, channel=channel, start=fermi.level, observe=collect)
            weight = float(self.weights[index])
            levels += [Levels(channel, weight, e, np.ones(len(e)), shares) for e, shares in pieces]
        smallest = smallest_overlap(self.matrices.at(self.kpoints[0])[1])
        return Found(levels, fermi.as_dict(), smallest, "sparse")

    def kpm(self) -> Found:
        """Pseudo-levels from Chebyshev moments: one factorisation per k-point (and channel, with a window)."""
        config, solver = self.config, SparseSolver(self.matrices, self.config.precision == "single" or None)
        levels, n_moments, smallest, precision = [], 0, np.inf, "double"
        for channel, index in self.tasks:
            k = self.kpoints[index]
            smallest = min(smallest, smallest_overlap(self.matrices.at(k, channel)[1]))
            pencil = self.pencil(solver, k, channel)
            n = pencil.n_moments
            moments = random_moments(
                *pencil.matrices,
                n,
                config.n_vectors,
                self.groups.matrix,
                atom_of_row=self.matrices.atom_of_row,
                seed=config.seed,
                workers=config.workers,
                show_progress=self.show_progress,
            )
            shares = moments.groups
            if self.groups.atoms:
                rows = self.groups.rows_of_atoms()
                local = local_moments(*pencil.matrices, n, rows, show_progress=self.show_progress)
                # Exact, unlike the share of the random vectors: all rows of an atom together.
                sums = self.groups.matrix[len(self.groups.shells) :][:, rows]
                shares[:, len(self.groups.shells) :] = (sums @ local.T).T
            levels.append(
                Levels(
                    channel,
                    float(self.weights[index]),
                    pencil.matrices[3].levels(n),
                    level_weights(moments.total.T),
                    level_weights(shares) if len(self.groups) else None,
                )
            )
            n_moments = max(n_moments, n)
            precision = "single" if pencil.matrices[0].dtype in (np.float32, np.complex64) else "double"
            del pencil
        fermi = None if self.n_electrons is None else self.kpm_fermi(solver, levels)
        details = {"precision": precision, "n_moments": n_moments, "n_vectors": config.n_vectors, "seed": config.seed}
        return Found(levels, fermi, float(smallest), "kpm", details=details)

    def kpm_fermi(self, solver: SparseSolver, levels: list[Levels]) -> dict[str, Any]:
        """Fermi level from the moments; the noise of a whole system's states is removed by counting them."""
        degeneracy = self.data.spin.electrons_per_state
        parts = [(part.weight, part.energies, part.counts) for part in levels]
        estimate = fermi_by_moments(parts, self.n_electrons, degeneracy, self.config.broadening)
        if not self.config.counted:
            return estimate
        loop, smearing = Loop(None, self.config.workers, self.show_progress), self.config.smearing
        try:
            found = fermi_by_inertia(
                solver,
                self.kpoints,
                self.weights,
                self.n_electrons,
                degeneracy,
                smearing,
                start=estimate["level"],
                slope=max(estimate["dos_at_level"] / degeneracy, 1.0),
                loop=loop,
            )
        except DataError:  # too few states around the level, as in a small system: the moments are good enough there
            return estimate
        return {**found.as_dict(), "by_moments": estimate["level"], "uncertainty_by_moments": estimate["uncertainty"]}

    @property
    def single(self) -> bool:
        """Whether moments in a window are computed in single precision."""
        wanted = self.config.precision
        return wanted == "single" or (wanted == "auto" and self.matrices.n_rows > SINGLE_LIMIT)

    def pencil(self, solver: SparseSolver, k: NDArray[np.float64], channel: int = 0) -> Pencil:
        """S^-1 H for the whole spectrum; with a window (H - pole S)^-1 S, whose moments are fewer."""
        width, where = self.config.broadening, f"k = {np.round(k, 6).tolist()}"
        h, s = self.matrices.at(k, channel)
        if self.config.window is None or self.n_electrons is None:
            factors = solver.factor_overlap(s, where=where)
            interval = spectral_interval(h, s, factors)
            return Pencil((h, s, factors, interval), interval.n_moments(width))
        states = self.data.spin.electrons_per_state * self.matrices.n_channels * self.matrices.n_rows
        level, _, bottom = guess_level(self.matrices, self.n_electrons / states)
        highest = level + self.config.window[1] + REACH * width + LEVEL_MARGIN
        reach = max(highest - bottom, 1.0)
        pole = bottom - reach
        while True:
            shifted = sp.csr_matrix((h.data - pole * s.data, h.indices, h.indptr), shape=h.shape, copy=False)
            if self.single:
                h = None  # of the largest systems the factorisation needs its room
                s, shifted = _single(s), _single(shifted)
            factors = solver.factor(shifted.data)
            if not factors.n_negative:
                break
            if pole < bottom - 50 * reach:  # H - pole S stays indefinite only if S is
                solver.factor_overlap(s, where=where)
            pole -= 2 * (bottom - pole)
            h, s = self.matrices.at(k, channel)
        interval = spectral_interval(s, shifted, factors, pole=pole)
        return Pencil((s, shifted, factors, interval), interval.n_moments(width, highest))


def _single(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same matrix in single precision, its pattern shared."""
    dtype = np.complex64 if np.iscomplexobj(matrix.data) else np.float32
    return sp.csr_matrix((matrix.data.astype(dtype), matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)


@dataclass(frozen=True)
class Pencil:
    """What moments are computed of.

    :param matrices: both matrices, the factors of the second one and the interval of the eigenvalues.
    """

    matrices: tuple[sp.csr_matrix, sp.csr_matrix, Factorisation, Interval]
    n_moments: int
