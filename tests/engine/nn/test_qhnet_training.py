"""QHNet's training as published, on the data, start weights and batches of its reference code; its commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.io.dataset import read_manifest
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.nn.reference.qhnet import import_qhnet
from aiida_deeph.engine.nn.storage import load_model
from aiida_deeph.engine.training import loop as loop_module
from aiida_deeph.engine.training.batches import BatchSource
from aiida_deeph.engine.training.config import EvaluateConfig, TrainConfig
from aiida_deeph.engine.training.data import GraphCache, GraphSet, GraphSettings
from aiida_deeph.engine.training.evaluate import evaluate
from aiida_deeph.engine.training.loop import TrainingLoop
from aiida_deeph.engine.training.loss import weigh_structure
from aiida_deeph.engine.training.run import make_fabric
from aiida_deeph.engine.units import HARTREE_TO_EV
from tests.engine.nn.molecules import write_dataset

PUBLISHED: dict[str, Any] = {
    "loss": {"squared": 1, "absolute": 1, "unit": "Hartree", "mean": "structures"},
    "optimizer": {"name": "adamw", "betas": [0.99, 0.999], "weight_decay": 0.01},
    "best_by": "absolute",
    "revert": None,
}


def reference_loop(files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, epochs: int) -> TrainingLoop:
    """The training of the fixture: its weights, its members in its order, its batches."""
    settings = json.loads((files / "water_md17fixed.json").read_text())["training"]
    torch.save(
        {"state_dict": load_file(files / "water_md17fixed_initial.safetensors"), "eval": {}, "batch_idx": 0},
        folder / "initial.pt",
    )
    options = {"variant": "md17-fixed", "elements": ["H", "O"], "e3nn": "0.5"}
    import_qhnet(folder / "initial.pt", folder / "initial", **options)
    network, _ = load_model(folder / "initial", dtype=torch.float32)
    split = settings["split"]
    write_dataset(folder / "data", files / "water_pbe.npz", [*split["train"], *split["validation"]])
    members = read_manifest(folder / "data").members
    sets = [
        GraphSet(folder / "data", part, GraphSettings.of_network(network, "float32"), GraphCache(None))
        for part in (members[:60], members[60:])
    ]
    for graphs in sets:
        graphs.prepare(network.prepare)
    sets[0].prepare(weigh_structure)
    rng = np.random.default_rng(settings["seed"])

    def steps(n_members: int, batch_size: int, **where: Any) -> list[tuple[int, ...]]:
        order = rng.permutation(n_members)
        return [tuple(order[k : k + batch_size].tolist()) for k in range(0, n_members, batch_size)]

    monkeypatch.setattr(loop_module, "epoch_steps", steps)
    final = settings["lr_end"] / settings["lr"]
    config = TrainConfig.model_validate(
        {
            "dataset": "data",
            "epochs": settings["epochs"],
            "batch_size": settings["batch_size"],
            "learning_rate": settings["lr"],
            "scheduler": {"name": "linear", "warmup_steps": settings["warmup_steps"], "final": final},
            "gradient_clip": settings["clip_norm"],
            **PUBLISHED,
        }
    )
    fabric = make_fabric("cpu", "float32")
    fabric.launch()
    sources = [BatchSource(graphs, fabric.device) for graphs in sets]
    done = {"epochs": 0}

    def stop() -> str | None:
        return "test" if done["epochs"] >= epochs else None

    return TrainingLoop(
        config, fabric, network, *sources, stop=stop, on_epoch=lambda row: done.update(epochs=row["epoch"] + 1)
    )


@pytest.mark.slow
def test_training_follows_the_curve_of_the_reference(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epochs, in which rounding has not yet grown; float32 on both sides."""
    files = shared / "fixtures" / "qhnet"
    expected = json.loads((files / "learning_curve.json").read_text())["rows"]
    loop = reference_loop(files, tmp_path, monkeypatch, epochs=12)
    assert loop.run() == "test"
    for row, theirs in zip(loop.rows, expected, strict=False):
        assert row["validation_mae"] / HARTREE_TO_EV == pytest.approx(theirs["validation_mae_Eh"], rel=5e-3)
        assert row["train_loss"] / HARTREE_TO_EV**2 == pytest.approx(theirs["train_mse_Eh2"], rel=5e-3)
        assert row["learning_rate"] == pytest.approx(theirs["learning_rate"])
    assert loop.rows[-1]["validation_mae"] < 0.55 * loop.rows[0]["validation_mae"]


def test_commands_train_predict_and_evaluate_molecules(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data", shared / "fixtures" / "qhnet" / "water_b3lyp.npz", list(range(10)))
    monkeypatch.chdir(tmp_path)
    network = {"name": "qhnet", "channels": 8, "bottleneck": 4, "n_layers": 2, "first_pair_layer": 1, "all_pairs": True}
    options = {"epochs": 3, "batch_size": 3, "ema_decay": 0.9, "ema_start": 1, "threads": 1, **PUBLISHED}
    configs = {
        "train": {"dataset": "data", "network": network, "split": {"train": 0.6}, **options},
        "evaluate": {"dataset": "data", "model": "model"},
        "predict": {"model": "model", "structure": "data/members/m9", "precision": "float64"},
    }
    for name, config in configs.items():
        Path(f"{name}.json").write_text(json.dumps(config))
        result = CliRunner().invoke(engine, [name, f"{name}.json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    report = json.loads(Path("evaluate.json").read_text())
    assert report["n_members"] == 2 and report["n_entries"] == 2 * 24 * 24
    predicted = read_deeph(tmp_path / "prediction")
    assert predicted.hamiltonian is not None and len(predicted.hamiltonian) == 9
    assert predicted.structure.pbc == (False,) * 3
    assert predicted.hamiltonian.hermiticity_error() == 0


def test_measures_are_those_of_the_reference_code(shared: Path, tmp_path: Path) -> None:
    """What the published code says of its own checkpoint on its test molecules: H, occupied levels, orbitals."""
    files = shared / "fixtures" / "qhnet"
    settings = json.loads((files / "water_md17fixed.json").read_text())
    options = {"variant": "md17-fixed", "elements": ["H", "O"], "e3nn": "0.5"}
    import_qhnet(files / "water_md17fixed.pt", tmp_path / "model", **options)
    write_dataset(tmp_path / "data", files / "water_pbe.npz", settings["training"]["split"]["test"])
    config = EvaluateConfig(
        dataset=str(tmp_path / "data"), model=str(tmp_path / "model"), members="all", output=str(tmp_path / "e.json")
    )
    means = evaluate(config, show_progress=False)["mean_of_molecules"]
    expected = settings["metrics"]["test"]
    assert means["n_members"] == expected["n"] == 20 and means["n_failed"] == 0
    assert means["hamiltonian_uHartree"] == pytest.approx(1e6 * expected["H_mae_Eh"], rel=1e-4)
    assert means["occupied_levels_uHartree"] == pytest.approx(1e6 * expected["eps_mae_occupied_Eh"], rel=1e-3)
    assert means["orbitals"] == pytest.approx(expected["psi_similarity"], abs=1e-3)
