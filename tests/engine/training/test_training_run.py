"""`deeph-engine train` and `evaluate` from a dataset folder to files, with the tiny network."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError, DivergenceError, InputError, Interrupted
from aiida_deeph.engine.io.dataset import load_member, read_manifest
from aiida_deeph.engine.io.model import read_description
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.nn.storage import load_model
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import predict
from aiida_deeph.engine.training import loop
from aiida_deeph.engine.training.checkpoint import load_checkpoint, save_checkpoint
from aiida_deeph.engine.training.config import EvaluateConfig, TrainConfig
from aiida_deeph.engine.training.evaluate import evaluate
from aiida_deeph.engine.training.loss import summed_loss
from aiida_deeph.engine.training.run import train
from tests.engine.training.toy import toy_member, write_toy_dataset

SMALL = {"irreps_embed": "8x0e", "irreps_mid": "8x0e+4x1o", "lmax": 1, "n_blocks": 1, "n_gaussians": 16}


def config(dataset: Path, **changes: Any) -> TrainConfig:
    values = {"network": {"name": "tiny"}, "epochs": 4, "learning_rate": 0.02, "device": "cpu", "threads": 1}
    return TrainConfig.model_validate({"dataset": str(dataset), **values, **changes})


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(toy_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(config(toy_dataset), folder, quiet=True)
    return folder


def test_files_of_a_training(toy_dataset: Path, trained: Path) -> None:
    report = json.loads((trained / "train.json").read_text())
    rows = metrics(trained)
    assert (report["status"], report["reason"], report["epochs"]) == ("finished", "epochs", 4)
    assert (report["n_train"], report["n_validation"], report["n_test"]) == (6, 2, 2)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert {"train_loss", "validation_loss", "learning_rate", "seconds", "validation_mae"} <= set(rows[0])
    best = min(rows, key=lambda row: row["validation_loss"])
    assert (report["best_epoch"], report["best_validation_loss"]) == (best["epoch"], best["validation_loss"])
    members = {member.name: member.uuid for member in read_manifest(toy_dataset).members}
    found = {entry["name"]: entry["uuid"] for part in report["split"].values() for entry in part}
    assert found == members
    description = read_description(trained / "model")
    assert description.training["split"] == report["split"]
    assert description.training["config"]["learning_rate"] == 0.02
    assert description.metrics["validation_loss_eV2"] == best["validation_loss"]
    assert str(toy_dataset) not in (trained / "model" / "model.json").read_text()


def test_split_does_not_depend_on_the_order_of_members(trained: Path, toy_dataset: Path, tmp_path: Path) -> None:
    other = write_toy_dataset(tmp_path / "reversed", range(9, -1, -1))
    report = train(config(other, epochs=1), tmp_path, quiet=True)
    assert report["split"] == json.loads((trained / "train.json").read_text())["split"]


def test_time_limit_then_exact_continuation(toy_dataset: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="training stopped by max_seconds in epoch 0") as caught:
        train(config(toy_dataset, max_seconds=1e-9), tmp_path, quiet=True)
    assert caught.value.exit_status == 4
    report = json.loads((tmp_path / "train.json").read_text())
    assert (report["status"], report["best_epoch"]) == ("interrupted", None)
    train(config(toy_dataset, restart=str(tmp_path / "checkpoint")), tmp_path, quiet=True)
    keys = ("epoch", "train_loss", "validation_loss", "learning_rate")
    assert [[row[k] for k in keys] for row in metrics(tmp_path)] == [[row[k] for k in keys] for row in metrics(trained)]
    first, second = (load_model(folder / "model")[0].state_dict() for folder in (trained, tmp_path))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_two_centre_part_is_fitted_once_and_continued_exactly(toy_dataset: Path, tmp_path: Path) -> None:
    """The toy H is two-centre: the training starts near its end. A continued run and a model loaded know the fit."""
    changes = {"network": {**SMALL, "name": "deephe3-residual"}, "learning_rate": 1e-3}
    through, stopped = tmp_path / "through", tmp_path / "stopped"
    for folder in (through, stopped):
        folder.mkdir()
    train(config(toy_dataset, **changes), through, quiet=True)
    rows = metrics(through)
    assert rows[0]["validation_mae"] < 0.1
    with pytest.raises(Interrupted):
        train(config(toy_dataset, max_seconds=1e-9, **changes), stopped, quiet=True)
    train(config(toy_dataset, restart=str(stopped / "checkpoint"), **changes), stopped, quiet=True)
    keys = ("epoch", "train_loss", "validation_loss")
    assert [[row[k] for k in keys] for row in metrics(stopped)] == [[row[k] for k in keys] for row in rows]
    values = {"dataset": str(toy_dataset), "model": str(through / "model"), "output": str(tmp_path / "e.json")}
    report = evaluate(EvaluateConfig(**values, members="validation", strict=True))
    best = min(rows, key=lambda row: row["validation_loss"])
    assert report["mae_eV"] == pytest.approx(best["validation_mae"], rel=1e-4)


def test_bonds_outside_the_training_are_named(toy_dataset: Path, trained: Path, tmp_path: Path) -> None:
    """The model knows the distances of its training members; evaluation and prediction name what lies outside."""
    ranges = read_description(trained / "model").training["distances_A"]
    assert set(ranges) == {"C-C", "C-H"}
    values = {"dataset": str(toy_dataset), "model": str(trained / "model"), "device": "cpu"}
    report = evaluate(EvaluateConfig(**values, members="train", output=str(tmp_path / "train.json")))
    assert report["outside_trained_distances"] == {}
    stretched = dataclasses.replace(toy_member(0).structure, positions=1.3 * toy_member(0).structure.positions)
    write_structure(tmp_path / "far.xyz", stretched)
    options = {"model": str(trained / "model"), "structure": str(tmp_path / "far.xyz"), "device": "cpu"}
    folder = predict(PredictConfig(**options, output=str(tmp_path / "out")))
    found = json.loads((folder / "prediction.json").read_text())["outside_trained_distances"]
    assert found["n_pairs"] > 0 and found["largest_excess_A"] > 0.1
    assert {row["elements"] for row in found["pairs"]} <= {"C-C", "C-H"}


@pytest.mark.parametrize(("network", "eps"), [({"name": "tiny"}, 1e-8), ({**SMALL, "name": "deephe3-residual"}, 1e-12)])
def test_adams_eps_is_as_small_as_the_gradients_that_count(
    toy_dataset: Path, tmp_path: Path, network: dict[str, Any], eps: float
) -> None:
    for given, expected in ((None, eps), (1e-10, 1e-10)):
        train(config(toy_dataset, network=network, optimizer={"eps": given}, epochs=1), tmp_path, quiet=True)
        (group,) = load_checkpoint(tmp_path / "checkpoint")["optimizer"]["param_groups"]
        assert group["eps"] == expected


def test_finished_training_can_go_on(toy_dataset: Path, trained: Path, tmp_path: Path) -> None:
    train(config(toy_dataset, restart=str(trained / "checkpoint"), epochs=6), tmp_path, quiet=True)
    rows = metrics(tmp_path)
    assert rows[:4] == metrics(trained)
    assert [row["epoch"] for row in rows] == list(range(6))


def test_signal_leaves_a_checkpoint(toy_dataset: Path, tmp_path: Path) -> None:
    """SIGTERM while it trains: exit by Interrupted, the former handler restored, the run continues."""
    before = signal.getsignal(signal.SIGTERM)

    def send() -> None:
        while not (tmp_path / "metrics.jsonl").is_file() or len(metrics(tmp_path)) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Interrupted, match="SIGTERM"):
        train(config(toy_dataset, epochs=10**6, revert=None), tmp_path, quiet=True)
    sender.join()
    assert signal.getsignal(signal.SIGTERM) is before
    done = len(metrics(tmp_path))
    assert (tmp_path / "model" / "weights.safetensors").is_file()
    with pytest.raises(Interrupted, match="max_seconds"):
        changes = {"epochs": 10**6, "revert": None, "restart": str(tmp_path / "checkpoint"), "max_seconds": 0.5}
        train(config(toy_dataset, **changes), tmp_path, quiet=True)
    assert [row["epoch"] for row in metrics(tmp_path)][: done + 1] == list(range(done + 1))


def test_divergence_keeps_the_best_model(toy_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss becomes NaN in the third epoch."""
    calls = iter(range(10**6))

    def poisoned(prediction: torch.Tensor, label: torch.Tensor, *others: object) -> torch.Tensor:
        return summed_loss(prediction, label) * (1.0 if next(calls) < 14 else float("nan"))

    monkeypatch.setattr(loop, "summed_loss", poisoned)
    with pytest.raises(DivergenceError) as caught:
        train(config(toy_dataset, epochs=300), tmp_path, quiet=True)
    assert caught.value.exit_status == 3
    report = json.loads((tmp_path / "train.json").read_text())
    assert (report["status"], report["epochs"]) == ("diverged", 2)
    network, description = load_model(tmp_path / "model")
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert description.training["best_epoch"] == report["best_epoch"]
    assert metrics(tmp_path)[-1]["validation_loss"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.01}, "setting differs from that of the checkpoint; in learning_rate; found 0.01"),
        ({"batch_size": 2}, "in batch_size"),
        ({"split": {"seed": 7}}, "in split"),
    ],
)
def test_continuation_with_other_settings_is_refused(
    toy_dataset: Path, trained: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(config(toy_dataset, restart=str(trained / "checkpoint"), **change), tmp_path, quiet=True)


def test_continuation_with_other_data_is_refused(trained: Path, tmp_path: Path) -> None:
    other = write_toy_dataset(tmp_path / "other", range(10, 20))
    with pytest.raises(InputError, match="dataset differs from that of the checkpoint"):
        train(config(other, restart=str(trained / "checkpoint")), tmp_path, quiet=True)


def test_damaged_or_hostile_checkpoint_is_refused(toy_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint to continue from"):
        train(config(toy_dataset, restart=str(tmp_path)), tmp_path, quiet=True)
    (tmp_path / "state.pt").write_bytes(b"PK garbage")
    with pytest.raises(DataError, match="checkpoint is damaged"):
        train(config(toy_dataset, restart=str(tmp_path)), tmp_path, quiet=True)

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "owned"),))

    torch.save({"version": 1, "epoch": Hostile()}, tmp_path / "state.pt")
    with pytest.raises(DataError, match="checkpoint is damaged"):
        train(config(toy_dataset, restart=str(tmp_path)), tmp_path, quiet=True)
    assert not (tmp_path / "owned").exists()


def test_initial_model_is_where_the_training_starts(toy_dataset: Path, trained: Path, tmp_path: Path) -> None:
    changes = {"initial_model": str(trained / "model"), "epochs": 1, "learning_rate": 1e-30, "min_learning_rate": 0}
    report = train(config(toy_dataset, **changes), tmp_path, quiet=True)
    expected = json.loads((trained / "train.json").read_text())["best_validation_loss"]
    assert report["best_validation_loss"] == pytest.approx(expected, rel=1e-6)
    description = read_description(tmp_path / "model")
    assert description.origin["initial_model_sha256"] == read_description(trained / "model").weights_sha256
    few = {"split": {"train": 0.2, "validation": 0.2, "test": 0.6}}
    with pytest.raises(InputError, match="test members that the initial model was fitted to; in split"):
        train(config(toy_dataset, **changes, **few), tmp_path, quiet=True)
    spinful = write_toy_dataset(tmp_path / "spin", range(5), SpinMode.NONCOLLINEAR)
    with pytest.raises(InputError, match=r"dataset does not fit the initial model; in .*, spin"):
        train(config(spinful, **changes), tmp_path, quiet=True)


def test_collinear_data_without_moments_are_refused(tmp_path: Path) -> None:
    dataset = write_toy_dataset(tmp_path / "data", range(5), SpinMode.COLLINEAR)
    with pytest.raises(InputError, match="collinear data without moments cannot be learnt"):
        train(config(dataset), tmp_path, quiet=True)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_spin_and_precision(tmp_path: Path, precision: str) -> None:
    dataset = write_toy_dataset(tmp_path / "data", range(5), SpinMode.NONCOLLINEAR)
    report = train(config(dataset, epochs=30, precision=precision, learning_rate=0.1), tmp_path, quiet=True)
    rows = metrics(tmp_path)
    assert report["best_validation_loss"] < 0.5 * rows[0]["validation_loss"]
    result = evaluate(
        EvaluateConfig(dataset=str(dataset), model=str(tmp_path / "model"), output=str(tmp_path / "e.json"))
    )
    assert result["n_members"] == report["n_test"]


def test_evaluation_is_the_error_of_the_predictions(toy_dataset: Path, trained: Path, tmp_path: Path) -> None:
    """Validation members, strictly: the numbers that the training itself recorded."""
    values = {"dataset": str(toy_dataset), "model": str(trained / "model"), "output": str(tmp_path / "e.json")}
    report = evaluate(EvaluateConfig(**values, members="validation", strict=True))
    best = read_description(trained / "model").metrics
    assert report["mae_eV"] == pytest.approx(best["validation_mae_eV"], rel=1e-5)
    assert report["rmse_eV"] ** 2 == pytest.approx(best["validation_loss_eV2"], rel=1e-5)
    assert json.loads((tmp_path / "e.json").read_text())["mae_eV"] == report["mae_eV"]
    averaged = evaluate(EvaluateConfig(**values, members="validation"))
    assert averaged["rmse_eV"] < report["rmse_eV"]
    everything = evaluate(EvaluateConfig(**values, members="all"))
    assert set(everything["members"]) == {f"m{n}" for n in range(10)}
    entries = sum(len(load_member(toy_dataset, m).hamiltonian.entries) for m in read_manifest(toy_dataset).members)
    assert everything["n_entries"] == entries
    assert np.isfinite(everything["max_eV"])


def test_bands_of_the_members(
    toy_dataset: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hardly trained model: its bands are wrong by about as much as its H."""

    def with_overlap(dataset: Path, member: Any) -> Any:
        """The toy's S is no overlap: here orthogonal orbitals."""
        data = load_member(dataset, member)
        s = data.overlap
        own = ~s.atom_pairs[:, :3].any(axis=1) & (s.atom_pairs[:, 3] == s.atom_pairs[:, 4])
        rows, columns = s.entry_positions()
        unit = (own[s.pair_of_entry] & (rows == columns)).astype(float)
        return dataclasses.replace(data, overlap=s.with_entries(unit))

    bands = {"mesh": [1, 1, 1], "window": [-30.0, 30.0]}
    values = {"dataset": str(toy_dataset), "model": str(trained / "model"), "output": str(tmp_path / "e.json")}
    config = EvaluateConfig.model_validate({**values, "members": "validation", "bands": bands, "strict": True})
    report = evaluate(config)
    assert report["n_bands_failed"] == len(report["members"]) and report["bands_mean_eV"] is None
    assert all("not positive definite" in entry["error"] for entry in report["bands"].values())

    monkeypatch.setattr("aiida_deeph.engine.training.evaluate.load_member", with_overlap)
    report = evaluate(config)
    assert report["n_bands_failed"] == 0
    table = report["bands"]
    assert set(table) == set(report["members"])
    assert report["bands_mean_eV"] == pytest.approx(np.mean([entry["mean_eV"] for entry in table.values()]))
    assert report["bands_max_eV"] == max(entry["max_eV"] for entry in table.values()) > 0
    assert report["n_unexplained"] == sum(not entry["explained"] for entry in table.values())
    for entry in table.values():
        assert entry["n_kpoints"] == 1 and 0 < entry["n_states"] <= 10
        assert entry["gap_eV"] - entry["reference_gap_eV"] == pytest.approx(entry["gap_difference_eV"])
        assert entry["unexplained_eV"] > 0 and 0 < entry["expected_from_H_eV"] < 30
    pairs = report["element_pairs"]
    assert set(pairs) == {"C-C", "C-H", "H-C", "H-H"}
    assert sum(pair["n_entries"] for pair in pairs.values()) == report["n_entries"]
    assert max(pair["max_eV"] for pair in pairs.values()) == report["max_eV"]


def test_evaluation_refuses_what_does_not_fit(toy_dataset: Path, trained: Path, tmp_path: Path) -> None:
    other = write_toy_dataset(tmp_path / "other", range(20, 25))
    values = {"model": str(trained / "model"), "output": str(tmp_path / "e.json")}
    with pytest.raises(InputError, match="dataset lacks 2 test member"):
        evaluate(EvaluateConfig(dataset=str(other), **values))
    assert evaluate(EvaluateConfig(dataset=str(other), members="all", **values))["n_members"] == 5


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(toy_dataset: Path, tmp_path: Path) -> None:
    """Batches of 2 on each of two ranks; the last step of an epoch has fewer members than places."""
    shares = {"train": 0.7, "validation": 0.2, "test": 0.1}
    common = {"split": shares, "epochs": 6, "ema_decay": 0.9, "learning_rate": 2e-3, "network": SMALL}
    train(config(toy_dataset, batch_size=4, **common), tmp_path, quiet=True)
    (tmp_path / "two").mkdir()
    config(toy_dataset, batch_size=2, **common).write(tmp_path / "two" / "config.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "aiida_deeph.engine.cli.main", "train", "config.json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path / "two",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for key in ("train_loss", "validation_loss", "validation_mae"):
        one, two = ([row[key] for row in metrics(folder)] for folder in (tmp_path, tmp_path / "two"))
        np.testing.assert_allclose(two, one, rtol=1e-5)
    report = json.loads((tmp_path / "two" / "train.json").read_text())
    assert report["world_size"] == 2
    assert done.stdout.count("members:") == 1, "more than one rank printed"


def test_continuation_on_another_number_of_processes_is_refused(
    toy_dataset: Path, trained: Path, tmp_path: Path
) -> None:
    state = load_checkpoint(trained / "checkpoint")
    save_checkpoint(tmp_path / "checkpoint", {**state, "world_size": 4})
    with pytest.raises(InputError, match="number of processes differs from that of the checkpoint; found 1"):
        train(config(toy_dataset, restart=str(tmp_path / "checkpoint")), tmp_path, quiet=True)
