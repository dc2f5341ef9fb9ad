"""Bands at k-points and the Fermi level, dense or sparse, with what is made of the vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import ChosenKPoints, automatic_mesh, choose_kpoints, mesh_kpoints
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.dense import Eigenstates
from aiida_deeph.engine.linalg.kpoint_loop import Loop
from aiida_deeph.engine.linalg.solvers import Spectrum, choose_solver, dense_spectrum, sparse_spectrum
from aiida_deeph.engine.linalg.sparse import SparseSolver
from aiida_deeph.engine.observables.base import MAIN, KPointsConfig, Mesh, Observable, ObservableConfig
from aiida_deeph.engine.observables.cube import write_wavefunctions
from aiida_deeph.engine.observables.fermi import FermiLevel, fermi_level, n_occupied_bands
from aiida_deeph.engine.observables.fermi_sparse import fermi_by_inertia
from aiida_deeph.engine.system import require_memory


class BandsConfig(KPointsConfig, ObservableConfig):
    """Eigenvalues of a DeepH folder at k-points, written to `OUTPUT` (JSON).

    The file holds kpoints (fractional), labels, distances (1/Angstrom), cell (Angstrom), energies in eV
    [spin][k][band], first_band (index of the first of these bands), n_occupied (full bands of an insulator, or null),
    fermi_level (eV or null), fermi (how it was found, band edges, gap), n_electrons, dft_fermi_level (what the folder
    says), smallest_overlap_eigenvalue, ghost_states ([spin, k, band] of states that live in the near-null space of S),
    spectral_weights [spin][k][band] and unfolding if asked for, solver, seconds, peak_memory_GiB.

    :param num_bands: bands nearest to `around`; None gives all.
    :param around: eV, or `fermi`.
    :param solver: `dense` gives all bands, `sparse` few of large systems; `auto` picks by size.
    :param fermi_mesh: Gamma-centred mesh for the Fermi level; None takes `mesh`, or one that fits the cell.
    :param smearing: Fermi-Dirac width for metals, eV.
    :param overlap_threshold: combinations of orbitals whose eigenvalue of S(k) is smaller are projected out (dense).
    :param unfold: structure (file or DeepH folder) of the primitive cell onto which a supercell is unfolded; k-points,
        path and distances are then those of the primitive cell.
    :param wavefunctions: states whose coefficients are written: 0 is the highest occupied band, 1 the lowest empty one.
    :param wavefunctions_output: HDF5 file of these coefficients.
    """

    num_bands: int | None = Field(default=None, ge=1)
    around: float | Literal["fermi"] = "fermi"
    solver: Literal["auto", "dense", "sparse"] = "auto"
    fermi_mesh: Mesh | None = None
    smearing: float = Field(default=0.02585, gt=0)
    overlap_threshold: float = Field(default=1e-6, gt=0)
    unfold: str | None = None
    wavefunctions: tuple[int, ...] | None = Field(default=None, min_length=1)
    wavefunctions_output: str = "wavefunctions.h5"
    output: str = "bands.json"

    NO_MATTER: ClassVar[frozenset[str]] = ObservableConfig.NO_MATTER | {"wavefunctions_output"}
    OPTIONS = {"points_per_segment": "--points", "n_electrons": "--electrons", "wavefunctions": "--wavefunction"}


@dataclass(frozen=True)
class Solved:
    """Bands at the k-points of a calculation, and what the Fermi level is found from.

    :param spectrum: everything that was computed at these k-points.
    :param beside: the same on a mesh beside them, for the Fermi level, with its weights; None if it needs none.
    :param fermi: the level, if it was found before the bands.
    """

    spectrum: Spectrum
    beside: tuple[Spectrum, NDArray[np.float64]] | None = None
    fermi: FermiLevel | None = None
    mesh: tuple[int, int, int] | None = None


class Bands(Observable):
    """Eigenvalues at the k-points asked for, the Fermi level, and coefficients of chosen states."""

    name = "bands"
    title = "bands"
    Config: ClassVar[type[BandsConfig]] = BandsConfig
    IS_BANDS = True
    NEEDS_KPOINTS = True
    ARRAYS = {
        "energies": "eV",
        "kpoints": "",
        "weights": "",
        "labels": "",
        "distances": "1/angstrom",
        "ghost_states": "",
        "spectral_weights": "",
    }
    STRUCTURES = {"unfold": "primitive"}
    FILES = {"wavefunctions": ("wavefunctions", "wavefunctions_output")}
    config: BandsConfig

    def __init__(self, config: BandsConfig, data: RealSpaceHamiltonian) -> None:
        super().__init__(config, data)
        if config.num_bands is not None and config.around == "fermi" and self.n_electrons is None:
            hint = "" if data.fermi_energy is None else f" (that of the DFT run is {data.fermi_energy:.3f})"
            raise InputError(
                "Fermi level unknown",
                where="around",
                found="no number of electrons in the folder",
                expected="`occupation` in info.json",
                remedy=f"give --electrons N, or an energy with --around E{hint}",
            )
        self.points: ChosenKPoints = choose_kpoints(data, **config.kpoint_fields, cell=self.cell)
        self.solver = choose_solver(self.matrices.n_rows, config.num_bands, config.solver)
        self.states = self._state_indices()
        n_values = len(self.points.fractional) * self.matrices.n_channels * (config.num_bands or self.matrices.n_rows)
        # Each as a number, and as text of the result.
        require_memory(100.0 * n_values, f"{n_values:.3g} eigenvalues", "ask for fewer k-points, or for few bands")

    @classmethod
    def of(cls, config: BandsConfig, data: RealSpaceHamiltonian) -> Bands:
        if config.unfold is None:
            return cls(config, data)
        from aiida_deeph.engine.observables.unfold import UnfoldedBands

        return UnfoldedBands(config, data)

    @property
    def cell(self) -> NDArray[np.float64]:
        """Cell whose k-points are meant, Angstrom."""
        return self.data.structure.cell

    @property
    def own_mesh(self) -> tuple[int, int, int] | None:
        """Mesh of the cell of H that the k-points are; None if they are none."""
        return self.points.mesh

    @property
    def kpoints(self) -> NDArray[np.float64]:
        """k-points of the cell of H, fractional, shape (n_k, 3)."""
        return self.points.fractional

    def kept(self, channel: int, index: int, found: Eigenstates, overlap: sp.csr_matrix) -> dict[str, NDArray[Any]]:
        """What is kept of the vectors at a k-point."""
        if self.states is None:
            return {}
        first = found.first_band or 0
        places = self.states - first
        if places[0] < 0 or places[-1] >= len(found.energies):
            raise InputError(
                "states outside the bands that are computed",
                where="wavefunctions",
                found=f"bands {self.states.tolist()}",
                expected=f"{first} to {first + len(found.energies) - 1}",
                remedy="compute more bands with num_bands",
            )
        assert found.vectors is not None
        return {"coefficients": found.vectors[:, places], "levels": found.energies[places]}

    @property
    def needs_vectors(self) -> bool:
        """Whether anything is made of the vectors."""
        return self.states is not None

    def solve(self, loop: Loop) -> Solved:
        observe = self.kept if self.needs_vectors else None
        if self.solver == "sparse":
            return self._solve_sparse(loop, observe)
        threshold, mesh = self.config.overlap_threshold, self.own_mesh
        spectrum = dense_spectrum(
            self.matrices, self.kpoints, overlap_threshold=threshold, loop=loop, name=MAIN, observe=observe
        )
        beside = None
        if self.n_electrons is not None and (mesh is None or self.config.fermi_mesh is not None):
            points = self._fermi_points()
            assert points.weights is not None
            more = dense_spectrum(
                self.matrices, points.fractional, overlap_threshold=threshold, loop=loop, name="Fermi level"
            )
            beside, mesh = (more, points.weights), points.mesh
        return Solved(spectrum, beside, mesh=mesh)

    def _solve_sparse(self, loop: Loop, observe: Any) -> Solved:
        """Few bands; the Fermi level comes first, as it is what the bands are counted from."""
        solver, fermi, mesh = SparseSolver(self.matrices), None, None
        if self.n_electrons is not None:
            points = self._fermi_points()
            assert points.weights is not None
            fermi, mesh = (
                fermi_by_inertia(
                    solver,
                    points.fractional,
                    points.weights,
                    self.n_electrons,
                    self.data.spin.electrons_per_state,
                    self.config.smearing,
                    start=self.data.fermi_energy,
                    loop=loop.whole,
                ),
                points.mesh,
            )
        energy, count = self._centre(fermi), self.config.num_bands or 1
        spectrum = sparse_spectrum(solver, self.kpoints, energy, count, loop=loop, name=MAIN, observe=observe)
        return Solved(spectrum, None, fermi, mesh)

    def _fermi_points(self) -> ChosenKPoints:
        """The mesh for the Fermi level."""
        mesh = self.config.fermi_mesh or self.own_mesh or automatic_mesh(self.data, self.matrices.n_rows)
        return mesh_kpoints(self.data, mesh, "fermi_mesh", time_reversal=self.matrices.is_real_in_space)

    def result(self, solved: Solved, loop: Loop) -> dict[str, Any]:
        config, spectrum = self.config, solved.spectrum
        fermi = solved.fermi if self.solver == "sparse" else self._fermi_of(solved)
        first, energies = spectrum.states[0][0].first_band, spectrum.energies
        if self.solver == "dense":
            first, energies = self._window(energies, fermi)
        points = self.points
        mesh = None if solved.mesh is None else list(solved.mesh)
        return {
            "kpoints": points.fractional.tolist(),
            "weights": None if points.weights is None else points.weights.tolist(),
            "labels": [list(label) for label in points.labels],
            "distances": points.distances(self.cell).tolist(),
            "energies": energies.tolist(),
            "first_band": first,
            "n_electrons": self.n_electrons,
            "n_occupied": self._n_occupied(energies, first, fermi),
            "fermi_level": None if fermi is None else fermi.level,
            "fermi": None if fermi is None else {**fermi.as_dict(), "mesh": mesh},
            "smallest_overlap_eigenvalue": spectrum.smallest_overlap,
            "overlap_threshold": config.overlap_threshold,
            "dropped_states": spectrum.n_dropped,
            "ghost_states": ghost_states(spectrum, fermi, config.around, first or 0, energies.shape[2]),
            "solver": self.solver,
        }

    def _fermi_of(self, solved: Solved) -> FermiLevel | None:
        """Fermi level from the bands of the mesh, its own or the one beside."""
        if self.n_electrons is None:
            return None
        energies, weights = solved.spectrum.energies, self.points.weights
        if solved.beside is not None:
            more, extra_weights = solved.beside[0].energies, solved.beside[1]
            # Points of the path carry no weight, but a state of theirs inside the gap of the mesh closes it.
            n_bands = min(energies.shape[2], more.shape[2])
            weights = np.concatenate([np.zeros(energies.shape[1]), extra_weights])
            energies = np.concatenate([energies[:, :, :n_bands], more[:, :, :n_bands]], axis=1)
        assert weights is not None
        degeneracy = self.data.spin.electrons_per_state
        return fermi_level(energies, weights, self.n_electrons, degeneracy, self.config.smearing)

    def _window(self, energies: NDArray[np.float64], fermi: FermiLevel | None) -> tuple[int, NDArray[np.float64]]:
        """The bands asked for: the same band indices at every k-point."""
        n_bands, wanted = energies.shape[2], self.config.num_bands
        if wanted is None or wanted >= n_bands:
            return 0, energies
        below = round(float((energies < self._centre(fermi)).sum(axis=2).mean()))
        first = min(max(below - wanted // 2, 0), n_bands - wanted)
        return first, energies[:, :, first : first + wanted]

    def _centre(self, fermi: FermiLevel | None) -> float:
        """The energy around which bands are wanted, eV."""
        if self.config.around != "fermi":
            return float(self.config.around)
        if fermi is None:
            raise InputError("Fermi level unknown", where="around", remedy="give an energy with --around E")
        return fermi.level

    def _state_indices(self) -> NDArray[np.int64] | None:
        """Band indices of the states whose coefficients are wanted."""
        wanted, n_rows = self.config.wavefunctions, self.matrices.n_rows
        if wanted is None:
            return None
        if self.n_electrons is None:
            raise InputError("highest occupied band unknown", where="wavefunctions", remedy="give --electrons N")
        highest = round(self.n_electrons / self.data.spin.electrons_per_state / self.matrices.n_channels) - 1
        bands = np.array(sorted({highest + n for n in wanted}), dtype=np.int64)
        if bands[0] < 0 or bands[-1] >= n_rows:
            raise InputError(
                "no such band",
                where="wavefunctions",
                found=list(wanted),
                expected=f"{-highest} to {n_rows - 1 - highest}",
            )
        return bands

    def _n_occupied(
        self, energies: NDArray[np.float64], first: int | None, fermi: FermiLevel | None
    ) -> int | list[int] | None:
        """Full bands, one number per channel for collinear data; None if the electrons do not fill whole bands."""
        if self.n_electrons is None or fermi is None:
            return None
        if len(energies) == 1:
            return n_occupied_bands(self.n_electrons, self.data.spin.electrons_per_state)
        if not fermi.insulator or first is None:
            return None
        return [first + int((channel[0] < fermi.level).sum()) for channel in energies]

    def write_files(self, solved: Solved) -> None:
        if self.states is None:
            return
        channels = solved.spectrum.states
        coefficients, levels = (
            np.array([[states.extras[name] for states in channel] for channel in channels])
            for name in ("coefficients", "levels")
        )
        path = Path(self.config.wavefunctions_output)
        write_wavefunctions(path, self.data, self.matrices, self.kpoints, self.states, levels, coefficients)


def ghost_states(
    spectrum: Spectrum, fermi: FermiLevel | None, around: float | str, first: int, n_bands: int
) -> list[list[int]]:
    """States [channel, k, band] of a window that live mostly in the near-null space of S(k).

    Such combinations of orbitals belong far up in energy; an error dH moves them by about dH over the eigenvalue of S.
    Flagged are those that lie below 10 eV above the Fermi level, or above `around` if that is unknown, or in the lower
    half of all bands.

    :param first: index of the first band of the window.
    :param n_bands: size of the window.
    """
    found: list[list[int]] = []
    for c, channel in enumerate(spectrum.states):
        for k, states in enumerate(channel):
            if states.null_weights is None:
                continue
            level = around if fermi is None else fermi.level
            ceiling = np.median(states.energies) if isinstance(level, str) else level + 10.0
            ghosts = np.flatnonzero((states.null_weights > 0.5) & (states.energies < ceiling))
            bands = ghosts + (states.first_band or 0) - first
            found.extend([c, k, int(band)] for band in bands if 0 <= band < n_bands)
    return found
