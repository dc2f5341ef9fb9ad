"""Densities of states and Fermi levels by the kernel polynomial method, against exact diagonalisation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.linalg.kpm import gaussian_sum, level_weights, local_moments, random_moments, spectral_interval
from aiida_deeph.engine.linalg.sparse import SparseSolver
from aiida_deeph.engine.observables.dos import DensityOfStates, DosConfig

KPOINTS = [(0.0, 0.0, 0.0), (0.1, 0.27, -0.4)]
Write = Callable[..., str]


def dos(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    return json.loads(DensityOfStates.run(DosConfig(output=str(tmp_path / "dos.json"), **settings)).read_text())


@pytest.mark.parametrize("spin", list(SpinMode))
@pytest.mark.parametrize("k", KPOINTS)
def test_moments_equal_those_of_the_eigenvalues(models: Any, spin: SpinMode, k: tuple[float, ...]) -> None:
    matrices = bloch_matrices(models.random_crystal(30, spin, n_atoms=8))
    h, s = matrices.at(k)
    exact = solve_dense(h, s, vectors=True)
    factors = SparseSolver(matrices).factor_overlap(s)
    interval = spectral_interval(h, s, factors)
    assert interval.centre - interval.half_width < exact.energies[0]
    assert interval.centre + interval.half_width > exact.energies[-1]
    assert interval.half_width < 0.6 * (exact.energies[-1] - exact.energies[0]) + 0.1

    order = np.arange(40)[:, None]
    chebyshev = np.cos(order * np.arccos((exact.energies - interval.centre) / interval.half_width))
    shares = (exact.vectors.conj() * (s @ exact.vectors)).real
    local = local_moments(h, s, factors, interval, 40, np.array([0, 7, 3]))
    assert local == pytest.approx(chebyshev @ shares[[0, 7, 3]].T, abs=1e-10)

    groups = sp.csr_matrix(np.arange(h.shape[0])[None] < np.array([[9], [h.shape[0]]]), dtype=np.float64)
    moments = random_moments(h, s, factors, interval, 40, 400, groups)
    assert moments.total.shape == (400, 40)
    assert moments.total[:, 0] == pytest.approx(h.shape[0])
    error = moments.total.std(axis=0, ddof=1)[1:] / 20
    assert (np.abs(moments.total.mean(axis=0) - chebyshev.sum(axis=1))[1:] < 5 * error).all()
    assert error.max() < 0.05 * h.shape[0]
    assert moments.groups[:, 1] == pytest.approx(moments.total.mean(axis=0))
    assert moments.groups[:, 0] == pytest.approx(chebyshev @ shares[:9].sum(axis=0), abs=1.5)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("k", KPOINTS)
def test_inverse_pencil_resolves_the_window_with_fewer_moments(models: Any, k: tuple[float, ...], single: bool) -> None:
    matrices = bloch_matrices(models.random_crystal(34, n_atoms=8))
    h, s = matrices.at(k)
    exact = solve_dense(h, s, vectors=True)
    bottom, top = exact.energies[[0, -1]]
    highest, width = bottom + 0.2 * (top - bottom), 0.05
    pole = bottom - (highest - bottom)
    shifted = sp.csr_matrix((h.data - pole * s.data, h.indices, h.indptr))
    exact_overlap = s
    if single:
        dtype = np.complex64 if np.iscomplexobj(h) else np.float32
        s, shifted = s.astype(dtype), shifted.astype(dtype)
    factors = SparseSolver(matrices).factor(shifted.data)
    assert factors.solve(np.ones(h.shape[0])).dtype == shifted.dtype
    interval = spectral_interval(s, shifted, factors, pole=pole)
    n = interval.n_moments(width, highest)
    plain = spectral_interval(h, exact_overlap, SparseSolver(matrices).factor_overlap(exact_overlap))
    assert n < plain.n_moments(width)
    rows = np.arange(h.shape[0])
    local = local_moments(s, shifted, factors, interval, n, rows)
    grid = np.linspace(bottom - 0.3, highest, 300)
    shares = (exact.vectors.conj() * (exact_overlap @ exact.vectors)).real
    expected = gaussian_sum(grid, exact.energies, shares.T, width)
    found = gaussian_sum(grid, interval.levels(n), level_weights(local), width)
    assert found == pytest.approx(expected, abs=2e-3)
    error = random_moments(s, shifted, factors, interval, n, 200).total.mean(axis=0) - local.sum(axis=1)
    assert np.abs(error).max() < 0.05 * h.shape[0]


def test_products_by_blocks_change_nothing(models: Any) -> None:
    matrices = bloch_matrices(models.random_crystal(36, n_atoms=8))
    h, s = matrices.at(KPOINTS[1])
    factors = SparseSolver(matrices).factor_overlap(s)
    interval = spectral_interval(h, s, factors)
    atom_of_row = np.arange(h.shape[0]) // 5
    assert h.shape[0] == 35
    for n_vectors in (3, 6):
        common = (h, s, factors, interval, 30, n_vectors)
        blocks = random_moments(*common, atom_of_row=atom_of_row).total
        assert blocks == pytest.approx(random_moments(*common).total, abs=1e-9)


@pytest.mark.slow
def test_single_precision_is_what_large_systems_get(
    models: Any, folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {
        "folder": folder(models.ssh_chain(400, -1.9, -1.2)),
        "method": "kpm",
        "broadening": 0.2,
        "window": (-4, 4),
    }
    double = dos(tmp_path, **common)
    monkeypatch.setattr("aiida_deeph.engine.observables.moments.SINGLE_LIMIT", 300)
    single = dos(tmp_path, **common)
    assert (double["precision"], single["precision"]) == ("double", "single")
    assert dos(tmp_path, **common, precision="double")["precision"] == "double"
    assert single["fermi_level"] == pytest.approx(double["fermi_level"], abs=1e-6)
    error = np.hypot(single["dos_error"], double["dos_error"])
    assert (np.abs(np.subtract(single["dos"], double["dos"])) < 5 * error + 0.01 * max(double["dos"])).all()


def test_large_systems_get_moments_of_a_window(
    models: Any, folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiida_deeph.engine.observables.dos.DENSE_LIMIT", 50)
    found = dos(tmp_path, folder=folder(models.ssh_chain(400, -1.9, -1.2)), broadening=0.2)
    assert found["method"] == "kpm"
    assert [found["energies"][n] - found["fermi_level"] for n in (0, -1)] == pytest.approx([-10.0, 5.0])
    assert np.trapz(found["dos"], found["energies"]) == pytest.approx(800, rel=1e-3)


def test_result_does_not_depend_on_the_workers(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.random_crystal(35, n_atoms=8))
    common = {
        "folder": where,
        "mesh": (1, 1, 1),
        "method": "kpm",
        "broadening": 0.3,
        "n_vectors": 5,
        "seed": 3,
        "counted": False,
    }
    one, two = (dos(tmp_path, **common, workers=n) for n in (1, 2))
    assert two["dos"] == pytest.approx(one["dos"], abs=1e-9)
    assert dos(tmp_path, **{**common, "seed": 4})["dos"] != pytest.approx(one["dos"], abs=1e-3)


def test_pseudo_levels_broaden_like_eigenvalues(models: Any) -> None:
    matrices = bloch_matrices(models.random_crystal(31, n_atoms=8))
    h, s = matrices.at(KPOINTS[1])
    energies, width = solve_dense(h, s).energies, 0.07
    interval = spectral_interval(h, s, SparseSolver(matrices).factor_overlap(s))
    n = interval.n_moments(width)
    moments = np.cos(np.arange(n)[:, None] * np.arccos((energies - interval.centre) / interval.half_width)).sum(axis=1)
    grid = np.linspace(energies[0] - 1, energies[-1] + 1, 700)
    exact = gaussian_sum(grid, energies, np.ones(len(energies)), width)
    assert level_weights(moments).sum() == pytest.approx(len(energies))
    assert np.abs(gaussian_sum(grid, interval.levels(n), level_weights(moments), width) - exact).max() < 1e-3


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.COLLINEAR])
def test_job_agrees_with_exact_diagonalisation(models: Any, folder: Write, tmp_path: Path, spin: SpinMode) -> None:
    where = folder(models.random_crystal(32, spin, n_atoms=24, cutoff=3.0, stretch=4))
    common = {"folder": where, "mesh": (2, 1, 1), "window": (-3, 3), "broadening": 0.3, "n_points": 61, "atoms": (3,)}
    exact = dos(tmp_path, **common, method="exact")
    found = dos(tmp_path, **common, method="kpm", n_vectors=300, counted=False)
    assert (found["method"], found["n_vectors"]) == ("kpm", 300)
    fermi = found["fermi"]
    assert 0 < fermi["uncertainty"] < 0.1
    assert found["fermi_level"] == pytest.approx(exact["fermi_level"], abs=4 * fermi["uncertainty"])
    assert fermi["gap"] is None
    assert found["smallest_overlap_eigenvalue"] == pytest.approx(exact["smallest_overlap_eigenvalue"], rel=1e-2)
    grid = np.array(exact["energies"])

    def curve(result: dict[str, Any], *names: str) -> np.ndarray:
        for name in names:
            result = result[name]
        return np.interp(grid, found["energies"], np.array(result)) if result is not exact else np.array(result)

    error = np.array(found["dos_error"])
    assert error.max() < 0.06 * max(exact["dos"])
    assert (np.abs(curve(found, "dos") - exact["dos"]) < 5 * error + 0.02 * max(exact["dos"])).all()
    assert curve(found, "dos_by_atom", "3") == pytest.approx(exact["dos_by_atom"]["3"], abs=0.05)
    for element, shells in exact["dos_by_shell"].items():
        assert curve(found, "dos_by_element", element) == pytest.approx(exact["dos_by_element"][element], abs=2.0)
        assert np.sum(list(found["dos_by_shell"][element].values()), axis=0) == pytest.approx(
            found["dos_by_element"][element]
        )
        assert set(shells) == {"s", "p"}


def test_level_of_an_insulator_is_counted_into_the_gap(models: Any, folder: Write, tmp_path: Path) -> None:
    common = {"folder": folder(models.ssh_chain(400, -2.9, -2.0)), "method": "kpm", "broadening": 0.2, "n_vectors": 8}
    found = dos(tmp_path, **common)
    assert (found["fermi"]["insulator"], found["fermi_level"]) == (True, pytest.approx(0.0, abs=1e-6))
    assert found["fermi"]["gap"] == pytest.approx(1.8, abs=1e-6)
    rough = dos(tmp_path, **common, counted=False)
    assert rough["fermi_level"] == pytest.approx(found["fermi"]["by_moments"])
    assert abs(rough["fermi_level"]) < 3 * rough["fermi"]["uncertainty"] + 0.9


def test_wrong_use_is_one_line(models: Any, folder: Write, tmp_path: Path) -> None:
    data = models.random_crystal(33, n_atoms=6)
    with pytest.raises(InputError, match="no such atom"):
        dos(tmp_path, folder=folder(data), atoms=(6,))
    with pytest.raises(InputError, match="electrons do not fit"):
        dos(tmp_path, folder=folder(data), method="kpm", n_electrons=1000)
    where = folder(models.replace(data, overlap=data.overlap * -1.0), "negative")
    with pytest.raises(DataError, match="not positive definite"):
        dos(tmp_path, folder=where, method="kpm")
    assert not (tmp_path / "dos.json").exists()
