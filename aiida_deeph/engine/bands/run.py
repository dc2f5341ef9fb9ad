"""The `bands` job: from a configuration to the file of bands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.bands.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.bands.config import BandsConfig
from aiida_deeph.engine.bands.fermi import FermiLevel, fermi_level, gamma_mesh, mesh_for_spacing, n_occupied_bands
from aiida_deeph.engine.bands.kpath import KPoints, check_directions, path_kpoints, periodic_directions
from aiida_deeph.engine.bands.levels import fermi_by_inertia
from aiida_deeph.engine.bands.memory import peak_memory_gib
from aiida_deeph.engine.bands.output import describe, electrons_of, read_folder, write_json
from aiida_deeph.engine.bands.solvers import Spectrum, choose_solver, dense_spectrum, sparse_spectrum
from aiida_deeph.engine.bands.sparse import SparseSolver
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import InputError

FERMI_SPACING = 0.15
"""Distance of the k-points of an automatic mesh for the Fermi level, 1/Angstrom (with 2 pi)."""

FERMI_WORK = 2e12
"""Rows cubed times k-points up to which that mesh is kept (about a minute of one core)."""


def run_bands(config: BandsConfig, *, show_progress: bool | None = None) -> Path:
    """Compute the bands that a configuration describes and write them.

    :returns: the file written.
    :raises DeepHError: one line about what is wrong; nothing is written then.
    """
    started = time.perf_counter()
    data = read_folder(config.folder)
    points, weights = kpoints_of(config, data)
    n_electrons = electrons_of(data, config.n_electrons)
    if config.num_bands is not None and config.around == "fermi" and n_electrons is None:
        hint = "" if data.fermi_energy is None else f" (that of the DFT run is {data.fermi_energy:.3f})"
        raise InputError(
            "Fermi level unknown",
            where="around",
            found="no number of electrons in the folder",
            expected="`occupation` in info.json",
            remedy=f"give --electrons N, or an energy with --around E{hint}",
        )
    matrices = bloch_matrices(data, config.folder)
    solver = choose_solver(matrices.n_rows, config.num_bands, config.solver)
    solve = _solve_dense if solver == "dense" else _solve_sparse
    solved = solve(config, data, matrices, points, weights, n_electrons, show_progress)
    spectrum, fermi = solved.spectrum, solved.fermi
    result = {
        **describe(data, config.folder),
        "kpoints": points.fractional.tolist(),
        "weights": None if weights is None else weights.tolist(),
        "labels": [list(label) for label in points.labels],
        "distances": points.distances(data.structure.cell).tolist(),
        "energies": solved.energies.tolist(),
        "first_band": solved.first_band,
        "n_electrons": n_electrons,
        "n_occupied": _n_occupied(data, n_electrons, solved),
        "fermi_level": None if fermi is None else fermi.level,
        "fermi": None if fermi is None else {**fermi.as_dict(), "mesh": solved.fermi_mesh},
        "smallest_overlap_eigenvalue": spectrum.smallest_overlap,
        "overlap_threshold": config.overlap_threshold,
        "dropped_states": spectrum.n_dropped,
        "ghost_states": ghost_states(solved),
        "solver": solver,
        "seconds": time.perf_counter() - started,
        "peak_memory_gib": peak_memory_gib(),
    }
    return write_json(Path(config.output), result)


@dataclass(frozen=True)
class Solved:
    """Bands at the k-points asked for.

    :param energies: those asked for, shape (n_channels, n_k, n_bands), eV.
    :param first_band: index of the first of them; None if it could not be counted.
    :param spectrum: everything that was computed at these k-points.
    """

    energies: NDArray[np.float64]
    first_band: int | None
    spectrum: Spectrum
    fermi: FermiLevel | None
    fermi_mesh: list[int] | None


def kpoints_of(config: BandsConfig, data: RealSpaceHamiltonian) -> tuple[KPoints, NDArray[np.float64] | None]:
    """The k-points asked for, and their weights if they are a mesh."""
    if config.kpath is not None:
        structure = data.structure
        return path_kpoints(config.kpath, structure.cell, periodic_directions(data), config.points_per_segment), None
    if config.mesh is not None:
        real = data.hamiltonian is not None and not np.iscomplexobj(data.hamiltonian.entries)
        fractional, weights = gamma_mesh(config.mesh, time_reversal=real)
        check_directions(fractional, data.structure.pbc, f"mesh {list(config.mesh)}")
        return KPoints(fractional), weights
    points = KPoints(np.array(config.kpoints, dtype=np.float64).reshape(-1, 3), config.labels or ())
    if not len(points.fractional) or any(not 0 <= n < len(points.fractional) for n, _ in points.labels):
        raise InputError(
            "k-points are wrong",
            where="kpoints",
            found=f"{len(points.fractional)} points, labels {list(points.labels)}",
            expected="at least one point, and labels by their index",
        )
    check_directions(points.fractional, data.structure.pbc, "kpoints")
    return points, None


def _fermi_kpoints(
    config: BandsConfig, data: RealSpaceHamiltonian, matrices: BlochMatrices
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """k-points and weights of the mesh for the Fermi level, and that mesh."""
    mesh = config.fermi_mesh or config.mesh or automatic_mesh(data, matrices.n_rows)
    kpoints, weights = gamma_mesh(mesh, time_reversal=matrices.is_real_in_space)
    check_directions(kpoints, data.structure.pbc, f"fermi_mesh {list(mesh)}")
    return kpoints, weights, list(mesh)


def _solve_dense(
    config: BandsConfig,
    data: RealSpaceHamiltonian,
    matrices: BlochMatrices,
    points: KPoints,
    weights: NDArray[np.float64] | None,
    n_electrons: float | None,
    show_progress: bool | None,
) -> Solved:
    """All bands at the k-points asked for and on a mesh for the Fermi level."""
    extra, mesh = np.zeros((0, 3)), None if config.mesh is None else list(config.mesh)
    if n_electrons is not None and (weights is None or config.fermi_mesh is not None):
        extra, weights, mesh = _fermi_kpoints(config, data, matrices)
    n_asked = len(points.fractional)
    both = dense_spectrum(
        matrices,
        np.concatenate([points.fractional, extra]),
        overlap_threshold=config.overlap_threshold,
        show_progress=show_progress,
    )
    spectrum = Spectrum(tuple(channel[:n_asked] for channel in both.states), both.solver)
    fermi = None
    if n_electrons is not None and weights is not None:
        # Points of the path carry no weight, but a state of theirs inside the gap of the mesh closes it.
        all_weights = np.concatenate([np.zeros(n_asked), weights]) if len(extra) else weights
        degeneracy = data.spin.electrons_per_state
        fermi = fermi_level(both.energies, all_weights, n_electrons, degeneracy, config.smearing)
    first, energies = _window(config, spectrum.energies, fermi)
    return Solved(energies, first, spectrum, fermi, None if fermi is None else mesh)


def _solve_sparse(
    config: BandsConfig,
    data: RealSpaceHamiltonian,
    matrices: BlochMatrices,
    points: KPoints,
    weights: NDArray[np.float64] | None,
    n_electrons: float | None,
    show_progress: bool | None,
) -> Solved:
    """Few bands, and the Fermi level from the states around it."""
    fermi, mesh = None, None
    solver = SparseSolver(matrices)
    if n_electrons is not None:
        kpoints, mesh_weights, mesh = _fermi_kpoints(config, data, matrices)
        fermi = fermi_by_inertia(
            solver,
            kpoints,
            mesh_weights,
            n_electrons,
            data.spin.electrons_per_state,
            config.smearing,
            start=data.fermi_energy,
            show_progress=show_progress,
        )
    spectrum = sparse_spectrum(
        solver, points.fractional, centre_energy(config, fermi), config.num_bands or 1, show_progress=show_progress
    )
    first = spectrum.states[0][0].first_band
    return Solved(spectrum.energies, first, spectrum, fermi, mesh)


def automatic_mesh(data: RealSpaceHamiltonian, n_rows: int) -> tuple[int, int, int]:
    """A Gamma-centred mesh of `FERMI_SPACING`, made coarser while it would cost more than `FERMI_WORK`.

    Counts beyond one are multiples of three: then hexagonal meshes hold K, where the bands of graphene touch.
    """
    spacing = FERMI_SPACING
    while True:
        counts = mesh_for_spacing(data.structure.cell, periodic_directions(data), spacing)
        a, b, c = (n if n == 1 else 3 * -(-n // 3) for n in counts)
        if a * b * c == 1 or a * b * c * float(n_rows) ** 3 <= FERMI_WORK:
            return a, b, c
        spacing *= 1.5


def _window(
    config: BandsConfig, energies: NDArray[np.float64], fermi: FermiLevel | None
) -> tuple[int, NDArray[np.float64]]:
    """The bands asked for: the same band indices at every k-point."""
    n_bands = energies.shape[2]
    if config.num_bands is None or config.num_bands >= n_bands:
        return 0, energies
    level = centre_energy(config, fermi)
    below = round(float((energies < level).sum(axis=2).mean()))
    first = min(max(below - config.num_bands // 2, 0), n_bands - config.num_bands)
    return first, energies[:, :, first : first + config.num_bands]


def centre_energy(config: BandsConfig, fermi: FermiLevel | None) -> float:
    """The energy around which bands are wanted, eV."""
    if config.around != "fermi":
        return float(config.around)
    if fermi is None:
        raise InputError("Fermi level unknown", where="around", remedy="give an energy with --around E")
    return fermi.level


def _n_occupied(data: RealSpaceHamiltonian, n_electrons: float | None, solved: Solved) -> int | list[int] | None:
    """Full bands, one number per channel for collinear data; None if the electrons do not fill whole bands."""
    if n_electrons is None or solved.fermi is None:
        return None
    if len(solved.energies) == 1:
        return n_occupied_bands(n_electrons, data.spin.electrons_per_state)
    if not solved.fermi.insulator or solved.first_band is None:
        return None
    return [solved.first_band + int((channel[0] < solved.fermi.level).sum()) for channel in solved.energies]


def ghost_states(solved: Solved) -> list[list[int]]:
    """States [channel, k, band] of the window that live mostly in the near-null space of S(k).

    Such combinations of orbitals belong far up in energy; an error dH moves them by about dH over the eigenvalue of S.
    Flagged are those that lie below 10 eV above the Fermi level, or in the lower half of all bands if that is unknown.
    """
    found: list[list[int]] = []
    fermi, first, n_bands = solved.fermi, solved.first_band or 0, solved.energies.shape[2]
    for c, channel in enumerate(solved.spectrum.states):
        for k, states in enumerate(channel):
            if states.null_weights is None:
                continue
            ceiling = np.median(states.energies) if fermi is None else fermi.level + 10.0
            ghosts = np.flatnonzero((states.null_weights > 0.5) & (states.energies < ceiling))
            found.extend([c, k, int(n) - first] for n in ghosts if first <= n < first + n_bands)
    return found
