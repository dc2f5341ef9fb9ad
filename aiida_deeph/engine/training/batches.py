"""Which members are in which step, and their graphs as batches on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from aiida_deeph.engine.training.data import GraphSet

Step = tuple[int, ...]

#: Batches beyond this many bytes are collated anew every time.
KEEP_BATCHES = 4 * 2**30


def epoch_steps(n_members: int, batch_size: int, *, seed: int, epoch: int, world_size: int = 1) -> list[Step]:
    """Members of each step of an epoch, all ranks together: another order each epoch, the same for the same epoch.

    :param batch_size: members per rank and step; only the last step may hold fewer.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n_members)
    size = batch_size * world_size
    return [tuple(sorted(order[first : first + size].tolist())) for first in range(0, n_members, size)]


def share_of_rank(step: Step, rank: int, world_size: int) -> Step:
    """Members of a step that one rank computes; may be empty in the last step."""
    return step[rank::world_size]


def split_by_edges(step: Step, n_edges: NDArray[np.int64], limit: int | None) -> list[Step]:
    """Parts of a step with at most `limit` edges each (a single larger member stays whole)."""
    if limit is None:
        return [step]
    parts: list[list[int]] = [[]]
    total = 0
    for member in step:
        if parts[-1] and total + n_edges[member] > limit:
            parts.append([])
            total = 0
        parts[-1].append(member)
        total += int(n_edges[member])
    return [tuple(part) for part in parts]


class BatchSource:
    """Collated batches of a set of graphs, kept on the device as far as they fit.

    :param keep: largest number of bytes to keep.
    :param workers: processes that read and collate ahead; with them nothing is kept.
    """

    def __init__(self, graphs: GraphSet, device: torch.device, *, keep: int = KEEP_BATCHES, workers: int = 0) -> None:
        self.graphs = graphs
        self._device = device
        self._room = keep
        self._workers = workers
        self._kept: dict[Step, Batch] = {}

    def batches(self, parts: Sequence[Step], *, recurring: bool = False) -> Iterator[Batch]:
        """One batch per part, in order.

        :param recurring: the same parts come again, which makes them worth their memory; single members always are.
        """
        if self._workers and parts:
            pinned = self._device.type == "cuda"
            loader: Iterable[Batch] = DataLoader(
                self.graphs,
                batch_sampler=[list(part) for part in parts],
                collate_fn=Batch.from_data_list,
                num_workers=self._workers,
                pin_memory=pinned,
            )
            for batch in loader:
                yield batch.to(self._device, non_blocking=pinned)
            return
        for part in parts:
            yield self._batch(part, recurring or len(part) == 1)

    def _batch(self, part: Step, recurring: bool) -> Batch:
        batch = self._kept.get(part)
        if batch is not None:
            return batch
        batch = Batch.from_data_list([self.graphs[n] for n in part]).to(self._device)
        size = sum(value.nbytes for value in batch.to_dict().values() if isinstance(value, torch.Tensor))
        if recurring and size <= self._room:
            self._kept[part] = batch
            self._room -= size
        return batch
