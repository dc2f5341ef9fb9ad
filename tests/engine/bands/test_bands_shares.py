"""The k-points of one job split over jobs and over ranks: the same result as in one piece, and nothing solved twice."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.linalg import solvers
from aiida_deeph.engine.observables import bands as run
from aiida_deeph.engine.observables import ranks
from aiida_deeph.engine.observables.bands import run_bands
from aiida_deeph.engine.observables.config import BandsConfig
from aiida_deeph.engine.observables.ranks import own_rank, wait_for

Write = Callable[..., str]
COMPARED = ("energies", "kpoints", "labels", "distances", "fermi", "first_band", "n_occupied", "ghost_states")
WINDOW = {"num_bands": 4, "solver": "sparse"}


def bands(tmp_path: Path, name: str, **settings: Any) -> dict[str, Any]:
    config = BandsConfig(**{"output": str(tmp_path / name), "kpath": "G-X-S", "points_per_segment": 3, **settings})
    return json.loads(run_bands(config).read_text())


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every k-point that is solved."""
    count: list[int] = []
    for module, name in ((solvers, "solve_dense"), (solvers.SparseSolver, "around")):
        solve = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, solve=solve, **o: count.append(0) or solve(*a, **o))
    return count


@pytest.fixture
def crystal(models: Any, folder: Write) -> str:
    return folder(models.random_crystal(70, SpinMode.COLLINEAR, n_atoms=6))


@pytest.mark.parametrize("settings", [{}, WINDOW])
def test_shares_join_to_the_whole(
    models: Any, folder: Write, tmp_path: Path, solved: list[int], settings: dict[str, Any]
) -> None:
    where = folder(models.random_crystal(70, n_atoms=8))
    common = {"folder": where, "kpath": None, "kpoints": [(0.02 * n, 0.1, 0) for n in range(7)], **settings}
    common |= {"labels": ((0, "A"), (6, "B")), "n_electrons": 20.0, "fermi_mesh": (1, 1, 2)}
    whole = bands(tmp_path, "whole.json", **common)
    n_whole = len(solved)
    solved.clear()
    parts = [bands(tmp_path, f"part{n}.json", **common, share=(n, 3)) for n in range(3)]
    assert [part["n_solved"] for part in parts] == [3, 2, 2]
    assert all(part["n_kpoints"] == 7 and "energies" not in part for part in parts)
    if not settings:
        assert len(solved) == n_whole  # the mesh of the Fermi level is shared, too
    solved.clear()
    partial = [str(tmp_path / f"part{n}.json.partial") for n in range(3)]
    joined = bands(tmp_path, "joined.json", **common, restart=partial)
    assert not solved
    assert {name: joined[name] for name in COMPARED} == {name: whole[name] for name in COMPARED}
    assert not (tmp_path / "joined.json.partial").exists()
    # A share that got lost is computed.
    joined = bands(tmp_path, "again.json", **common, restart=[*partial[:2], str(tmp_path / "nowhere")])
    assert joined["energies"] == whole["energies"] and len(solved) >= 2


def as_rank(rank: int, size: int, settings: dict[str, Any]) -> None:
    os.environ |= {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(size)}
    run_bands(BandsConfig(**settings))


def test_ranks_share_the_kpoints(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.random_crystal(71, SpinMode.COLLINEAR, n_atoms=4))
    common = {"folder": where, "mesh": (3, 2, 1), "n_electrons": 10.0, "fermi_mesh": (1, 1, 3)}
    whole = bands(tmp_path, "whole.json", kpath=None, **common)
    settings = {**common, "output": str(tmp_path / "bands.json")}
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=as_rank, args=(n, 3, settings)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = json.loads((tmp_path / "bands.json").read_text())
    assert {name: found[name] for name in COMPARED} == {name: whole[name] for name in COMPARED}
    assert sorted(path.name for path in tmp_path.glob("*.json*")) == ["bands.json", "whole.json"]


def test_kpoints_of_a_lost_rank_are_computed_by_the_first(
    crystal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solved: list[int]
) -> None:
    common = {"folder": crystal, "kpath": None, "mesh": (2, 2, 1), "n_electrons": 10.0}
    whole = bands(tmp_path, "whole.json", **common)
    n_whole = len(solved)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    solved.clear()
    settings = {**common, "points_per_segment": 3, "output": str(tmp_path / "b.json")}
    run_bands(BandsConfig(**settings))
    assert len(solved) == n_whole // 2 and not (tmp_path / "b.json").exists()

    # That rank's solutions are taken over; without them the first one does all.
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert bands(tmp_path, "b.json", **common)["energies"] == whole["energies"]
    assert len(solved) == n_whole
    monkeypatch.setattr(run, "PATIENCE", 0.0)
    solved.clear()
    assert bands(tmp_path, "c.json", **common)["energies"] == whole["energies"]
    assert len(solved) == n_whole


def test_waiting_ends_with_the_last_or_without_news(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / ranks.FINISHED).touch()
    assert not wait_for(folders, 0.2)
    (folders[1] / ranks.FINISHED).touch()
    assert wait_for(folders, 0.2)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, (2, 4)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # the batch script itself
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "x", "PMI_SIZE": "2", "RANK": "5", "WORLD_SIZE": "2"}, (0, 1)),
    ],
)
def test_rank_from_the_environment(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert own_rank(environment) == expected


def test_wrong_share() -> None:
    with pytest.raises(ValueError, match="the number of shares must be larger"):
        BandsConfig(folder="x", mesh=(1, 1, 1), share=(2, 2))
