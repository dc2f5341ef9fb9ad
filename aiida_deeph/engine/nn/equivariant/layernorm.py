"""The normalisation of DeepH-E3 (Gong et al., Nat. Commun. 14, 2848 (2023), Methods): means over a whole structure.

For every entry the mean over the items of a graph and over the channels is subtracted (each component m by itself);
scalars are divided by their root mean square, other irreps are not; then a weight per channel, and a bias on even
scalars. Features on edges are stored in the edges' frames: their mean is taken in the laboratory and rotated into every
frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.frames import Frames
from aiida_deeph.engine.nn.equivariant.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.equivariant.linear import SCALAR
from aiida_deeph.engine.nn.equivariant.module import EngineModule, Function


class EquivariantLayerNorm(EngineModule):
    """:param irreps: of the features, in and out."""

    epsilon = 1e-5
    order: Tensor
    average: Tensor
    spread: Tensor

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
        # Averages of the channels of each entry of V_0, shape (n_channels, n_entries), and the way back.
        average = np.zeros((self.layout.n_channels(0), len(self.layout.vectors)))
        for n, k in enumerate(self.layout.vectors):
            first, mul = self.layout.first[k], irreps[k].mul
            average[first : first + mul, n] = 1 / mul
        self.constant("average", average)
        self.constant("spread", (average.T > 0).astype(np.float64))

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of all channels of S and V_0 and the bias of S (zero on odd scalars)."""
        weight = self.weight if self.is_sorted else self.weight.index_select(0, self.order)
        scalars, vectors = weight.split([self.layout.n_scalars, self.layout.n_channels(0)])
        bias: Tensor = self.bias
        if len(bias) != self.layout.n_scalars:
            even = [k for k in self.layout.scalars if self.irreps_in[k].irrep == SCALAR]
            parts = dict(zip(even, bias.split([self.irreps_in[k].mul for k in even]), strict=True))
            zeros = {k: bias.new_zeros(self.irreps_in[k].mul) for k in self.layout.scalars if k not in parts}
            bias = torch.cat([{**parts, **zeros}[k] for k in self.layout.scalars] or [bias])
        return scalars, vectors, bias

    def forward(
        self,
        x: Features,
        past: Features,
        graph: Tensor | None,
        n_graphs: int,
        frames: Frames | None = None,
        sums: list[Tensor] | None = None,
    ) -> Features:
        """past + normalised x.

        :param graph: graph of each item, shape (n_items,); None if there is one graph.
        :param frames: of the edges, if the features are those of edges.
        :param sums: see `sums`, over all items of the one graph that these are a part of; None: these are all.
        """
        if sums is not None:
            return self._normalise(x, past, sums, frames)
        counts = None if graph is None else torch.bincount(graph, minlength=n_graphs).clamp(min=1).to(x[0].dtype)
        means = Means(graph, n_graphs, counts, frames)
        return list(_Normalised.apply(self, means, *self._weights(), len(x), *x, *past))

    def channel_means(self, vectors: Sequence[Tensor]) -> dict[int, Tensor]:
        """Mean over the channels of each entry with l > 0, shape (n_items, 2 l + 1)."""
        parts: dict[int, list[Tensor]] = {k: [] for k in self.layout.vectors}
        for m, v in enumerate(vectors):
            entries = self.layout.entries(m)
            means = v @ self.average[self.layout.skipped(m) :, len(self.layout.vectors) - len(entries) :]
            for k, mean in zip(entries, means.unbind(dim=2), strict=True):
                parts[k].append(mean)
        return {k: torch.cat(means, dim=1) for k, means in parts.items()}

    def without(self, vectors: Sequence[Tensor], means: dict[int, Tensor]) -> list[Tensor]:
        """V_m with the means of each entry subtracted from its channels.

        :param means: of shape (n_items or 1, 2 l + 1), in the frames of the items.
        """
        split = {k: mean.split([1] + [2] * self.irreps_in[k].irrep.l, dim=1) for k, mean in means.items()}
        result = []
        for m, v in enumerate(vectors):
            entries = self.layout.entries(m)
            spread = self.spread[len(self.layout.vectors) - len(entries) :, self.layout.skipped(m) :]
            mean = torch.stack([split[k][m] for k in entries], dim=2)
            if len(mean) == len(v):
                rows = torch.addmm(v.reshape(-1, v.shape[2]), mean.view(-1, len(entries)), spread, alpha=-1)
                result.append(rows.view(v.shape))
            else:
                result.append(v - mean @ spread)
        return result

    def sums(self, x: Features, frames: Frames | None = None) -> list[Tensor]:
        """Sums over a part of the items of one graph, float64: added up over all parts they give the means.

        :returns: number of items, shape (1,); for each entry in the layout's order the sum over items of the channels'
            mean in the laboratory, shape (2 l + 1,); for each scalar entry that of the channels' mean square, shape
            (1,).
        """
        parts = [part.double() for part in self.scalar_entries(x[0])]
        first = [part.mean(dim=1).sum(dim=0, keepdim=True) for part in parts]
        second = [part.square().mean(dim=1).sum(dim=0, keepdim=True) for part in parts]
        for k, mean in self.channel_means(x[1:]).items():
            if frames is not None:
                matrix = frames.matrix(self.irreps_in[k].irrep)
                mean = (matrix * mean.unsqueeze(2)).sum(dim=1)
            first.append(mean.sum(dim=0, dtype=torch.float64))
        count = torch.full((1,), len(x[0]), dtype=torch.float64, device=x[0].device)
        return [count, *first, *second]

    def _normalise(self, x: Features, past: Features, sums: list[Tensor], frames: Frames | None) -> Features:
        weight_s, weight_v, bias = self._weights()
        n_means = len(self.layout.order)
        means, squares = ([total / sums[0] for total in part] for part in (sums[1 : n_means + 1], sums[n_means + 1 :]))
        scalars = []
        for part, mean, square in zip(self.scalar_entries(x[0]), means, squares, strict=False):
            rms = (square - mean.square()).clamp(min=0).sqrt() + self.epsilon
            scalars.append((part - mean.to(part.dtype)) / rms.to(part.dtype))
        s = (scalars[0] if len(scalars) == 1 else torch.cat([*scalars, x[0][:, :0]], dim=1)) * weight_s + bias
        vectors = {}
        for k, mean in zip(self.layout.vectors, means[len(self.layout.scalars) :], strict=True):
            exact = mean.to(x[0].dtype)
            if frames is None:
                vectors[k] = exact.view(1, -1)
            else:
                matrix = frames.matrix(self.irreps_in[k].irrep)
                vectors[k] = (matrix.view(-1, len(mean)) @ exact).view(-1, len(mean))
        centred = self.without(x[1:], vectors)
        result = [
            old + v * weight_v[self.layout.skipped(m) :]
            for m, (v, old) in enumerate(zip(centred, past[1:], strict=True))
        ]
        return [past[0] + s, *result]

    def scalar_entries(self, s: Tensor) -> tuple[Tensor, ...]:
        """Each entry of S by itself."""
        entries: tuple[Tensor, ...] = s.split([self.irreps_in[k].mul for k in self.layout.scalars], dim=1)
        return entries


@dataclass
class Means:
    """Means over the items of each graph.

    :param graph: graph of each item, None if there is one.
    :param counts: items of each graph.
    """

    graph: Tensor | None
    n_graphs: int
    counts: Tensor | None
    frames: Frames | None

    def of(self, values: Tensor) -> Tensor:
        """Mean over the items of a graph, for each item or one for all: shape (n_items or 1, n)."""
        if self.graph is None or self.counts is None:
            return values.mean(dim=0, keepdim=True)
        total = values.new_zeros(self.n_graphs, values.shape[1]).index_add_(0, self.graph, values)
        return (total / self.counts[:, None]).index_select(0, self.graph)

    def in_frames(self, values: Tensor, irrep: Irrep) -> Tensor:
        """The same for components in the items' frames: turned to the laboratory, averaged, and turned back."""
        if self.frames is None:
            return self.of(values)
        matrix = self.frames.matrix(irrep)
        d = matrix.shape[1]
        if self.graph is None:
            # Both rotations are products of one long matrix with a vector.
            total = values.reshape(1, -1) @ matrix.view(-1, d)
            return (matrix.view(-1, d) @ (total.view(d, 1) / len(values))).view(-1, d)
        laboratory = (matrix * values.unsqueeze(2)).sum(dim=1)
        return (matrix * self.of(laboratory).unsqueeze(1)).sum(dim=2)


class _Normalised(Function):
    """past + w x_n + b with x_n = x - P x for vectors and (x - P x) / (rms + epsilon) for scalars.

    P, the mean over items and channels in the laboratory, is a symmetric projection, so that its transpose is itself.
    """

    @staticmethod
    def forward(
        ctx: Any,
        norm: EquivariantLayerNorm,
        means: Means,
        weight_s: Tensor,
        weight_v: Tensor,
        bias: Tensor,
        n_parts: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        x, past = tensors[:n_parts], tensors[n_parts:]
        layout = norm.layout
        normalised, roots = [], []
        for part in norm.scalar_entries(x[0]):
            shifted = part - means.of(part.mean(dim=1, keepdim=True))
            roots.append(means.of(shifted.square().mean(dim=1, keepdim=True)).sqrt())
            normalised.append(shifted.div_(roots[-1] + norm.epsilon))
        s = normalised[0] if len(normalised) == 1 else torch.cat([*normalised, x[0][:, :0]], dim=1)
        projected = {k: means.in_frames(mean, layout.irreps[k].irrep) for k, mean in norm.channel_means(x[1:]).items()}
        centred = norm.without(x[1:], projected)
        ctx.norm, ctx.means = norm, means
        ctx.save_for_backward(weight_s, weight_v, s, *centred, *roots)
        result = [torch.addcmul(past[0] + bias, s, weight_s)]
        for m, (v, old) in enumerate(zip(centred, past[1:], strict=True)):
            result.append(torch.addcmul(old, v, weight_v[layout.skipped(m) :]))
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        norm, means = ctx.norm, ctx.means
        layout = norm.layout
        weight_s, weight_v, s, *rest = ctx.saved_tensors
        centred, roots = rest[: len(grads) - 1], rest[len(grads) - 1 :]
        grad_weight_s, grad_bias = (grads[0] * s).sum(dim=0), grads[0].sum(dim=0)
        parts = []
        for part, g, root in zip(norm.scalar_entries(s), norm.scalar_entries(grads[0] * weight_s), roots, strict=True):
            # d(x_n)/dx of x_n = c / (r + eps), c = x - mean, r = sqrt(mean c^2).
            inner = means.of((g * part).mean(dim=1, keepdim=True))
            slope = inner * (root + norm.epsilon) / root.clamp(min=torch.finfo(root.dtype).tiny)
            grad = (g - part * slope) / (root + norm.epsilon)
            parts.append(grad - means.of(grad.mean(dim=1, keepdim=True)))
        grad_s = parts[0] if len(parts) == 1 else torch.cat([*parts, s[:, :0]], dim=1)
        grad_weight_v = torch.zeros_like(weight_v)
        scaled = []
        for m, (v, g) in enumerate(zip(centred, grads[1:], strict=True)):
            skipped = layout.skipped(m)
            grad_weight_v[skipped:] += (g * v).sum(dim=(0, 1))
            scaled.append(g * weight_v[skipped:])
        projected = {k: means.in_frames(mean, layout.irreps[k].irrep) for k, mean in norm.channel_means(scaled).items()}
        grad_x = [grad_s, *norm.without(scaled, projected)]
        return None, None, grad_weight_s, grad_weight_v, grad_bias, None, *grad_x, *grads
