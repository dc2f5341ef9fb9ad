"""Where torch computes: the device, and processes that torchrun started together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.ranks import Ranks


def find_device(name: str) -> torch.device:
    """The device of a configuration: `auto` takes a GPU if there is one.

    :param name: `auto`, `cpu` or `cuda`.
    :raises InputError: no such device here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device", where="device", found=name, remedy="set device to cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class TorchRanks(Ranks):
    """Ranks that talk by torch.distributed; of prediction, each with a share of the atom pairs of one structure."""

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the sum over all processes; every process gives tensors of the same shapes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def gather(self, values: NDArray[Any]) -> NDArray[Any] | None:
        """The values of all processes one after the other, on the first process; None on the others.

        :param values: shape (n,), of one type on all processes and as many as each has.
        """
        if self.size == 1:
            return values
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(values)
        dist.all_reduce(lengths)
        if not self.is_first:
            dist.send(_plain(values), 0)
            return None
        result = np.empty(int(lengths.sum()), dtype=values.dtype)
        first = np.concatenate([[0], np.cumsum(lengths.numpy())])
        result[: first[1]] = values
        for rank in range(1, self.size):
            # Received in place: nothing is held twice.
            dist.recv(_plain(result[first[rank] : first[rank + 1]]), rank)
        return result


def _plain(values: NDArray[Any]) -> Tensor:
    """The same memory as real numbers: complex ones cannot be sent."""
    tensor = torch.from_numpy(values)
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


@contextmanager
def started_ranks(device: torch.device) -> Iterator[TorchRanks]:
    """The processes of torchrun, joined; without torchrun this process alone. A GPU each where the device is CUDA."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield TorchRanks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield TorchRanks(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
