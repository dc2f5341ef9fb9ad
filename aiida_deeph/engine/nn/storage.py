"""A model folder: weights as safetensors (which can hold no code) beside their description."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic
from aiida_deeph.engine.io.model import DESCRIPTION_FILE, WEIGHTS_FILE, ModelDescription, read_description
from aiida_deeph.engine.nn.network import Network, build_network


def save_model(folder: Path, network: Network, description: ModelDescription) -> ModelDescription:
    """Write `weights.safetensors`, then `model.json`, each in one step.

    :returns: the description with the hash of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    content = save(tensors)
    description = description.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        temporary.write_bytes(content)
    write_text_atomic(folder / DESCRIPTION_FILE, description.model_dump_json(indent=2) + "\n")
    return description


def load_model(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Network, ModelDescription]:
    """Read a model folder.

    :param dtype: of the weights in memory.
    :returns: the network in evaluation mode and its description.
    :raises InputError: not a model folder.
    :raises DataError: the weights are damaged or do not fit the description.
    """
    folder = Path(folder)
    description = read_description(folder)
    try:
        network = build_network(description).to(dtype)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            "architecture does not fit the network",
            where=folder / DESCRIPTION_FILE,
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            expected=f"what `{description.network}` of this version writes",
        ) from None
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
        network.load_state_dict({name: value.to(dtype) for name, value in tensors.items()})
    except (SafetensorError, RuntimeError) as error:
        raise DataError(
            "weights do not fit the description",
            where=folder / WEIGHTS_FILE,
            found=str(error)[:200],
            expected="the tensors of the network that model.json describes",
        ) from None
    return network.to(device).eval(), description
