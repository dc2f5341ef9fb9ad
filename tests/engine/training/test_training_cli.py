"""The commands train and evaluate: exit statuses, one-line errors, plain lines on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.errors import InputError
from tests.engine.training.toy import write_toy_dataset

NETWORK = {"irreps_embed": "4x0e", "irreps_mid": "4x0e+2x1o", "lmax": 1, "n_blocks": 1, "n_gaussians": 8}
ENGINE = [sys.executable, "-m", "aiida_deeph.engine.cli.main"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a dataset and the configuration of a short training."""
    write_toy_dataset(tmp_path / "dataset", range(5))
    values = {"dataset": "dataset", "network": NETWORK, "epochs": 3, "device": "cpu", "threads": 1}
    (tmp_path / "train.yaml").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_then_evaluate(folder: Path) -> None:
    result = CliRunner().invoke(engine, ["train", "train.yaml"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert "members: 3 train, 1 validation, 1 test" in lines[0]
    assert any(line.startswith("epoch 3/3 loss ") and " meV lr " in line and " ETA " in line for line in lines)
    assert lines[-1].startswith("finished (epochs) after 3 epochs")
    (folder / "evaluate.json").unlink(missing_ok=True)
    (folder / "e.json").write_text(json.dumps({"dataset": "dataset", "model": "model", "members": "test"}))
    result = CliRunner().invoke(engine, ["evaluate", "e.json"], catch_exceptions=False)
    report = json.loads((folder / "evaluate.json").read_text())
    assert f"1 members, {report['n_entries']} entries, MAE {1000 * report['mae_eV']:.3f} meV" in result.output
    assert list(report["members"]) == [json.loads((folder / "train.json").read_text())["split"]["test"][0]["name"]]


def test_quiet_training_prints_nothing(folder: Path) -> None:
    assert CliRunner().invoke(engine, ["train", "train.yaml", "--quiet"], catch_exceptions=False).output == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "wrong field"),
        ({"learning_rat": 1}, "first: learning_rat"),
        ({"dataset": "absent"}, "not a dataset folder"),
        ({"split": {"train": 0.8, "validation": 0.1, "test": 0.01}}, "split leaves no test member"),
        ({"network": {"name": "other"}}, "unknown network; in network.name; found other"),
        ({"initial_model": "absent"}, "not a model folder"),
    ],
)
def test_wrong_configuration_is_one_line(folder: Path, change: dict, message: str) -> None:
    values = json.loads((folder / "train.yaml").read_text())
    (folder / "wrong.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(InputError, match=message) as caught:
        CliRunner().invoke(engine, ["train", "wrong.json"], catch_exceptions=False)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_sigterm_ends_with_status_4_and_a_checkpoint(folder: Path) -> None:
    values = json.loads((folder / "train.yaml").read_text())
    (folder / "long.json").write_text(json.dumps({**values, "epochs": 10**6, "revert": None, "min_learning_rate": 0}))
    with subprocess.Popen([*ENGINE, "train", "long.json"], stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.jsonl").is_file() or not (folder / "metrics.jsonl").read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert errors.startswith("deeph-engine: training stopped by SIGTERM in epoch ") and errors.count("\n") == 1
    assert json.loads((folder / "train.json").read_text())["status"] == "interrupted"
    assert (folder / "checkpoint" / "state.pt").is_file()
    assert (folder / "model" / "model.json").is_file()
