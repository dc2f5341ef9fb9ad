"""What each option of a new network is worth: the same training with and without it, from several seeds.

    python tests/benchmarks/ablations.py DATASET [--epochs 40] [--seeds 2] [--only NAME ...]

DATASET is a folder with a manifest. Printed are errors on the validation members: after the average of both directions
that every prediction ends with, the mean absolute error and the root mean square; without it the latter (`strict`);
means over the seeds, and CPU seconds of training.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from aiida_deeph.engine.training.config import EvaluateConfig, TrainConfig
from aiida_deeph.engine.training.evaluate import evaluate
from aiida_deeph.engine.training.run import train

NETWORK = {"irreps_embed": "16x0e", "irreps_mid": "32x0e+16x1o+8x2e", "lmax": 2, "n_blocks": 2, "n_gaussians": 48}
COMMON: dict[str, Any] = {
    "split": {"train": 0.67, "validation": 0.28, "test": 0.05},
    "learning_rate": 5e-3,
    "scheduler": {"name": "cosine", "warmup_epochs": 5},
    "gradient_clip": 1.0,
    "revert": None,
    "device": "cpu",
    "threads": 1,
}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "published": ({}, {}),
    "hermitian": ({"hermitian": True}, {}),
    "on-site": ({"name": "deephe3-on-site"}, {}),
    "weighting": ({}, {"orbital_weighting": 0.5}),
    "average": ({}, {"ema_decay": 0.99}),
    "residual": ({"name": "deephe3-residual", "start": "two-centre"}, {}),
    "residual, hermitian": ({"name": "deephe3-residual", "start": "two-centre", "hermitian": True}, {}),
    "residual, weighting": ({"name": "deephe3-residual", "start": "two-centre"}, {"orbital_weighting": 0.5}),
    "residual, average": ({"name": "deephe3-residual", "start": "two-centre"}, {"ema_decay": 0.99}),
}
"""Name -> changes of the network, changes of the training."""


def run(dataset: Path, epochs: int, seed: int, network: dict[str, Any], options: dict[str, Any]) -> list[float]:
    """MAE and RMSE of the average in meV, RMSE of the single directions in meV, CPU seconds of training."""
    values = {**COMMON, **options, "epochs": epochs, "seed": seed, "network": {**NETWORK, **network}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = time.process_time()
        train(TrainConfig.model_validate({"dataset": str(dataset), **values}), folder, quiet=True)
        seconds = time.process_time() - start
        reports = [
            evaluate(
                EvaluateConfig(
                    dataset=str(dataset),
                    model=str(folder / "model"),
                    members="validation",
                    strict=strict,
                    device="cpu",
                    output=str(folder / "evaluate.json"),
                )
            )
            for strict in (False, True)
        ]
    return [1e3 * reports[0]["mae_eV"], 1e3 * reports[0]["rmse_eV"], 1e3 * reports[1]["rmse_eV"], seconds]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), help="these variants alone")
    arguments = parser.parse_args()
    print("| variant | MAE, meV | RMSE | RMSE, strict | CPU s |\n|---|---|---|---|---|")
    for name in arguments.only or VARIANTS:
        found = np.array(
            [run(arguments.dataset, arguments.epochs, seed, *VARIANTS[name]) for seed in range(arguments.seeds)]
        )
        spread = " ".join(f"{value:.2f}" for value in found[:, 0])
        mae, rmse, strict, seconds = found.mean(axis=0)
        print(f"| {name} | {mae:.2f} ({spread}) | {rmse:.1f} | {strict:.1f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
