"""The normalisation of DeepH-E3 (Gong et al., Nat. Commun. 14, 2848 (2023), Methods): means over a whole structure.

For every entry the mean over the items of a graph and over the channels is subtracted (each component m by itself); scalars
are divided by their root mean square, other irreps are not; then a weight per channel, and a bias on even scalars.
Features on edges are stored in the edges' frames: their mean is taken in the laboratory and rotated into every frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aiida_deeph.engine.nn.features import FeatureLayout, Features
from aiida_deeph.engine.nn.frames import Frames
from aiida_deeph.engine.nn.irreps import Irreps
from aiida_deeph.engine.nn.linear import SCALAR
from aiida_deeph.engine.nn.module import EngineModule


@dataclass
class Statistics:
    """Sums over a part of the items of one graph, in float64: added up over the parts they give the means.

    :param n: items.
    :param first: per entry of the layout's order the sum over items of the channels' mean, shape (2 l + 1,), laboratory.
    :param second: per scalar entry the sum over items of the channels' mean square.
    """

    n: int
    first: list[Tensor]
    second: list[Tensor]

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.n + other.n,
            [a + b for a, b in zip(self.first, other.first, strict=True)],
            [a + b for a, b in zip(self.second, other.second, strict=True)],
        )


class EquivariantLayerNorm(EngineModule):
    """:param irreps: of the features, in and out."""

    epsilon = 1e-5

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = irreps
        self.layout = FeatureLayout(irreps)
        self.weight = nn.Parameter(torch.ones(irreps.n_channels))
        self.bias = nn.Parameter(torch.zeros(sum(mul for mul, ir in irreps if ir == SCALAR)))
        order = self.layout.channel_order()
        self.is_sorted = order == list(range(len(order)))
        if not self.is_sorted:
            self.constant("order", np.array(order))
        # Averages of the channels of each entry of V_0, shape (n_channels, n_entries).
        average = np.zeros((self.layout.n_channels(0), len(self.layout.vectors)))
        for n, k in enumerate(self.layout.vectors):
            first, mul = self.layout.first[k], irreps[k].mul
            average[first : first + mul, n] = 1 / mul
        self.constant("average", average)
        self.constant("spread", (average.T > 0).astype(np.float64))

    def _scalars(self, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Each scalar entry with its bias."""
        biases = iter(self.bias.split([mul for mul, ir in self.irreps_in if ir == SCALAR]))
        bias_of = {k: next(biases) for k, (_, ir) in enumerate(self.irreps_in) if ir == SCALAR}
        parts = x.split([self.irreps_in[k].mul for k in self.layout.scalars], dim=1)
        return [(part, bias_of.get(k)) for k, part in zip(self.layout.scalars, parts, strict=True)]

    def _channel_means(self, x: Features) -> dict[int, Tensor]:
        """Mean over the channels of each entry with l > 0, shape (n_items, 2 l + 1)."""
        parts: dict[int, list[Tensor]] = {k: [] for k in self.layout.vectors}
        for m, v in enumerate(x[1:]):
            entries = self.layout.entries(m)
            means = v @ self.average[self.layout.skipped(m) :, len(self.layout.vectors) - len(entries) :]
            for k, mean in zip(entries, means.unbind(dim=2), strict=True):
                parts[k].append(mean)
        return {k: torch.cat(means, dim=1) for k, means in parts.items()}

    def _finish(self, scalars: list[Tensor], x: Features, means: dict[int, Tensor]) -> Features:
        """Subtract the means of vectors and apply the weights.

        :param scalars: of each entry, centred and divided.
        :param means: of each entry with l > 0, for each item or one for all, in the items' frames.
        """
        weight = self.weight if self.is_sorted else self.weight.index_select(0, self.order)
        weight_s, weight_v = weight.split([self.layout.n_scalars, self.layout.n_channels(0)])
        weights = weight_s.split([self.irreps_in[k].mul for k in self.layout.scalars])
        biases = [bias for _, bias in self._scalars(x[0])]
        parts = [
            part * w if bias is None else torch.addcmul(bias, part, w)
            for part, w, bias in zip(scalars, weights, biases, strict=True)
        ]
        result = [parts[0] if len(parts) == 1 else torch.cat([*parts, x[0][:, :0]], dim=1)]
        split = {k: mean.split([1] + [2] * self.irreps_in[k].irrep.l, dim=1) for k, mean in means.items()}
        for m, v in enumerate(x[1:]):
            entries = self.layout.entries(m)
            w = weight_v[self.layout.skipped(m) :]
            spread = self.spread[len(self.layout.vectors) - len(entries) :, self.layout.skipped(m) :] * w
            mean = torch.stack([split[k][m] for k in entries], dim=2)
            if len(mean) == len(v):
                shifted = torch.addmm((v * w).view(-1, v.shape[2]), mean.view(-1, len(entries)), spread, alpha=-1)
                result.append(shifted.view(v.shape))
            else:
                result.append(v * w - mean @ spread)
        return result

    def forward(self, x: Features, graph: Tensor | None, n_graphs: int, frames: Frames | None = None) -> Features:
        """Normalise.

        :param graph: graph of each item, shape (n_items,); None if there is one graph.
        :param frames: of the edges, if the features are those of edges.
        """
        counts = None if graph is None else torch.bincount(graph, minlength=n_graphs).clamp(min=1).to(x[0].dtype)

        def mean_of(values: Tensor) -> Tensor:
            """Mean over the items of each graph, for each item or one for all: shape (n_items or 1, ...)."""
            if graph is None:
                return values.mean(dim=0, keepdim=True)
            total = values.new_zeros(n_graphs, values.shape[1]).index_add_(0, graph, values)
            return (total / counts[:, None]).index_select(0, graph)

        scalars = []
        for part, _ in self._scalars(x[0]):
            centred = part - mean_of(part.mean(dim=1, keepdim=True))
            scalars.append(centred / (mean_of(centred.square().mean(dim=1, keepdim=True)).sqrt() + self.epsilon))
        means = {}
        for k, mean in self._channel_means(x).items():
            if frames is None:
                means[k] = mean_of(mean)
                continue
            matrix = frames.matrix(self.irreps_in[k].irrep)
            d = matrix.shape[1]
            if graph is None:
                # Both rotations are products of one long matrix with a vector.
                total = mean.view(1, -1) @ matrix.view(-1, d)
                means[k] = (matrix.view(-1, d) @ (total.view(d, 1) / len(mean))).view(-1, d)
            else:
                laboratory = (matrix * mean.unsqueeze(2)).sum(dim=1)
                means[k] = (matrix * mean_of(laboratory).unsqueeze(1)).sum(dim=2)
        return self._finish(scalars, x, means)

    def statistics(self, x: Features, frames: Frames | None = None) -> Statistics:
        """Sums over a part of the items of one graph."""
        parts = [part.double() for part, _ in self._scalars(x[0])]
        first = [part.mean(dim=1).sum(dim=0, keepdim=True) for part in parts]
        second = [part.square().mean(dim=1).sum(dim=0, keepdim=True) for part in parts]
        for k, mean in self._channel_means(x).items():
            if frames is not None:
                matrix = frames.matrix(self.irreps_in[k].irrep)
                mean = (matrix * mean.unsqueeze(2)).sum(dim=1)
            first.append(mean.sum(dim=0, dtype=torch.float64))
        return Statistics(len(x[0]), first, second)

    def normalise(self, x: Features, statistics: Statistics, frames: Frames | None = None) -> Features:
        """Normalise a part of the items of one graph with the sums over all its items."""
        means = [total / statistics.n for total in statistics.first]
        scalars = []
        for (part, _), mean, square in zip(self._scalars(x[0]), means, statistics.second, strict=False):
            rms = (square / statistics.n - mean.square()).clamp(min=0).sqrt() + self.epsilon
            scalars.append((part - mean.to(part.dtype)) / rms.to(part.dtype))
        vectors = {}
        for k, mean in zip(self.layout.vectors, means[len(self.layout.scalars) :], strict=True):
            exact = mean.to(x[0].dtype)
            if frames is None:
                vectors[k] = exact.view(1, -1)
            else:
                matrix = frames.matrix(self.irreps_in[k].irrep)
                vectors[k] = (matrix.view(-1, len(mean)) @ exact).view(-1, len(mean))
        return self._finish(scalars, x, vectors)
