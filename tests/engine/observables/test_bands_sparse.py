"""Factorisations, Lanczos, and the Fermi level by counting states, against dense diagonalisation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.kpoints import gamma_mesh
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.linalg.lanczos import shift_invert
from aiida_deeph.engine.linalg.multifrontal import factorise, peak_bytes
from aiida_deeph.engine.linalg.slices import states_between
from aiida_deeph.engine.linalg.sparse import SparseSolver, smallest_overlap
from aiida_deeph.engine.linalg.symbolic import build_fronts
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.observables.fermi import fermi_level
from aiida_deeph.engine.observables.fermi_sparse import fermi_by_inertia

KPOINTS = [(0.0, 0.0, 0.0), (0.21, -0.1, 0.37)]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("k", KPOINTS)
@pytest.mark.parametrize("size", [(12, 4.0, 1.0), (80, 4.0, 10.0)])
def test_factorisation_solves_and_counts(
    models: Any, k: tuple[float, ...], single: bool, size: tuple[int, float, float]
) -> None:
    matrices = bloch_matrices(models.random_crystal(20, n_atoms=size[0], cutoff=size[1], stretch=size[2]))
    h, s = matrices.at(k)
    energies = solve_dense(h, s).energies
    fronts = build_fronts(matrices.indptr, matrices.indices, matrices.atom_of_row)
    assert sorted(np.concatenate([front.rows[: front.n_own] for front in fronts])) == list(range(matrices.n_rows))
    for sigma in (-0.3, 0.4):  # the same fronts serve both
        factors = factorise(fronts, h.indptr, h.indices, h.data - sigma * s.data, single=single)
        right = np.random.default_rng(0).standard_normal((h.shape[0], 3))
        assert np.abs((h - sigma * s) @ factors.solve(right) - right).max() < 1e-7
        assert factors.n_negative == np.count_nonzero(energies < sigma)
        assert factors.n_bytes <= peak_bytes(fronts, complex_values=any(k)) / (2 if single else 1)


def test_many_fronts_and_blocks(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiida_deeph.engine.linalg.multifrontal.BLOCK", 3)
    monkeypatch.setattr("aiida_deeph.engine.linalg.multifrontal.LATER_BLOCK", 5)
    matrices = bloch_matrices(models.random_crystal(28, n_atoms=60, cutoff=3.0, stretch=12))
    h, s = matrices.at(KPOINTS[1])
    fronts = build_fronts(matrices.indptr, matrices.indices, matrices.atom_of_row, leaf=2)
    assert len(fronts) > 10
    factors = factorise(fronts, h.indptr, h.indices, h.data - 0.2 * s.data)
    right = np.random.default_rng(0).standard_normal(h.shape[0])
    assert np.abs((h - 0.2 * s) @ factors.solve(right) - right).max() < 1e-7
    assert factors.n_negative == np.count_nonzero(solve_dense(h, s).energies < 0.2)


@pytest.mark.parametrize("spin", list(SpinMode))
@pytest.mark.parametrize("k", KPOINTS)
def test_sparse_equals_dense(models: Any, spin: SpinMode, k: tuple[float, ...]) -> None:
    matrices = bloch_matrices(models.random_crystal(21, spin, n_atoms=10))
    solver = SparseSolver(matrices)
    for channel in range(matrices.n_channels):
        h, s = matrices.at(k, channel)
        exact = solve_dense(h, s).energies
        found = solver.around(k, 0.1, 7, channel=channel)
        first = found.first_band
        assert first <= np.count_nonzero(exact < 0.1) <= first + 7
        assert np.abs(found.energies - exact[first : first + 7]).max() < 1e-9
        assert np.abs(h @ found.vectors - (s @ found.vectors) * found.energies).max() < 1e-6
        # Bands by their number, although the energy lies beside them.
        for first in (0, 5, matrices.n_rows - 4):
            found = solver.around(k, 0.1, 4, channel=channel, first=first)
            assert np.abs(found.energies - exact[first : first + 4]).max() < 1e-9


def test_degenerate_states_are_all_found() -> None:
    # Levels 1, 1, 1, 2, 2, 3, 4, ...: multiplicity beyond what a single vector could see.
    energies = np.array([1.0, 1.0, 1.0, 2.0, 2.0, *range(3, 60)])
    h, s = sp.diags(energies).tocsr(), sp.identity(len(energies), format="csr")
    found, vectors = shift_invert(lambda b: b / (energies - 1.5)[:, None], h, s, 1.5, 3, 3, block=4)
    assert found == pytest.approx([1, 1, 1, 2, 2, 3], abs=1e-12)
    assert np.abs(vectors.T @ vectors - np.eye(6)).max() < 1e-12


def test_shift_on_a_level(models: Any) -> None:
    matrices = bloch_matrices(models.random_crystal(22, n_atoms=10))
    exact = solve_dense(*matrices.at(KPOINTS[1])).energies
    found = SparseSolver(matrices).around(KPOINTS[1], float(exact[20]), 6, first=18)
    assert np.abs(found.energies - exact[18:24]).max() < 1e-9


def test_indefinite_overlap_is_refused(models: Any) -> None:
    data = models.random_crystal(23, n_atoms=10)
    data = models.replace(data, overlap=data.overlap * -1.0)
    with pytest.raises(DataError, match="not positive definite"):
        SparseSolver(bloch_matrices(data)).around((0, 0, 0), 0.0, 4)


def test_smallest_overlap_without_a_factorisation(models: Any) -> None:
    s = bloch_matrices(models.random_crystal(24, n_atoms=12)).at(KPOINTS[1])[1]
    assert smallest_overlap(s) == pytest.approx(np.linalg.eigvalsh(s.toarray())[0], rel=2e-2)


def test_fill_of_a_ring_is_linear(models: Any) -> None:
    sizes = []
    for n_atoms in (400, 800):
        matrices = bloch_matrices(models.ssh_chain(n_atoms, -2.9, -2.5))
        fronts = build_fronts(matrices.indptr, matrices.indices, matrices.atom_of_row)
        sizes.append(sum(front.n_own * len(front.rows) for front in fronts))
    assert sizes[1] < 2.3 * sizes[0]
    assert sizes[1] < 800 * 30  # a full matrix has 800 * 400


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.COLLINEAR])
def test_fermi_level_by_counting(models: Any, spin: SpinMode) -> None:
    matrices = bloch_matrices(models.random_crystal(25, spin, n_atoms=30, cutoff=3.0, stretch=5))
    kpoints, weights = gamma_mesh((2, 1, 1))
    dense = np.array([[solve_dense(*matrices.at(k, c)).energies for k in kpoints] for c in range(matrices.n_channels)])
    for n_electrons in (90.0, 91.0):
        exact = fermi_level(dense, weights, n_electrons, spin.electrons_per_state, 0.002)
        found = fermi_by_inertia(
            SparseSolver(matrices), kpoints, weights, n_electrons, spin.electrons_per_state, 0.002, start=2.0
        )
        assert found.insulator == exact.insulator
        assert found.level == pytest.approx(exact.level, abs=1e-7)


def test_insulating_chain_has_its_level_in_the_gap(models: Any) -> None:
    matrices = bloch_matrices(models.ssh_chain(600, -2.9, -2.3))
    found = fermi_by_inertia(SparseSolver(matrices), np.zeros((1, 3)), np.ones(1), 600, 2, 0.02585, start=-4.0)
    assert found.insulator
    assert (found.level, found.gap) == pytest.approx((0, 1.2), abs=1e-6)


def test_bands_job_dense_and_sparse(models: Any, folder: Callable[..., str], tmp_path: Path) -> None:
    where = folder(models.random_crystal(26, n_atoms=16, cutoff=3.5))
    results = []
    for solver in ("dense", "sparse"):
        config = BandsConfig(
            folder=where,
            kpath="G-X",
            points_per_segment=3,
            num_bands=8,
            n_electrons=60,
            fermi_mesh=(2, 2, 1),
            solver=solver,
            output=str(tmp_path / f"{solver}.json"),
        )
        results.append(json.loads(Bands.run(config).read_text()))
    dense, sparse = results
    assert np.abs(np.array(dense["energies"]) - sparse["energies"]).max() < 1e-9
    assert dense["fermi_level"] == pytest.approx(sparse["fermi_level"], abs=1e-7)
    assert dense["first_band"] == sparse["first_band"]
    assert sparse["solver"] == "sparse"


def test_factorisation_that_does_not_fit_is_refused(
    models: Any, folder: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiida_deeph.engine.system.available_memory", lambda: 1000)
    config = BandsConfig(
        folder=folder(models.random_crystal(27)),
        mesh=(1, 1, 1),
        num_bands=4,
        around=0.0,
        solver="sparse",
        output=str(tmp_path / "b.json"),
    )
    with pytest.raises(DataError, match=r"not enough memory.*sparse factorisation of 23 orbitals"):
        Bands.run(config)
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("per_side", [3, 11, 400])
@pytest.mark.parametrize("start", [None, -1.4])
def test_slices_hold_every_state_once(models: Any, per_side: int, start: float | None) -> None:
    matrices = bloch_matrices(models.random_crystal(29, n_atoms=30, cutoff=3.0, stretch=5))
    exact = solve_dense(*matrices.at(KPOINTS[1])).energies
    low, high = -1.5, 0.8
    seen: list[float] = []

    def observe(energies: Any, vectors: Any) -> None:
        h, s = matrices.at(KPOINTS[1])
        assert np.abs(h @ vectors - (s @ vectors) * energies).max() < 1e-5
        seen.extend(energies)

    found, first = states_between(
        SparseSolver(matrices), KPOINTS[1], low, high, start=start, per_side=per_side, observe=observe
    )
    assert first == np.count_nonzero(exact < low)
    assert found == pytest.approx(exact[(exact > low) & (exact < high)], abs=1e-9)
    assert sorted(seen) == pytest.approx(found, abs=1e-12)


def test_empty_slice(models: Any) -> None:
    solver = SparseSolver(bloch_matrices(models.ssh_chain(200, -2.9, -2.0)))
    found, first = states_between(solver, (0, 0, 0), -0.3, 0.4)
    assert (len(found), first) == (0, 100)
