"""The k-points of one job split over jobs and over ranks: the same result as in one piece, and nothing solved twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.linalg import solvers
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.ranks import launched_ranks

Write = Callable[..., str]
COMPARED = ("energies", "kpoints", "labels", "distances", "fermi", "first_band", "n_occupied", "ghost_states")
WINDOW = {"num_bands": 4, "solver": "sparse"}


def bands(tmp_path: Path, name: str, **settings: Any) -> dict[str, Any]:
    config = BandsConfig(**{"output": str(tmp_path / name), "kpath": "G-X-S", "points_per_segment": 3, **settings})
    return json.loads(Bands.run(config).read_text())


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
    assert launched_ranks(environment) == expected


def test_wrong_share() -> None:
    with pytest.raises(ValueError, match="the number of shares must be larger"):
        BandsConfig(folder="x", mesh=(1, 1, 1), share=(2, 2))
