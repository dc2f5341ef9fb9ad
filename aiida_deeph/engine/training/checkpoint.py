"""The folder `checkpoint/`: all that a training needs to go on exactly where it was."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.training.config import TrainConfig

CHECKPOINT_FOLDER = "checkpoint"
CHECKPOINT_FILE = "state.pt"
#: Says in a few bytes how far the state beside it came; written after it.
PROGRESS_FILE = "progress.json"
CHECKPOINT_VERSION = 1

#: A continued training may differ from its first part in these alone; all else shapes the result.
FREE_FIELDS = frozenset(
    {
        "dataset",
        "epochs",
        "max_seconds",
        "checkpoint_every",
        "restart",
        "device",
        "threads",
        "loader_workers",
        "max_edges_per_batch",
        "min_learning_rate",
        "initial_model",
        # Their product is compared as the number of processes.
        "processes_per_node",
        "nodes",
    }
)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain types; a crash leaves the former checkpoint whole."""
    with atomic_path(folder / CHECKPOINT_FILE) as temporary:
        # By way of memory: torch itself does not say that a disk is full.
        content = io.BytesIO()
        torch.save({**state, "version": CHECKPOINT_VERSION}, content)
        temporary.write_bytes(content.getbuffer())
    progress = {key: state[key] for key in ("epoch", "step", "seconds") if key in state}
    write_text_atomic(folder / PROGRESS_FILE, json.dumps(progress) + "\n")


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a state; tensors and plain types alone are accepted, so that a checkpoint can run no code.

    :raises InputError: no checkpoint there, or one of a newer version.
    :raises DataError: the file is damaged or holds other things.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise InputError(
            "no checkpoint to continue from", where=path, remedy="give the folder `checkpoint` of a former training"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version = int(state["version"])
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            "checkpoint is damaged",
            where=path,
            found=str(error)[:80],
            remedy="train from the start, or from an older checkpoint",
        ) from None
    if version > CHECKPOINT_VERSION:
        raise InputError(
            "checkpoint of a newer version",
            where=path,
            found=version,
            expected=CHECKPOINT_VERSION,
            remedy="update aiida-deeph",
        )
    return dict(state)


def require_same_run(
    state: dict[str, Any], config: TrainConfig, split: dict[str, list[str]], where: Path, world_size: int = 1
) -> None:
    """Refuse to continue with other settings, other data or other processes than the first part had.

    :param split: uuid of the members of each part, in order.
    :param world_size: number of processes.
    :raises InputError: naming the field that differs.
    """
    if state["world_size"] != world_size:
        raise InputError(
            "number of processes differs from that of the checkpoint",
            found=world_size,
            expected=state["world_size"],
            remedy="start as many processes as before: the effective batch is batch_size times their number",
        )
    # Read anew, so that fields that are younger than the checkpoint have their defaults.
    former = parse_config(TrainConfig, state["config"], where).model_dump(mode="json")
    present = config.model_dump(mode="json")
    for field in sorted(set(present) - FREE_FIELDS):
        if former.get(field) != present[field]:
            raise InputError(
                "setting differs from that of the checkpoint",
                where=field,
                found=present[field],
                expected=former.get(field),
                remedy="keep the settings, or train anew from initial_model",
            )
    if state["split"] != split:
        raise InputError(
            "dataset differs from that of the checkpoint",
            where=where,
            found=f"{sum(map(len, split.values()))} members",
            expected="the members that the training began with",
            remedy="keep the dataset, or train anew from initial_model",
        )


def description_of(state: dict[str, Any]) -> ModelDescription:
    """The model that the checkpoint trains.

    :raises DataError: the description is damaged.
    """
    try:
        return ModelDescription.model_validate(state["description"])
    except (KeyError, ValidationError) as error:
        raise DataError("checkpoint without model description", found=str(error)[:80]) from None
