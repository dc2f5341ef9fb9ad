"""`deeph-engine predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aiida_deeph.engine.config import load_config, parse_config
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.prediction.config import PredictConfig


@click.command("predict")
@click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", help="Model folder.")
@click.option("--structure", help="DeepH folder (its overlap is copied along) or any structure file that ase reads.")
@click.option("--output", help="DeepH folder to write.  [default: prediction]")
@click.option("--strict", is_flag=True, default=None, help="Keep each direction of a pair as predicted.")
@click.option("--edges-per-chunk", type=int, help="Edges in memory at a time.  [default: 20000]")
@click.option("--precision", type=click.Choice(["float32", "float64"]), help="[default: float32]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="[default: auto]")
@click.option("--threads", type=int, help="Threads of torch on CPU.")
def command(config: Path | None, **options: Any) -> None:
    """Predict the Hamiltonian H(R) of a structure into a DeepH folder.

    Say what to do by the options, or by CONFIG (JSON or YAML with the same names); options win over CONFIG. N processes
    or GPUs share one structure: torchrun --no-python --nproc-per-node N deeph-engine predict ...
    """
    given = {name: value for name, value in options.items() if value is not None}
    if config is not None:
        settings = parse_config(
            PredictConfig, {**load_config(PredictConfig, config).model_dump(), **given}, "command line"
        )
    else:
        missing = [f"--{name}" for name in ("model", "structure") if name not in given]
        if missing:
            raise InputError("nothing to predict", where="command line", expected=f"{' and '.join(missing)}, or CONFIG")
        settings = parse_config(PredictConfig, given, "command line")
    from aiida_deeph.engine.prediction.predict import REPORT_FILE, predict

    folder = predict(settings)
    if folder is None:
        return
    report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    click.echo(
        f"{folder}: {report['n_atoms']} atoms, {report['n_pairs']} atom pairs, {report['seconds']:.1f} s, "
        f"peak memory {report['peak_memory_GiB']:.2f} GiB"
    )
    outside = report["largest_overlap_outside"]
    distances = report.get("outside_trained_distances", {"n_pairs": 0})
    if distances["n_pairs"]:
        worst = distances["pairs"][0]
        click.echo(
            f"{distances['n_pairs']} pairs at distances that the model was not trained on, "
            f"first {worst['elements']} at {worst['distance_A']:.3f} A"
        )
    if outside is not None and outside > 0:
        click.echo(f"overlap outside the model's pairs: at most {outside:.2e}; H is zero there")
    if not report["overlap"]:
        click.echo(
            "no overlap beside the structure: hamiltonian.h5 alone was written (bands need `deeph-engine overlap`)"
        )
