"""Processes that torchrun started together: each predicts a share of the atom pairs of one structure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from aiida_deeph.engine.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    :param rank: from 0; the first one collects the result.
    :param size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process collects the result and writes it."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n items; all parts together are all items, in the order of the ranks.

        :raises InputError: there are fewer items than processes.
        """
        if n < self.size:
            raise InputError(
                "more processes than atom pairs", where="torchrun", found=self.size, expected=f"at most {n}"
            )
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

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
def started_ranks(device: torch.device) -> Iterator[Ranks]:
    """The processes of torchrun, joined; without torchrun this process alone. A GPU each where the device is CUDA."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
