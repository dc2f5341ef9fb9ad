"""The engine runs on a compute node without aiida: from labels to a prediction in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiida_deeph.engine.io.deeph import read_deeph, write_deeph

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
sys.modules["aiida"] = None  # `import aiida` fails from here on
from pathlib import Path
from aiida_deeph.engine.cli.main import main

for arguments in (
    ["convert", "--code", "deeph", "raw/0", "converted", "--to", "deeph_legacy"],
    ["check", "raw/1"],
    ["preprocess", "preprocess.json"],
    ["train", "train.json"],
    ["evaluate", "evaluate.json"],
    ["predict", "--model", "model", "--structure", "raw/2", "--output", "prediction"],
):
    sys.argv = ["deeph-engine", *arguments]
    try:
        main()
    except SystemExit as verdict:
        if verdict.code:
            sys.exit(f"{arguments[0]} ended with {verdict.code}")
"""


@pytest.mark.slow
def test_labels_to_prediction(tmp_path: Path, make_hamiltonian) -> None:
    for seed in range(3):
        write_deeph(tmp_path / f"raw/{seed}", make_hamiltonian(seed=seed))
    members = [{"name": f"m{seed}", "path": f"raw/{seed}", "code": "deeph"} for seed in range(3)]
    network = {"irreps_embed": "4x0e", "irreps_mid": "4x0e+4x1o+2x2e", "lmax": 2, "n_blocks": 1, "n_gaussians": 8}
    train = {
        "dataset": "dataset",
        "network": network,
        "split": {"train": 0.34, "validation": 0.33, "test": 0.33},
        "epochs": 1,
        "device": "cpu",
        "threads": 1,
    }
    configs = {
        "preprocess.json": {"members": members},
        "train.json": train,
        "evaluate.json": {"dataset": "dataset", "model": "model", "output": "errors.json", "device": "cpu"},
    }
    for name, values in configs.items():
        (tmp_path / name).write_text(json.dumps(values))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads((tmp_path / "errors.json").read_text())["mae_eV"] > 0
    prediction = read_deeph(tmp_path / "prediction")
    assert prediction.hamiltonian is not None and prediction.hamiltonian.hermiticity_error() < 1e-6
