"""The `bands` job: from a configuration to the file of bands."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import (
    KPoints,
    check_directions,
    gamma_mesh,
    mesh_for_spacing,
    path_kpoints,
    periodic_directions,
)
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.engine.linalg.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.linalg.loop import Loop
from aiida_deeph.engine.linalg.solvers import choose_solver
from aiida_deeph.engine.linalg.store import StateStore, job_key
from aiida_deeph.engine.observables.bands_job import BandsJob, Solved
from aiida_deeph.engine.observables.config import BandsConfig
from aiida_deeph.engine.observables.fermi import check_electrons, n_occupied_bands
from aiida_deeph.engine.observables.output import describe, electrons_of, read_folder, write_json
from aiida_deeph.engine.observables.ranks import (
    FINISHED,
    PATIENCE,
    own_rank,
    partial_folder,
    rank_folder,
    wait_for,
    with_ranks,
)
from aiida_deeph.engine.observables.unfold import Unfolding, unfolding
from aiida_deeph.engine.system import peak_memory_gib

NO_MATTER = {"folder", "output", "wavefunctions_output", "workers", "threads", "restart", "share"}
"""Fields of the configuration that change no eigenvalue."""


def run_bands(config: BandsConfig, *, show_progress: bool | None = None) -> Path:
    """Compute the bands that a configuration describes and write them; of several ranks the first one does.

    :returns: the file written.
    :raises DeepHError: one line about what is wrong; nothing is written then.
    """
    started = time.perf_counter()
    data = read_folder(config.folder)
    if config.spacing is not None:
        mesh = mesh_for_spacing(data.structure.cell, periodic_directions(data), config.spacing)
        config = config.model_copy(update={"mesh": mesh, "spacing": None})
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
    unfolded = None
    if config.unfold is not None:
        unfolded = unfolding(data.structure, read_structure(Path(config.unfold)), config.unfold)
    points, weights = kpoints_of(config, data, unfolded)
    matrices = bloch_matrices(data, config.folder)
    solver = choose_solver(matrices.n_rows, config.num_bands, config.solver)
    check_electrons(n_electrons, matrices.n_rows * matrices.n_channels, data.spin.electrons_per_state)
    states = state_indices(config.wavefunctions, n_electrons, data, matrices)
    rank, n_ranks = (0, 1) if config.share is not None else own_rank(os.environ)
    store = _store(config, data, rank, n_ranks)
    job = BandsJob(config, data, matrices, points, weights, n_electrons, unfolded, states)
    loop = Loop(store, config.workers, show_progress)
    try:
        if config.share is not None:
            store.open()
            n_solved = job.solve_share(replace(loop, share=config.share), solver)
            result = {"share": list(config.share), "n_solved": n_solved, "n_kpoints": len(points.fractional)}
            result |= {"solver": solver, "seconds": time.perf_counter() - started}
            return write_json(
                Path(config.output), {**describe(data, config.folder), **result, "peak_memory_gib": peak_memory_gib()}
            )
        if n_ranks > 1:
            _solve_together(job, replace(loop, share=(rank, n_ranks)), solver)
            if rank > 0:
                return Path(config.output)
        solved = job.dense(loop) if solver == "dense" else job.sparse(loop)
        spectrum, fermi = solved.spectrum, solved.fermi
        result = {
            **describe(data, config.folder),
            "kpoints": points.fractional.tolist(),
            "weights": None if weights is None else weights.tolist(),
            "labels": [list(label) for label in points.labels],
            "distances": points.distances(data.structure.cell if unfolded is None else unfolded.cell).tolist(),
            "energies": solved.energies.tolist(),
            "first_band": solved.first_band,
            "n_electrons": n_electrons,
            "n_occupied": _n_occupied(data, n_electrons, solved),
            "fermi_level": None if fermi is None else fermi.level,
            "fermi": None if fermi is None else {**fermi.as_dict(), "mesh": solved.fermi_mesh},
            "smallest_overlap_eigenvalue": spectrum.smallest_overlap,
            "overlap_threshold": config.overlap_threshold,
            "dropped_states": spectrum.n_dropped,
            "ghost_states": ghost_states(solved, config.around),
            **job.unfolding_result(solved),
            "solver": solver,
            "seconds": time.perf_counter() - started,
            "peak_memory_gib": peak_memory_gib(),
        }
        if states is not None:
            job.write_wavefunctions(Path(config.wavefunctions_output), solved)
        path = write_json(Path(config.output), result)
    except DeepHError:
        store.remove()  # what is wrong now would be wrong the next time
        raise
    shutil.rmtree(partial_folder(config.output), ignore_errors=True)
    return path


def _store(config: BandsConfig, data: RealSpaceHamiltonian, rank: int, n_ranks: int) -> StateStore:
    """Where this process keeps its solutions, and finds those of earlier runs and of other ranks."""
    settings = config.model_dump(exclude=NO_MATTER)
    folders = [rank_folder(config.output, n, n_ranks) for n in range(n_ranks)]
    given = (config.restart,) if isinstance(config.restart, str) else config.restart or ()
    left = [other for folder in (*given, partial_folder(config.output)) for other in with_ranks(Path(folder))]
    own, beside = folders[rank], [folder for n, folder in enumerate(folders) if n != rank]
    return StateStore(own, job_key(data, settings), [folder for folder in left if folder != own], beside)


def _solve_together(job: BandsJob, loop: Loop, solver: str) -> None:
    """Solve one rank's share; the first rank then waits for the others, and does itself what they did not."""
    store, started = loop.store, time.monotonic()
    assert store is not None and loop.share is not None
    store.open()
    finished = store.folder / FINISHED
    finished.unlink(missing_ok=True)
    try:
        job.solve_share(loop, solver)
    finally:
        finished.touch()
    if loop.share[0] == 0:
        wait_for(store.beside, max(PATIENCE, 5 * (time.monotonic() - started)))


def kpoints_of(
    config: BandsConfig, data: RealSpaceHamiltonian, unfolded: Unfolding | None = None
) -> tuple[KPoints, NDArray[np.float64] | None]:
    """The k-points asked for, and their weights if they are a mesh."""
    if config.kpath is not None:
        cell = data.structure.cell if unfolded is None else unfolded.cell
        return path_kpoints(config.kpath, cell, periodic_directions(data), config.points_per_segment), None
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


def state_indices(
    wanted: tuple[int, ...] | None, n_electrons: float | None, data: RealSpaceHamiltonian, matrices: BlochMatrices
) -> NDArray[np.int64] | None:
    """Band indices of the states whose coefficients are wanted.

    :raises InputError: the number of electrons is unknown, or there is no such band.
    """
    if wanted is None:
        return None
    if n_electrons is None:
        raise InputError("highest occupied band unknown", where="wavefunctions", remedy="give --electrons N")
    highest = round(n_electrons / data.spin.electrons_per_state / matrices.n_channels) - 1
    bands = np.array(sorted({highest + n for n in wanted}), dtype=np.int64)
    if bands[0] < 0 or bands[-1] >= matrices.n_rows:
        raise InputError(
            "no such band",
            where="wavefunctions",
            found=list(wanted),
            expected=f"{-highest} to {matrices.n_rows - 1 - highest}",
        )
    return bands


def _n_occupied(data: RealSpaceHamiltonian, n_electrons: float | None, solved: Solved) -> int | list[int] | None:
    """Full bands, one number per channel for collinear data; None if the electrons do not fill whole bands."""
    if n_electrons is None or solved.fermi is None:
        return None
    if len(solved.energies) == 1:
        return n_occupied_bands(n_electrons, data.spin.electrons_per_state)
    if not solved.fermi.insulator or solved.first_band is None:
        return None
    return [solved.first_band + int((channel[0] < solved.fermi.level).sum()) for channel in solved.energies]


def ghost_states(solved: Solved, around: float | str) -> list[list[int]]:
    """States [channel, k, band] of the window that live mostly in the near-null space of S(k).

    Such combinations of orbitals belong far up in energy; an error dH moves them by about dH over the eigenvalue of S.
    Flagged are those that lie below 10 eV above the Fermi level, or above `around` if that is unknown, or in the lower
    half of all bands.
    """
    found: list[list[int]] = []
    fermi, first, n_bands = solved.fermi, solved.first_band or 0, solved.energies.shape[2]
    for c, channel in enumerate(solved.spectrum.states):
        for k, states in enumerate(channel):
            if states.null_weights is None:
                continue
            level = around if fermi is None else fermi.level
            ceiling = np.median(states.energies) if isinstance(level, str) else level + 10.0
            ghosts = np.flatnonzero((states.null_weights > 0.5) & (states.energies < ceiling))
            bands = ghosts + (states.first_band or 0) - first
            found.extend([c, k, int(band)] for band in bands if 0 <= band < n_bands)
    return found
