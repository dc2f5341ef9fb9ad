"""`deeph-engine train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.training.config import TrainConfig


@click.command("train")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--quiet", is_flag=True, help="Print nothing while it trains.")
def command(config: Path, quiet: bool) -> None:
    """Train a network on a dataset; CONFIG is JSON or YAML (fields: dataset, network, epochs, ...).

    Paths in CONFIG are relative to the working directory, where model/, checkpoint/, metrics.jsonl and train.json are
    written. Exit status 3: diverged, the best model is kept; 4: stopped by SIGTERM or max_seconds, continue with
    `restart: checkpoint`. On N devices of this node: `processes_per_node: N`; on several nodes of a job also `nodes`,
    and this command once on each node (`srun`, `mpirun`).
    """
    settings = load_config(TrainConfig, config)
    from aiida_deeph.engine.training.launch import launch, needs_launch

    if needs_launch(settings, os.environ):
        sys.exit(launch(settings, config, quiet=quiet))
    from aiida_deeph.engine.training.run import train

    train(settings, quiet=quiet)
