"""Where torch computes."""

from __future__ import annotations

import torch

from aiida_deeph.engine.errors import InputError


def find_device(name: str) -> torch.device:
    """The device of a configuration: `auto` takes a GPU if there is one.

    :param name: `auto`, `cpu` or `cuda`.
    :raises InputError: no such device here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device", where="device", found=name, remedy="set device to cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
