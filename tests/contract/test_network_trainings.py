"""Trainings of every registered network: they learn, can be interrupted, and are shared by processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from aiida_deeph.engine.errors import Interrupted
from aiida_deeph.engine.io.dataset import load_member, read_manifest
from aiida_deeph.engine.nn.storage import load_model
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.run import train
from tests.contract import toy_network
from tests.contract.networks import TRAINED, entries
from tests.engine.nn.systems import small_settings
from tests.engine.training.toy import write_toy_dataset


def train_config(name: str, dataset: Path, **changes: Any) -> TrainConfig:
    values = {
        "network": {**small_settings(name), "name": name},
        "learning_rate": 1e-2,
        "device": "cpu",
        "threads": 1,
        "epochs": 3,
    }
    values |= {"split": {"train": 0.67, "validation": 0.33, "test": 0.0}, "precision": "float64", "revert": None}
    return TrainConfig.model_validate({"dataset": str(dataset), **values, **changes})


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in ("epoch", "train_loss", "validation_loss")} for row in rows]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy"), range(3))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_by_heart(name: str, tmp_path: Path) -> None:
    """What is left is a hundredth of <|H|^2>; a network that is fitted in closed form has one epoch, which changes
    nothing."""
    dataset = write_toy_dataset(tmp_path / "dataset", range(2))
    split = {"train": 1.0, "validation": 0.0, "test": 0.0}
    changes = {"epochs": 60, "learning_rate": 0.03, "scheduler": {"name": "cosine"}, "split": split}
    report = train(train_config(name, dataset, **changes), tmp_path, quiet=True)
    network, _ = load_model(tmp_path / "model", dtype=torch.float64)
    assert (report["reason"], report["epochs"]) == (("epochs", 60) if network.trainable else ("fitted", 1))
    data = load_member(dataset, read_manifest(dataset).members[0])
    errors = entries(network, data.structure, data.hamiltonian.atom_pairs) - data.hamiltonian.entries
    assert float((errors**2).mean()) < 0.01 * float((data.hamiltonian.entries**2).mean())


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Folder of a training by one process."""

    @cache
    def trained(name: str, batch_size: int) -> Path:
        folder = tmp_path_factory.mktemp("alone")
        train(train_config(name, dataset, batch_size=batch_size), folder, quiet=True)
        return folder

    return trained


@pytest.mark.parametrize("name", TRAINED)
def test_interrupted_is_uninterrupted(
    name: str, dataset: Path, alone: Callable[[str, int], Path], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"max_seconds": 1e-9}
    for attempt in range(10):
        try:
            train(train_config(name, dataset, **changes), tmp_path, quiet=True)
            break
        except Interrupted:
            changes = {"restart": str(tmp_path / "checkpoint"), **({"max_seconds": 1e-9} if attempt < 2 else {})}
    assert rows_of(tmp_path) == rows_of(alone(name, 1))
    first, second = (load_model(folder / "model")[0].state_dict() for folder in (tmp_path, alone(name, 1)))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.fixture(scope="module")
def together(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder by name: all networks trained by the same two processes, one after the other."""
    folder = tmp_path_factory.mktemp("together")
    for name in TRAINED:
        (folder / name).mkdir()
        train_config(name, dataset).write(folder / name / "config.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, toy_network.__file__, *(str(folder / name) for name in TRAINED)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_learn_what_one_does(name: str, together: Path, alone: Callable[[str, int], Path]) -> None:
    """With a batch of two members: each process has one, also of what is fitted before."""
    assert json.loads((together / name / "train.json").read_text())["world_size"] == 2
    for row, expected in zip(rows_of(together / name), rows_of(alone(name, 2)), strict=True):
        assert row == pytest.approx(expected, rel=1e-6)
