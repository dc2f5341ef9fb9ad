"""The normalisation of DeepH-E3 (Gong et al., Nat. Commun. 14, 2848 (2023), Methods): means over a whole structure.

For every entry the mean over the items of a graph and over the channels is subtracted (each component m by itself); scalars
are divided by their root mean square, other irreps are not; then a weight per channel, and a bias on even scalars.
Features on edges are stored in the edges' frames: their mean is taken in the laboratory and rotated into every frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiida_deeph.engine.nn.frames import Frames
from aiida_deeph.engine.nn.irreps import Irreps
from aiida_deeph.engine.nn.linear import SCALAR
from aiida_deeph.engine.nn.module import EngineModule, Features


@dataclass
class Statistics:
    """Sums over a part of the items of one graph, in float64: added up over the parts they give the means.

    :param n: items.
    :param first: per entry the sum over items of the channels' mean, shape (2 l + 1,), laboratory.
    :param second: per scalar entry the sum over items of the channels' mean square; None for l > 0.
    """

    n: int
    first: list[Tensor]
    second: list[Tensor | None]

    def __add__(self, other: Statistics) -> Statistics:
        second = [a if a is None else a + b for a, b in zip(self.second, other.second, strict=True)]
        return Statistics(self.n + other.n, [a + b for a, b in zip(self.first, other.first, strict=True)], second)


class EquivariantLayerNorm(EngineModule):
    """:param irreps: of the features, in and out."""

    epsilon = 1e-5

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = irreps
        self.weight = nn.Parameter(torch.ones(irreps.n_channels))
        self.bias = nn.Parameter(torch.zeros(sum(mul for mul, ir in irreps if ir == SCALAR)))

    def _weights(self) -> list[tuple[Tensor, Tensor | None]]:
        weights = self.weight.split([mul for mul, _ in self.irreps_in])
        biases = iter(self.bias.split([mul for mul, ir in self.irreps_in if ir == SCALAR]))
        return [(w, next(biases) if ir == SCALAR else None) for w, (_, ir) in zip(weights, self.irreps_in, strict=True)]

    def forward(self, x: Features, graph: Tensor | None, n_graphs: int, frames: Frames | None = None) -> Features:
        """Normalise.

        :param graph: graph of each item, shape (n_items,); None if there is one graph.
        :param frames: of the edges, if the features are those of edges.
        """
        result = []
        counts = None if graph is None else torch.bincount(graph, minlength=n_graphs).clamp(min=1).to(x[0].dtype)

        def mean_of(values: Tensor) -> Tensor:
            """Mean over the items of each graph, for each item or one for all: shape (n_items or 1, ...)."""
            if graph is None:
                return values.mean(dim=0, keepdim=True)
            total = values.new_zeros(n_graphs, *values.shape[1:]).index_add_(0, graph, values)
            return (total / counts.view(-1, *[1] * (values.dim() - 1))).index_select(0, graph)

        for entry, (_, ir), (weight, bias) in zip(x, self.irreps_in, self._weights(), strict=True):
            channel_mean = entry.mean(dim=2, keepdim=True)
            if frames is None or ir.l == 0:
                mean = mean_of(channel_mean)
            else:
                matrix = frames.matrix(ir)
                mean = mean_of(matrix.transpose(1, 2) @ channel_mean)
                mean = matrix @ mean
            centred = entry - mean
            if ir.l == 0:
                rms = mean_of(centred.square().mean(dim=2, keepdim=True)).sqrt() + self.epsilon
                centred = centred / rms
            centred = centred * weight
            result.append(centred if bias is None else centred + bias)
        return result

    def statistics(self, x: Features, frames: Frames | None = None) -> Statistics:
        """Sums over a part of the items of one graph."""
        first, second = [], []
        for entry, (_, ir) in zip(x, self.irreps_in, strict=True):
            channel_mean = entry.mean(dim=2, keepdim=True)
            if frames is not None and ir.l:
                channel_mean = frames.matrix(ir).transpose(1, 2) @ channel_mean
            first.append(channel_mean[:, :, 0].sum(dim=0, dtype=torch.float64))
            second.append(None if ir.l else entry.square().mean(dim=2).sum(dtype=torch.float64))
        return Statistics(len(x[0]), first, second)

    def normalise(self, x: Features, statistics: Statistics, frames: Frames | None = None) -> Features:
        """Normalise a part of the items of one graph with the sums over all its items."""
        result = []
        for k, (entry, (_, ir), (weight, bias)) in enumerate(zip(x, self.irreps_in, self._weights(), strict=True)):
            exact = statistics.first[k] / statistics.n
            mean = exact.to(entry.dtype).view(1, -1, 1)
            if frames is not None and ir.l:
                mean = frames.matrix(ir) @ mean
            centred = entry - mean
            if ir.l == 0:
                variance = (statistics.second[k] / statistics.n - exact.square()).clamp(min=0)
                centred = centred / (variance.sqrt() + self.epsilon).to(entry.dtype)
            centred = centred * weight
            result.append(centred if bias is None else centred + bias)
        return result
