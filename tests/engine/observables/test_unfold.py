"""Unfolding of supercell bands, wavefunctions, restart and several workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase.io import write

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.structure import to_ase
from aiida_deeph.engine.linalg import kpoint_loop as kloop
from aiida_deeph.engine.linalg import solvers
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.observables.unfold import unfolding

Write = Callable[..., str]


def bands(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    settings = {"output": str(tmp_path / "bands.json"), **settings}
    return json.loads(Bands.run(BandsConfig(**settings)).read_text())


def repeated(data: RealSpaceHamiltonian, matrix: list[list[int]], shift: float = 0.0) -> RealSpaceHamiltonian:
    """The same crystal in a larger cell, its atoms in another order and moved by `shift` along x."""
    m = np.array(matrix)
    span = np.arange(-6, 7)
    cells = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = cells @ np.linalg.inv(m)
    cells = cells[((inside > -1e-9) & (inside < 1 - 1e-9)).all(axis=1)]
    n = len(data.structure)
    origin, site = np.repeat(cells, n, axis=0), np.tile(np.arange(n), len(cells))
    order = np.random.default_rng(5).permutation(len(site))
    origin, site = origin[order], site[order]
    place = {(*c, s): k for k, (c, s) in enumerate(zip(origin.tolist(), site.tolist(), strict=True))}
    symbols = tuple(data.structure.symbols[s] for s in site)
    positions = data.structure.positions[site] + origin @ data.structure.cell + [shift, 0, 0]
    structure = Structure(symbols, positions, m @ data.structure.cell, data.structure.pbc)

    def spread(matrix: BlockSparseMatrix) -> BlockSparseMatrix:
        pairs, blocks = [], []
        for row, (*r, i, j) in enumerate(matrix.atom_pairs.tolist()):
            for k in np.flatnonzero(site == i):
                target = origin[k] + r
                super_r = np.floor(target @ np.linalg.inv(m) + 1e-9).astype(int)
                rest = target - super_r @ m
                pairs.append([*super_r, k, place[(*rest.tolist(), j)]])
                blocks.append(matrix.entries[matrix.chunk_boundaries[row] : matrix.chunk_boundaries[row + 1]])
        sizes = data.rows_per_atom if np.iscomplexobj(matrix.entries) else data.orbitals_per_atom
        return BlockSparseMatrix.from_pairs(np.array(pairs), sizes[site], np.concatenate(blocks))

    return replace(data, structure=structure, hamiltonian=spread(data.hamiltonian), overlap=spread(data.overlap))


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
@pytest.mark.parametrize("matrix", [[[2, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 1, 0], [-1, 1, 0], [0, 1, 2]]])
def test_pristine_supercell_gives_the_primitive_bands(
    models: Any, folder: Write, tmp_path: Path, spin: SpinMode, matrix: list[list[int]]
) -> None:
    crystal = models.random_crystal(40, spin, n_atoms=3, cutoff=3.0)
    where, small = folder(repeated(crystal, matrix, shift=0.3), "super"), folder(crystal, "primitive")
    kpoints = [(0.0, 0.0, 0.0), (0.13, -0.21, 0.37), (0.5, 0.25, 0.0)]
    common = {"kpoints": kpoints, "n_electrons": 4}
    found = bands(tmp_path, folder=where, unfold=small, fermi_mesh=(1, 1, 1), **common)
    exact = np.array(bands(tmp_path, folder=small, fermi_mesh=(1, 1, 1), **common)["energies"][0])
    weights, energies = np.array(found["spectral_weights"][0]), np.array(found["energies"][0])
    assert found["unfolding"]["supercell"] == matrix
    assert found["unfolding"]["largest_displacement"] < 1e-9
    assert found["cell"] == pytest.approx(np.array(crystal.structure.cell))
    for k in range(len(kpoints)):
        # k and -k may fold onto one point: of degenerate states only the sum of the weights is defined.
        near = np.abs(energies[k][:, None] - exact[k][None]) < 1e-8
        assert weights[k] @ near == pytest.approx(np.ones(len(exact[k])), abs=1e-7)
        assert weights[k].sum() == pytest.approx(len(exact[k]), abs=1e-7)


def test_weights_of_a_perturbed_supercell_with_a_vacancy_sum_to_one(models: Any) -> None:
    crystal = models.random_crystal(41, n_atoms=3, cutoff=3.0)
    data = repeated(crystal, [[2, 0, 0], [0, 2, 0], [0, 0, 1]])
    rng = np.random.default_rng(1)
    kept = np.arange(len(data.structure)) != 4
    positions = (data.structure.positions + 0.05 * rng.standard_normal((len(data.structure), 3)))[kept]
    symbols = tuple(np.array(data.structure.symbols)[kept])
    structure = Structure(symbols, positions, data.structure.cell * 1.01)
    counts = data.basis.orbitals_per_atom(symbols)
    pairs = pairs_within(structure, 2.5)
    s = BlockSparseMatrix.from_pairs(pairs, counts)
    s = s.with_entries(0.02 * rng.standard_normal(len(s.entries))).hermitian_part()
    local = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
    rows, columns = s.entry_positions()
    s.entries[local[s.pair_of_entry] & (rows == columns)] = 1.0
    h = s.with_entries(rng.standard_normal(len(s.entries))).hermitian_part()
    matrices = bloch_matrices(RealSpaceHamiltonian(structure, data.basis, hamiltonian=h, overlap=s))

    unfolded = unfolding(structure, crystal.structure)
    assert (unfolded.n_cells, 0 < unfolded.displacement < 0.4) == (4, True)
    total = 0.0
    for shift in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)):
        k = (np.array([0.1, 0.2, 0.3]) + shift) / [2, 2, 1]
        assert unfolded.folded(k[None])[0] % 1 == pytest.approx([0.1, 0.2, 0.3])
        h_k, s_k = matrices.at(unfolded.folded(k[None])[0])
        vectors = solve_dense(h_k, s_k, vectors=True).vectors
        weights = unfolded.weights(vectors, s_k, k, matrices.atom_of_row)
        assert weights.min() > -0.2
        total = total + weights
    assert total == pytest.approx(1.0, abs=1e-10)


def test_unfolding_along_a_path_by_the_sparse_solver(models: Any, folder: Write, tmp_path: Path) -> None:
    crystal = models.replace(models.random_crystal(42, n_atoms=4), n_electrons=None)
    where = folder(repeated(crystal, [[3, 0, 0], [0, 1, 0], [0, 0, 1]]), "super")
    primitive = tmp_path / "primitive.vasp"
    write(primitive, to_ase(crystal.structure), sort=False)
    common = {"folder": where, "unfold": str(primitive), "kpath": "G-X", "points_per_segment": 2, "around": 0.0}
    sparse = bands(tmp_path, **common, num_bands=6, solver="sparse")
    dense = bands(tmp_path, **common)
    window = slice(sparse["first_band"], sparse["first_band"] + 6)
    assert np.shape(sparse["spectral_weights"]) == (1, 3, 6)
    # At the second point no two states are degenerate.
    expected = np.array(dense["spectral_weights"][0])[1, window]
    assert sparse["spectral_weights"][0][1] == pytest.approx(expected, abs=1e-6)
    assert dense["distances"][-1] == pytest.approx(np.pi / np.linalg.norm(crystal.structure.cell[0]), rel=0.2)


def test_cell_that_is_no_multiple_is_refused(models: Any, folder: Write, tmp_path: Path) -> None:
    a, b = folder(models.random_crystal(43), "a"), folder(models.graphene(), "b")
    with pytest.raises(InputError, match="no multiple of the primitive cell"):
        bands(tmp_path, folder=a, unfold=b, kpath="G-X")
    assert not (tmp_path / "bands.json").exists()


@pytest.mark.parametrize("solver", ["dense", "sparse"])
def test_wavefunctions_are_eigenvectors(models: Any, folder: Write, tmp_path: Path, solver: str) -> None:
    data = models.random_crystal(44, SpinMode.COLLINEAR, n_atoms=6)
    settings = {"folder": folder(data), "kpoints": [(0, 0, 0), (0.2, 0.1, 0)], "n_electrons": 12, "solver": solver}
    settings |= {"num_bands": 10, "wavefunctions": (1, 0), "wavefunctions_output": str(tmp_path / "w.h5")}
    bands(tmp_path, **settings, fermi_mesh=(1, 1, 1))
    matrices = bloch_matrices(data)
    with h5py.File(tmp_path / "w.h5") as file:
        c, e = file["coefficients"][()], file["energies"][()]
        assert file["bands"][()].tolist() == [5, 6]
        assert (file["l"].shape, file["symbols"][0]) == ((matrices.n_rows,), b"Mo")
        assert file["m"][:8].tolist() == [0, -1, 0, 1, -1, 0, 1, 0]
        assert file["atom"][6:8].tolist() == [0, 1]
    for channel in range(2):
        for n, k in enumerate(settings["kpoints"]):
            h, s = matrices.at(k, channel)
            assert np.abs(h @ c[channel, n] - (s @ c[channel, n]) * e[channel, n]).max() < 1e-6
            assert e[channel, n] == pytest.approx(solve_dense(h, s).energies[5:7], abs=1e-9)
    with pytest.raises(InputError, match="no such band"):
        bands(tmp_path, **{**settings, "wavefunctions": (500,)})
    if solver == "sparse":
        with pytest.raises(InputError, match="states outside the bands"):
            bands(tmp_path, **{**settings, "wavefunctions": (12,)}, fermi_mesh=(1, 1, 1))
    assert not (tmp_path / "bands.json.partial").exists()


@pytest.mark.parametrize("solver", ["dense", "sparse"])
def test_workers_give_the_same_bands(models: Any, folder: Write, tmp_path: Path, solver: str) -> None:
    settings = {"folder": folder(models.random_crystal(45, n_atoms=8)), "mesh": (2, 2, 1), "n_electrons": 20}
    settings |= {"num_bands": 6, "solver": solver, "fermi_mesh": (1, 1, 1)}
    one, two = (bands(tmp_path, **settings, workers=n) for n in (1, 2))
    assert two["energies"] == one["energies"]
    assert two["fermi_level"] == one["fermi_level"]


def killed_after(count: int, settings: dict[str, Any]) -> None:
    """Run the job and kill the process at the solution after `count` of them."""
    kloop.WORTH_KEEPING = 0.0  # these solutions take no time
    solve, calls = solvers.solve_dense, []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(0)
        if len(calls) > count:
            os.kill(os.getpid(), signal.SIGKILL)
        return solve(*args, **options)

    solvers.solve_dense = counted
    Bands.run(BandsConfig(**settings))


def test_killed_job_loses_one_kpoint(
    models: Any, folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bands.json"
    settings = {"folder": folder(models.random_crystal(46, n_atoms=4)), "mesh": (2, 2, 2), "output": str(output)}
    settings |= {"n_electrons": 10.0, "fermi_mesh": (1, 1, 3)}
    expected = bands(tmp_path, **{**settings, "output": str(tmp_path / "whole.json")})
    process = multiprocessing.get_context("fork").Process(target=killed_after, args=(5, settings))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not output.exists()
    assert len(list((tmp_path / "bands.json.partial").glob("*.npz"))) == 5

    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "bands.json.partial", moved)
    solved = []
    solve = solvers.solve_dense
    monkeypatch.setattr(solvers, "solve_dense", lambda *a, **o: solved.append(0) or solve(*a, **o))
    found = bands(tmp_path, **settings)
    assert len(solved) == len(found["kpoints"]) + 2 - 5
    for name in ("energies", "fermi", "smallest_overlap_eigenvalue"):
        assert found[name] == expected[name]
    assert not (tmp_path / "bands.json.partial").exists()

    solved.clear()
    again = bands(tmp_path, **settings, restart=str(moved))
    assert (len(solved), again["energies"]) == (len(found["kpoints"]) + 2 - 5, expected["energies"])
    assert len(list(moved.glob("*.npz"))) == 5


def test_solutions_of_another_job_are_not_taken(models: Any, folder: Write, tmp_path: Path) -> None:
    data = models.random_crystal(47, n_atoms=4)
    first = {
        "folder": folder(data, "a"),
        "mesh": (2, 1, 1),
        "output": str(tmp_path / "bands.json"),
        "n_electrons": 10.0,
    }
    process = multiprocessing.get_context("fork").Process(target=killed_after, args=(1, first))
    process.start()
    process.join(60)
    assert list((tmp_path / "bands.json.partial").glob("*.npz"))
    other = models.replace(data, hamiltonian=data.hamiltonian * 2.0)
    found = bands(tmp_path, folder=folder(other, "b"), mesh=(2, 1, 1), n_electrons=10.0)
    whole = bands(tmp_path, folder=folder(data, "c"), mesh=(2, 1, 1), n_electrons=10.0)
    assert np.array(found["energies"]) == pytest.approx(2 * np.array(whole["energies"]), abs=1e-8)


def test_ghosts_of_nearly_dependent_orbitals_are_flagged_by_both_solvers(
    models: Any, folder: Write, tmp_path: Path
) -> None:
    # A chain, and an orbital q = a p + b x beside p of site 20 with x decoupled at 0.3 eV: S has the eigenvalue 1 - a.
    n, energy, b = 41, 0.3, np.sqrt(2e-5)
    a = np.sqrt(1 - b**2)
    rng = np.random.default_rng(3)
    positions = np.zeros((n + 1, 3))
    positions[:, 0] = [*(1.5 * np.arange(n)), 30.1]
    structure = Structure(("C",) * (n + 1), positions, np.diag([1.5 * n, 9.0, 9.0]), (True, False, False))
    bonds = {(0, 0, 0, i, i): (float(rng.uniform(-0.5, 0.5)), 1.0) for i in range(n)}
    bonds |= {(int(i == n - 1), 0, 0, i, (i + 1) % n): (-1.0, 0.0) for i in range(n)}
    on_site = bonds[0, 0, 0, 20, 20][0]
    bonds[0, 0, 0, 20, n] = (a * on_site, a)
    bonds[0, 0, 0, n, n] = (a**2 * on_site + b**2 * energy, 1.0)
    bonds |= {(0, 0, 0, i, n): (-a, 0.0) for i in (19, 21)}
    where = folder(models.one_orbital(structure, bonds))
    settings = {"folder": where, "mesh": (1, 1, 1), "num_bands": 12, "around": 0.1}
    dense, sparse = (bands(tmp_path, **settings, solver=solver) for solver in ("dense", "sparse"))
    assert dense["smallest_overlap_eigenvalue"] == pytest.approx(1e-5, rel=0.05)
    assert sparse["smallest_overlap_eigenvalue"] == pytest.approx(1e-5, rel=0.5)
    ((_, _, ghost),) = dense["ghost_states"]
    assert dense["energies"][0][0][ghost] == pytest.approx(energy, abs=1e-6)
    assert sparse["energies"][0] == pytest.approx(np.array(dense["energies"][0]), abs=1e-6)
    assert sparse["ghost_states"] == dense["ghost_states"]
    projected = bands(tmp_path, **settings, solver="dense", overlap_threshold=1e-4)
    assert (projected["ghost_states"], projected["dropped_states"]) == ([], 1)
