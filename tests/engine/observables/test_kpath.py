"""Special points, paths and files of k-points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_deeph.engine.domain.kpath import parse_path, path_kpoints, special_points
from aiida_deeph.engine.domain.kpoints import check_directions, periodic_directions, read_kpoints
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense

LAYER = (True, True, False)


def cartesian(cell: np.ndarray, k: np.ndarray) -> np.ndarray:
    return k @ (2 * np.pi * np.linalg.inv(cell).T)


@pytest.mark.parametrize(
    "transform", [[[1, 0], [0, 1]], [[1, 0], [1, 1]], [[1, 1], [0, 1]], [[0, 1], [1, 0]], [[2, 1], [1, 1]]]
)
def test_hexagonal_points_do_not_depend_on_the_cell(transform: list[list[int]]) -> None:
    a = 2.46
    primitive = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 15.0]])
    cell = primitive.copy()
    cell[:2] = np.array(transform) @ primitive[:2]
    points = special_points(cell, LAYER)
    k, m = (cartesian(cell, points[name]) for name in ("K", "M"))
    assert np.linalg.norm(k) == pytest.approx(4 * np.pi / (3 * a))
    assert np.linalg.norm(m) == pytest.approx(2 * np.pi / (np.sqrt(3) * a))
    assert np.linalg.norm(k - m) == pytest.approx(2 * np.pi / (3 * a))  # M lies on the edge that ends in K
    assert abs(k[2]) + abs(m[2]) < 1e-12


@pytest.mark.parametrize("angle", [60, 120])
def test_bands_of_graphene_touch_at_k_in_both_cells(models: Any, angle: int) -> None:
    data = models.graphene(angle=angle)
    path = path_kpoints("G-K-M-G", data.structure.cell, periodic_directions(data), 10)
    assert path.labels == ((0, "G"), (10, "K"), (20, "M"), (30, "G"))
    matrices = bloch_matrices(data)
    energies = np.array([solve_dense(*matrices.at(k)).energies for k in path.fractional])
    gaps = energies[:, 1] - energies[:, 0]
    assert gaps[10] == pytest.approx(0, abs=1e-9)
    assert gaps[20] == pytest.approx(2.7 / 0.9 + 2.7 / 1.1, abs=1e-9)
    assert (np.delete(gaps, 10) > 0.1).all()


def test_square_rectangular_and_oblique() -> None:
    square = special_points(np.diag([3.0, 3.0, 20.0]), LAYER)
    assert square["X"].tolist() == [0.5, 0, 0]
    assert square["M"].tolist() == [0.5, 0.5, 0]
    for cell in (np.diag([3.0, 5.0, 20.0]), np.diag([5.0, 3.0, 20.0])):
        points = special_points(cell, LAYER)
        assert (points["X"].tolist(), points["Y"].tolist()) == ([0.5, 0, 0], [0, 0.5, 0])
        assert points["S"].tolist() == [0.5, 0.5, 0]
    oblique = special_points(np.array([[3.0, 0, 0], [1.0, 4.0, 0], [0, 0, 20.0]]), LAYER)
    assert set(oblique) == {"G", "X", "Y", "C"}


def test_layers_and_chains_along_any_axis() -> None:
    assert special_points(np.diag([9.0, 9.0, 2.5]), (False, False, True))["X"].tolist() == [0, 0, 0.5]
    assert special_points(np.diag([3.0, 20.0, 3.0]), (True, False, True))["M"].tolist() == [0.5, 0, 0.5]


def test_crystals() -> None:
    fcc = 1.8 * (np.ones((3, 3)) - np.eye(3))
    points = special_points(fcc, (True, True, True))
    for name, length in (("X", 2 * np.pi / 3.6), ("L", np.sqrt(3) * np.pi / 3.6)):
        assert np.linalg.norm(cartesian(fcc, points[name])) == pytest.approx(length)


def test_only_directions_with_dispersion_count(models: Any) -> None:
    chain = models.ssh_chain(4, -2.9, -2.5)
    assert periodic_directions(chain) == (True, False, False)
    structure = models.replace(chain.structure, pbc=(True, True, True))
    assert periodic_directions(models.replace(chain, structure=structure)) == (True, False, False)


@pytest.mark.parametrize("path", ["G-A", "G-K", "X-Q|G-X"])
def test_point_outside_the_lattice(path: str) -> None:
    with pytest.raises(InputError, match=r"expected points G, X\b"):
        path_kpoints(path, np.diag([3.0, 9.0, 9.0]), (True, False, False), 5)


def test_names_of_gamma_and_broken_paths() -> None:
    assert parse_path("\u0393-K | GAMMA - M") == [["G", "K"], ["G", "M"]]
    for path in ("G", "", "G--K", "G-K|M"):
        with pytest.raises(InputError, match="cannot be read"):
            parse_path(path)


def test_distances_skip_breaks() -> None:
    cell = np.diag([2.0, 2.0, 20.0])
    path = path_kpoints("G-X|M-G", cell, LAYER, 4)
    distance = path.distances(cell)
    assert path.labels == ((0, "G"), (4, "X"), (5, "M"), (9, "G"))
    assert distance[4] == distance[5] == pytest.approx(np.pi / 2)
    assert distance[-1] == pytest.approx(np.pi / 2 * (1 + np.sqrt(2)))


@pytest.mark.parametrize(
    "text",
    [
        "[[0, 0, 0], [0.5, 0, 0]]",
        '{"kpoints": [[0, 0, 0], [0.5, 0, 0]], "labels": [[0, "G"], [1, "X"]]}',
        "# my path\n0 0 0 G\n\n0.5 0 0 X  # zone edge\n",
    ],
)
def test_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k.txt"
    path.write_text(text)
    points = read_kpoints(path)
    assert points.fractional.tolist() == [[0, 0, 0], [0.5, 0, 0]]
    assert points.labels == (() if text.startswith("[") else ((0, "G"), (1, "X")))


@pytest.mark.parametrize("text", ["", "0 0\n", "[[0, 0, NaN]]", "{}", "a b c", "[]"])
def test_files_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"k-points cannot be read.*k\.txt"):
        read_kpoints(path)


def test_components_along_vacuum_are_refused() -> None:
    with pytest.raises(InputError, match="k-point 1"):
        check_directions(np.array([[0.1, 0, 0], [0, 0, 0.5]]), LAYER, "kpoints")
    check_directions(np.array([[0.1, 0.5, 0.0]]), LAYER, "kpoints")
