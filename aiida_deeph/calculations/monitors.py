"""What AiiDA looks at while a training runs."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path, PurePosixPath

from aiida.orm import CalcJobNode
from aiida.transports import Transport

from aiida_deeph.calculations.metrics import Row, divergence, parse_rows, progress
from aiida_deeph.calculations.train import METRICS_FILE
from aiida_deeph.engine.training.config import TrainConfig

# Extra of the node that holds its progress.
PROGRESS = "deeph_progress"


def watch_training(node: CalcJobNode, transport: Transport, factor: float = 10.0, patience: int = 50) -> str | None:
    """Stop a training whose validation loss stays far above its best, and note the progress in the node's extras.

    What the engine finds by itself (a loss that is not finite) it ends by itself; this monitor ends what would only
    waste the rest of the walltime. The job's outputs are retrieved all the same, the best model among them.

    :param factor: an epoch is bad when its validation loss exceeds so many times the best one before it.
    :param patience: so many bad epochs in a row end the training.
    :return: why it is stopped, or None.
    """
    rows = remote_rows(node, transport)
    known = progress(rows, wanted_epochs(node))
    if known is None:
        return None
    node.base.extras.set(PROGRESS, {**dataclasses.asdict(known), "seconds_left_units": "s", "best_mae_units": "eV"})
    return divergence(rows, factor, patience)


def wanted_epochs(node: CalcJobNode) -> int:
    """The number of epochs that a training was asked for."""
    epochs: int = node.inputs.parameters.get("epochs", TrainConfig.model_fields["epochs"].default)
    return epochs


def remote_rows(node: CalcJobNode, transport: Transport) -> list[Row]:
    """Epochs of a running job; none before its first has ended."""
    folder = node.get_remote_workdir()
    if folder is None:
        return []
    source = str(PurePosixPath(folder) / METRICS_FILE)
    if not transport.path_exists(source):
        return []
    with tempfile.TemporaryDirectory() as local:
        target = Path(local) / METRICS_FILE
        transport.getfile(source, str(target))
        return parse_rows(target.read_text(encoding="utf-8", errors="replace"))
