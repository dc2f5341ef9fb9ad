"""Two Hamiltonians of one structure: gauge, bands, velocities, and first-order perturbation theory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.observables.compare import CompareConfig, Comparison, gauge_shift, gradient

Write = Callable[..., str]


def compare(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    return json.loads(Comparison.run(CompareConfig(output=str(tmp_path / "compare.json"), **settings)).read_text())


def noisy(models: Any, data: RealSpaceHamiltonian, size: float, shift: float = 0.0) -> RealSpaceHamiltonian:
    """H with errors, and its zero of energy moved."""
    h = data.hamiltonian
    noise = h.with_entries(size * np.random.default_rng(2).standard_normal(len(h.entries)).astype(h.entries.dtype))
    if data.spin is SpinMode.COLLINEAR:
        noise = noise.with_entries(np.where(h.entries == 0, 0, noise.entries))
    return models.replace(data, hamiltonian=h + noise.hermitian_part() + shift * data.overlap_with_spin)


@pytest.mark.parametrize("spin", list(SpinMode))
def test_small_errors_are_explained_and_the_gauge_is_removed(
    models: Any, folder: Write, tmp_path: Path, spin: SpinMode
) -> None:
    data = models.random_crystal(60, spin)
    assert gauge_shift(noisy(models, data, 0.0, 1.7), data) == pytest.approx(1.7)
    ours, theirs = folder(noisy(models, data, 1e-3, 1.7), "a"), folder(data, "b")
    common = {"folder": ours, "reference": theirs, "mesh": (2, 1, 1), "window": (-2, 2), "n_electrons": 24.0}
    found = compare(tmp_path, **common)
    assert found["gauge_shift"] == pytest.approx(1.7, abs=1e-3)
    assert 0 < found["bands"]["mean"] < 0.02
    assert found["bands"]["mean"] <= found["bands"]["max"]
    assert found["perturbation"]["expected_mean"] == pytest.approx(found["bands"]["mean"], rel=0.1)
    assert found["perturbation"]["unexplained_mean"] < 0.1 * found["bands"]["mean"]
    assert found["perturbation"]["explained"]
    assert 0 < found["velocities"]["mean"] < 0.1
    matrix = found["matrix"]
    assert matrix["mean"] == pytest.approx(np.sqrt(1 / np.pi) * 1e-3, rel=0.5)  # a mean of two, and zeros
    assert set(matrix["by_elements"]) == {"Mo Mo", "Mo S", "S Mo", "S S"}
    assert {"Mo p-S s", "S s-S s"} <= set(matrix["by_shells"])
    assert max(entry["max"] for entry in matrix["by_distance"].values()) == matrix["max"]
    raw = compare(tmp_path, **common, align="none")
    assert (raw["gauge_shift"], raw["bands"]["mean"]) == (0.0, pytest.approx(1.7, abs=0.05))


def test_overlap_of_another_calculation_shows(models: Any, folder: Write, tmp_path: Path) -> None:
    data = models.random_crystal(61)
    s = data.overlap
    local = (s.atom_pairs[:, :3] == 0).all(axis=1) & (s.atom_pairs[:, 3] == s.atom_pairs[:, 4])
    wrong = s.with_entries(np.where(local[s.pair_of_entry], s.entries, -8 * s.entries))
    common = {"reference": folder(data, "b"), "mesh": (1, 1, 1), "window": (-3, 3), "n_electrons": 24.0}
    found = compare(tmp_path, folder=folder(models.replace(data, overlap=wrong), "a"), **common)
    assert found["matrix"]["overlap_max"] > 0.05
    assert found["perturbation"]["unexplained_mean"] > 1e-3
    same = compare(tmp_path, folder=folder(data, "c"), **common)
    assert (same["bands"]["max"], same["perturbation"]["explained"]) == (0.0, True)


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_gradient_is_the_slope_of_the_bands(models: Any, spin: SpinMode) -> None:
    matrices = bloch_matrices(models.random_crystal(62, spin))
    k, step = np.array([0.11, -0.23, 0.31]), 1e-5
    states = solve_dense(*matrices.at(k), vectors=True)
    chosen = np.array([2, 7, 11])
    slopes = gradient(matrices, k, 0, states, chosen)
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        ahead, behind = (solve_dense(*matrices.at(k + sign * shift)).energies[chosen] for sign in (1, -1))
        assert slopes[:, axis] == pytest.approx((ahead - behind) / (2 * step), abs=1e-5)


def test_command_and_wrong_use(models: Any, folder: Write, tmp_path: Path) -> None:
    data = models.graphene()
    where = folder(data, "a")
    arguments = ["compare", where, where, "--kpath", "G-K-M", "--output", str(tmp_path / "c.json")]
    run = CliRunner().invoke(engine, arguments)
    assert run.exit_code == 0, run.output
    assert "explained by perturbation theory" in run.output
    with pytest.raises(InputError, match="two different systems"):
        compare(tmp_path, folder=folder(models.random_crystal(63), "b"), reference=where, mesh=(1, 1, 1))
    moved = models.replace(data.structure, positions=data.structure.positions + 0.1 * np.eye(3)[0])
    with pytest.raises(InputError, match="two different structures"):
        compare(tmp_path, folder=folder(models.replace(data, structure=moved), "c"), reference=where, mesh=(1, 1, 1))
    with pytest.raises(InputError, match="energy window without states"):
        compare(tmp_path, folder=where, reference=where, mesh=(1, 1, 1), window=(50, 60))
    assert not (tmp_path / "compare.json").exists()
