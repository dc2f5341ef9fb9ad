"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """w_average <- d w_average + (1 - d) w after every step, with d = min(decay, (1 + n) / (10 + n)) in step n.

    The smaller d of the first steps forgets the random start.

    :param network: whose parameters are averaged.
    :param decay: in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network = network
        self._decay = decay
        self.steps = 0
        self.weights = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights in."""
        weight = 1 - min(self._decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.weights.values()), [p.detach() for p in self._network.parameters()], weight)
        self.steps += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network with its averaged weights; the trained ones come back at the end."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._network.named_parameters():
            # The storage of a parameter must stay where it is: optimiser and DDP refer to it.
            kept = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of steps."""
        return {"steps": self.steps, "weights": {name: value.clone() for name, value in self.weights.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.steps = state["steps"]
        for name, value in self.weights.items():
            value.copy_(state["weights"][name])
