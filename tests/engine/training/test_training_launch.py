"""Many processes: which nodes a scheduler names, what torchrun is told, how two are stopped by a scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.launch import needs_launch, torchrun_arguments
from aiida_deeph.engine.training.rendezvous import expand_hosts, find_allocation, require_allocation
from tests.engine.training.toy import write_toy_dataset

NETWORK = {"irreps_embed": "4x0e", "irreps_mid": "4x0e+2x1o", "lmax": 1, "n_blocks": 1, "n_gaussians": 8}


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node7", "node7"),
        ("a,b2", "a b2"),
        ("gpu[01-03,7],login1", "gpu01 gpu02 gpu03 gpu7 login1"),
        ("r[1-2]n[08-09]-ib", "r1n08-ib r1n09-ib r2n08-ib r2n09-ib"),
    ],
)
def test_node_list_of_slurm(text: str, hosts: str) -> None:
    assert expand_hosts(text) == tuple(hosts.split())


def test_node_list_that_is_none() -> None:
    with pytest.raises(InputError, match=r"node list cannot be read; found gpu\[a-b\]"):
        expand_hosts("gpu[a-b]")


@pytest.fixture
def hosts_file(tmp_path: Path) -> str:
    """As PBS (a line per slot) and SGE (slots and queue behind the name) write it."""
    path = tmp_path / "hosts"
    path.write_text("".join(f"n{n}.cluster 2 gpu.q@n{n} UNDEFINED\n" for n in (1, 1, 2)))
    return str(path)


@pytest.mark.parametrize(
    ("variables", "scheduler"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2].cluster"}, "SLURM"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-9]", "SLURM_STEP_NODELIST": "n[1-2].cluster"}, "SLURM"),
        ({"PBS_JOBID": "7.server", "PBS_NODEFILE": "FILE"}, "PBS"),
        ({"LSB_JOBID": "7", "LSB_DJOB_HOSTFILE": "FILE"}, "LSF"),
        ({"LSB_JOBID": "7", "LSB_MCPU_HOSTS": "n1.cluster 4 n2.cluster 4"}, "LSF"),
        ({"LSB_JOBID": "7", "LSB_HOSTS": "n1.cluster n1.cluster n2.cluster"}, "LSF"),
        ({"JOB_ID": "7", "PE_HOSTFILE": "FILE"}, "SGE"),
    ],
)
def test_nodes_of_each_scheduler(variables: dict[str, str], scheduler: str, hosts_file: str) -> None:
    environment = {key: hosts_file if value == "FILE" else value for key, value in variables.items()}
    allocation = find_allocation(environment)
    assert allocation is not None and allocation.scheduler == scheduler
    assert allocation.hosts == ("n1.cluster", "n2.cluster")
    host, port = allocation.endpoint.split(":")
    assert host == "n1.cluster" and 20000 <= int(port) < 32000
    with pytest.raises(InputError, match=rf"another number of nodes; in nodes; {scheduler} job 7.*found 2 "):
        require_allocation(3, environment)


def test_outside_of_a_job() -> None:
    # JOB_ID is a name that other programs use, too.
    assert find_allocation({"JOB_ID": "7"}) is None
    with pytest.raises(InputError, match=r"no scheduler says which nodes.*SLURM, PBS, LSF, SGE"):
        require_allocation(2, {})


def test_what_torchrun_is_told() -> None:
    config = TrainConfig(dataset="d", processes_per_node=4)
    assert torchrun_arguments(config, {}) == ["--nnodes=1", "--nproc-per-node=4", "--max-restarts=0", "--standalone"]
    config = TrainConfig(dataset="d", processes_per_node=4, nodes=2)
    job = {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n[1-2]"}
    told = torchrun_arguments(config, job)
    assert told[:2] == ["--nnodes=2", "--nproc-per-node=4"] and told[-1] == "--rdzv-id=12"
    assert told[-2].startswith("--rdzv-endpoint=n1:")
    assert torchrun_arguments(config, {**job, "SLURM_JOB_ID": "13"})[-2] != told[-2]


def test_who_starts_torchrun() -> None:
    many = TrainConfig(dataset="d", processes_per_node=2)
    assert needs_launch(many, {})
    assert not needs_launch(many, {"TORCHELASTIC_RUN_ID": "x"}), "torchrun would start itself"
    assert not needs_launch(TrainConfig(dataset="d"), {})


@pytest.mark.slow
def test_two_processes_stop_with_one_checkpoint(tmp_path: Path) -> None:
    """SIGTERM to every process at once, as schedulers send it; torchrun then sends its own."""
    write_toy_dataset(tmp_path / "dataset", range(5))
    values = {"dataset": "dataset", "network": NETWORK, "device": "cpu", "threads": 1, "processes_per_node": 2}
    values |= {"epochs": 10**6, "revert": None, "min_learning_rate": 0}
    (tmp_path / "train.json.in").write_text(json.dumps(values))
    command = [sys.executable, "-m", "aiida_deeph.engine.cli.main", "train", "train.json.in"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        metrics, deadline = tmp_path / "metrics.jsonl", time.monotonic() + 200
        while not metrics.is_file() or not metrics.read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        for child in psutil.Process(process.pid).children(recursive=True):
            os.kill(child.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGTERM)
        errors = process.communicate(timeout=100)[1]
    assert process.returncode == 4, errors
    report = json.loads((tmp_path / "train.json").read_text())
    assert report["status"] == "interrupted" and report["world_size"] == 2
    assert (tmp_path / "checkpoint" / "state.pt").is_file()
    assert "deeph-engine: training stopped by SIGTERM" in errors
