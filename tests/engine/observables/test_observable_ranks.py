"""Observables under a real mpirun: the result of one process, a lost rank that nobody waits for, errors in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.observables.dos import DensityOfStates, DosConfig

Write = Callable[..., str]
MPIRUN = shutil.which("mpirun")
REQUIRED = "AIIDA_DEEPH_REQUIRE_ALL" in os.environ

pytestmark = pytest.mark.skipif(MPIRUN is None and not REQUIRED, reason="mpirun is not installed")
pytest.importorskip("mpi4py")

# The second rank dies at its second k-point.
KILLED = """
import os, signal
from aiida_deeph.engine.cli.main import main
from aiida_deeph.engine.linalg import kpoint_loop, solvers

solve, count = solvers.solve_dense, 0
def counted(*args, **options):
    global count
    count += 1
    if count == 2 and os.environ["OMPI_COMM_WORLD_RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return solve(*args, **options)
solvers.solve_dense = counted
kpoint_loop.WORTH_KEEPING = 0.0
main()
"""


def mpirun(*program: object, n_ranks: int = 2) -> subprocess.CompletedProcess[str]:
    assert MPIRUN is not None, "mpirun is not installed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n", str(n_ranks), sys.executable, *map(str, program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def engine(*arguments: object, n_ranks: int = 2) -> subprocess.CompletedProcess[str]:
    return mpirun("-m", "aiida_deeph.engine.cli.main", *arguments, n_ranks=n_ranks)


@pytest.fixture
def crystal(models: Any, folder: Write) -> str:
    return folder(models.random_crystal(71, SpinMode.COLLINEAR, n_atoms=4))


def test_ranks_share_the_kpoints(crystal: str, tmp_path: Path) -> None:
    settings = {"folder": crystal, "mesh": [3, 2, 1], "n_electrons": 10.0, "fermi_mesh": [1, 1, 3]}
    whole = json.loads(Bands.run(BandsConfig(**settings, output=str(tmp_path / "whole.json"))).read_text())
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**settings, "output": str(tmp_path / "bands.json")}))
    done = engine("bands", config, n_ranks=3)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bands.json").read_text())
    assert (found["n_ranks"], whole["n_ranks"]) == (3, 1)
    compared = ("energies", "kpoints", "weights", "fermi", "first_band", "n_occupied", "ghost_states")
    assert {name: found[name] for name in compared} == {name: whole[name] for name in compared}
    assert not (tmp_path / "bands.json.partial").exists()


@pytest.mark.parametrize("method", ["exact", "sparse", "kpm"])
def test_ranks_share_a_density_of_states(models: Any, folder: Write, tmp_path: Path, method: str) -> None:
    where = folder(models.random_crystal(13, n_atoms=12, cutoff=3.0, stretch=4))
    settings = {"folder": where, "mesh": [3, 1, 1], "window": [-1, 1.5], "n_electrons": 30, "n_points": 51}
    settings |= {"method": method, "broadening": 0.1}
    whole = json.loads(DensityOfStates.run(DosConfig(**settings, output=str(tmp_path / "whole.json"))).read_text())
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**settings, "output": str(tmp_path / "dos.json")}))
    done = engine("dos", config)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "dos.json").read_text())
    assert found["dos"] == pytest.approx(whole["dos"], abs=1e-7)
    assert found["fermi_level"] == pytest.approx(whole["fermi_level"], abs=1e-8)


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_and_its_kpoints_are_not_lost(crystal: str, tmp_path: Path) -> None:
    settings = {"folder": crystal, "mesh": [4, 2, 1], "n_electrons": 10.0, "output": str(tmp_path / "bands.json")}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings))
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = mpirun(script, "bands", config)
    assert done.returncode != 0
    assert "signal 9 (Killed)" in done.stderr + done.stdout
    assert not (tmp_path / "bands.json").exists()
    kept = sorted(path.name for path in (tmp_path / "bands.json.partial").glob("*.npz"))
    assert kept
    done = engine("bands", config)
    assert done.returncode == 0, done.stderr
    whole = json.loads(Bands.run(BandsConfig(**{**settings, "output": str(tmp_path / "whole.json")})).read_text())
    assert json.loads((tmp_path / "bands.json").read_text())["energies"] == whole["energies"]


def test_an_error_of_ranks_is_one_line_and_ends_all(crystal: str, tmp_path: Path) -> None:
    done = engine("bands", crystal, "--kpath", "G-NOWHERE", "--output", tmp_path / "bands.json")
    assert done.returncode == 2
    assert "deeph-engine: wrong input: k-path leaves the Brillouin zone of this cell" in done.stderr
    assert list(tmp_path.glob("bands*")) == []


def test_ranks_that_mpi_does_not_know_are_refused(crystal: str, tmp_path: Path) -> None:
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}  # as torchrun sets them
    arguments = ["bands", crystal, "--mesh", "1", "1", "1", "--output", str(tmp_path / "bands.json")]
    command = [sys.executable, "-m", "aiida_deeph.engine.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2
    assert "ranks do not know each other" in done.stderr and "torchrun is none" in done.stderr
