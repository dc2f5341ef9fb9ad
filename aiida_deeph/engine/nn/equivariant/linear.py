"""Linear maps between features: channels of the same irrep are mixed, with the normalisation of e3nn's Linear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.equivariant.module import EngineModule, Function

Normalization = Literal["path", "element"]
"""How weights of variance 1 are scaled: in e3nn 0.3 each path has the same share, in later versions each channel."""

SCALAR = Irrep(0, 1)

SMALL_GROUPS = 4096
"""Up to so many items times types, one product with zeros costs less than sorting items and a product per type."""


@dataclass(frozen=True)
class Path:
    """Weights from entry `i_in` to entry `i_out`: `weight[start:stop]`, row-major (mul_in, [n_types,] mul_out)."""

    i_in: int
    i_out: int
    start: int
    stop: int
    factor: float


def path_factor(fans: list[int], fan: int, normalization: Normalization) -> float:
    """Factor of one of the paths into an output: 1/sqrt(n fan) ('path') or 1/sqrt(sum of all fans) ('element')."""
    return 1 / math.sqrt(len(fans) * fan if normalization == "path" else sum(fans))


class EquivariantLinear(EngineModule):
    """y_o = sum_i a_io W_io x_i over entries of equal irrep; a bias on the even scalars; optionally weights per type.

    With `n_types` > 1 each item uses the weights of its own type. This is the fully connected tensor product of the
    reference with a one-hot vector ('sc'), whose normalisation counts the types: a 1/sqrt(n_types) is part of a_io.

    :param irreps_in: of the input.
    :param irreps_out: of the output; entries that nothing reaches are zero.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        *,
        bias: bool = False,
        n_types: int = 1,
        normalization: Normalization = "path",
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out, self.n_types = irreps_in, irreps_out, n_types
        self.normalization = normalization
        self.layout_in, self.layout_out = FeatureLayout(irreps_in), FeatureLayout(irreps_out)
        self.paths: list[Path] = []
        start = 0
        for i, (mul_in, ir_in) in enumerate(irreps_in):
            for o, (mul_out, ir_out) in enumerate(irreps_out):
                if ir_in != ir_out:
                    continue
                fans = [mul * n_types for mul, ir in irreps_in if ir == ir_out]
                size = mul_in * n_types * mul_out
                factor = path_factor(fans, mul_in * n_types, normalization)
                self.paths.append(Path(i, o, start, start + size, factor))
                start += size
        self.weight = nn.Parameter(torch.randn(start))
        n_bias = sum(mul for mul, ir in irreps_out if ir == SCALAR) if bias else 0
        self.bias = nn.Parameter(torch.zeros(n_bias)) if n_bias else None
        # Even scalars sit in S in the order of the irreps, odd ones between them have no bias.
        self.even = [k for k in self.layout_out.scalars if irreps_out[k].irrep == SCALAR]
        self._plan()

    def _plan(self) -> None:
        """Which weight stands at each place of the matrices of S and V_0, and with which factor (0 where none does)."""
        inside, outside = self.layout_in, self.layout_out
        shapes = [(inside.n_scalars, outside.n_scalars), (inside.n_channels(0), outside.n_channels(0))]
        indices, scales = [], []
        for kind, shape in enumerate(shapes):
            index = np.full((self.n_types, *shape), -1, dtype=np.int64)
            scale = np.zeros((self.n_types, *shape))
            for path in self.paths:
                if (self.irreps_in[path.i_in].irrep.l > 0) != bool(kind):
                    continue
                mul_in, mul_out = self.irreps_in[path.i_in].mul, self.irreps_out[path.i_out].mul
                rows = slice(inside.first[path.i_in], inside.first[path.i_in] + mul_in)
                columns = slice(outside.first[path.i_out], outside.first[path.i_out] + mul_out)
                places = np.arange(path.start, path.stop).reshape(mul_in, self.n_types, mul_out)
                index[:, rows, columns] = places.transpose(1, 0, 2)
                scale[:, rows, columns] = path.factor
            indices.append(index)
            scales.append(scale)
        self.shapes = [(self.n_types, *shape) for shape in shapes]
        self._gather(
            "dense", np.concatenate([index.ravel() for index in indices]), np.concatenate([s.ravel() for s in scales])
        )
        if inside.vectors and inside.irreps == outside.irreps and self.n_types == 1:
            # The same map on source and target, whose channels alternate entry by entry, see `Edges.ends`.
            muls = inside.muls(0)
            row = np.concatenate(
                [np.concatenate([np.arange(a, a + m)] * 2) for a, m in zip(np.cumsum([0, *muls]), muls, strict=False)]
            )
            end = np.concatenate([np.repeat([0, 1], m) for m in muls])
            same = end[:, None] == end
            index, scale = indices[1][0][np.ix_(row, row)], scales[1][0][np.ix_(row, row)]
            self._gather("ends", np.where(same, index, -1).ravel(), np.where(same, scale, 0.0).ravel())

    def _gather(self, name: str, index: NDArray[np.int64], scale: NDArray[np.float64]) -> None:
        self.constant(f"{name}_index", np.where(index >= 0, index, 0))
        self.constant(f"{name}_scale", scale)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Matrices over all channels of S and of V_0, normalisation included, shape (n_types, n_in, n_out)."""
        flat = self._gathered("dense")
        scalars = math.prod(self.shapes[0])
        return flat[:scalars].view(self.shapes[0]), flat[scalars:].view(self.shapes[1])

    def matrix_of_ends(self) -> Tensor | None:
        """Matrix of this map on the vectors of both ends of the edges, None without vectors."""
        if not self.layout_in.vectors:
            return None
        size = 2 * self.layout_in.n_channels(0)
        return self._gathered("ends").view(size, size)

    def _gathered(self, name: str) -> Tensor:
        scale: Tensor = getattr(self, f"{name}_scale")
        if not self.paths:
            return torch.zeros_like(scale)
        return self.weight.index_select(0, getattr(self, f"{name}_index")) * scale

    def full_bias(self) -> Tensor | None:
        """The bias on all channels of S, None if there is none."""
        if self.bias is None or len(self.bias) == self.layout_out.n_scalars:
            return self.bias
        parts = iter(self.bias.split([self.irreps_out[k].mul for k in self.even]))
        zeros = [
            None if k in self.even else self.bias.new_zeros(self.irreps_out[k].mul) for k in self.layout_out.scalars
        ]
        return torch.cat([next(parts) if zero is None else zero for zero in zeros])

    def forward(self, x: Features, groups: TypeGroups | None = None, onto: Features | None = None) -> Features:
        """Map features.

        :param groups: the type of each item, needed if there is more than one type.
        :param onto: features to which the result is added.
        """
        scalars, vectors = self.matrices()
        groups = groups if self.n_types > 1 else None
        return list(_LinearMap.apply(self, groups, scalars, vectors, self.full_bias(), len(x), *x, *(onto or ())))


class _LinearMap(Function):
    """The products of `EquivariantLinear`: S with one matrix, V_m with the last rows and columns of the other."""

    @staticmethod
    def forward(
        ctx: Any,
        linear: EquivariantLinear,
        groups: TypeGroups | None,
        scalars: Tensor,
        vectors: Tensor,
        bias: Tensor | None,
        n_parts: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        x, onto = tensors[:n_parts], tensors[n_parts:]
        ctx.linear, ctx.groups, ctx.has_bias, ctx.n_onto = linear, groups, bias is not None, len(onto)
        ctx.save_for_backward(scalars, vectors, *x)
        result = []
        for p, (rows, columns) in enumerate(linear.layout_out.shapes()):
            base = onto[p] if onto else None
            if p == 0 and bias is not None:
                base = bias if base is None else base + bias
            weight = _part(linear, scalars, vectors, p)
            if p >= n_parts or 0 in weight.shape:
                full = x[0].new_zeros(len(x[0]), rows, columns) if base is None else base
                result.append(full.expand(len(x[0]), columns).contiguous() if p == 0 else full.view(-1, rows, columns))
                continue
            value = _multiply(x[p], weight, groups, None if base is None else base)
            result.append(value.view(-1, columns) if p == 0 else value.view(-1, rows, columns))
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        scalars, vectors, *x = ctx.saved_tensors
        linear, groups = ctx.linear, ctx.groups
        grad_scalars, grad_vectors = torch.zeros_like(scalars), torch.zeros_like(vectors)
        grad_x: list[Tensor | None] = []
        for p, part in enumerate(x):
            weight = _part(linear, scalars, vectors, p) if p < len(grads) else None
            if weight is None or 0 in weight.shape:
                grad_x.append(torch.zeros_like(part))
                continue
            grad_x.append(_multiply(grads[p], weight.transpose(1, 2), groups, None).view(part.shape))
            _accumulate_weights(_part(linear, grad_scalars, grad_vectors, p), part, grads[p], groups)
        bias = grads[0].sum(dim=0) if ctx.has_bias else None
        return None, None, grad_scalars, grad_vectors, bias, None, *grad_x, *grads[: ctx.n_onto]


def _part(linear: EquivariantLinear, scalars: Tensor, vectors: Tensor, p: int) -> Tensor:
    """Matrix of S (p = 0) or V_(p-1), shape (n_types, n_in, n_out); empty where there is none."""
    inside, outside = linear.layout_in, linear.layout_out
    if p == 0:
        return scalars
    return vectors[:, inside.skipped(p - 1) :, outside.skipped(p - 1) :]


def _multiply(value: Tensor, weight: Tensor, groups: TypeGroups | None, base: Tensor | None) -> Tensor:
    """base + value weight, with the weights of each item's type; rows of `value` may be several per item."""
    columns = weight.shape[2]
    if groups is None or groups.small:
        rows = value.reshape(-1, value.shape[-1]) if groups is None else groups.spread(value)
        matrix = weight[0] if groups is None else weight.reshape(-1, columns)
        if base is None:
            return rows @ matrix
        return torch.addmm(base if base.dim() == 1 else base.reshape(-1, columns), rows, matrix)
    product = groups.matmul(value, weight)
    return (
        product
        if base is None
        else product.view(-1, columns).add_(base if base.dim() == 1 else base.reshape(-1, columns))
    )


def _accumulate_weights(total: Tensor, value: Tensor, grad: Tensor, groups: TypeGroups | None) -> None:
    """total[t] += value^T grad over the items of type t."""
    if groups is None:
        total[0].addmm_(value.reshape(-1, value.shape[-1]).T, grad.reshape(-1, grad.shape[-1]))
        return
    if groups.small:
        total += (groups.spread(value).T @ grad.reshape(-1, grad.shape[-1])).view(total.shape)
        return
    parts = zip(groups.present, groups.split(value), groups.split(grad), strict=True)
    for t, part, grad_part in parts:
        total[t].addmm_(part.reshape(-1, part.shape[-1]).T, grad_part.reshape(-1, grad_part.shape[-1]))


class TypeGroups:
    """Items grouped by type so that each type is one matrix product; few items are not worth the sorting.

    :param types: type of each item, shape (n_items,).
    """

    def __init__(self, types: Tensor, n_types: int) -> None:
        self.types, self.n_types = types, n_types
        self.small = len(types) * n_types <= SMALL_GROUPS

    @cached_property
    def one_hot(self) -> Tensor:
        """1 where an item is of a type, shape (n_items, n_types), booleans."""
        return self.types[:, None] == torch.arange(self.n_types, device=self.types.device)

    def spread(self, value: Tensor) -> Tensor:
        """Each item's channels at the place of its type, zeros elsewhere: shape (n_items * rows, n_types * n_in)."""
        kept = self.one_hot.view(len(value), *[1] * (value.dim() - 2), self.n_types, 1)
        return (value.unsqueeze(-2) * kept).view(-1, self.n_types * value.shape[-1])

    @cached_property
    def order(self) -> Tensor:
        """The items sorted by type."""
        return torch.argsort(self.types, stable=True)

    @cached_property
    def _present(self) -> list[tuple[int, int]]:
        counts = torch.bincount(self.types, minlength=self.n_types).tolist()
        return [(t, count) for t, count in enumerate(counts) if count]

    @property
    def present(self) -> list[int]:
        """Types that there are."""
        return [t for t, _ in self._present]

    @property
    def counts(self) -> list[int]:
        """Items of each type that there is."""
        return [count for _, count in self._present]

    @cached_property
    def inverse(self) -> Tensor:
        """Place of each item among the sorted ones."""
        return torch.argsort(self.order)

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        """The items of each type that is present."""
        if len(self.present) == 1:
            return (value,)
        parts: tuple[Tensor, ...] = value.index_select(0, self.order).split(self.counts)
        return parts

    def matmul(self, value: Tensor, weight: Tensor) -> Tensor:
        """Product of each item with the weights of its type, shape (n_items * rows, n_out).

        :param value: shape (n_items, [rows,] n_in).
        :param weight: shape (n_types, n_in, n_out).
        """
        parts = [
            part.reshape(-1, part.shape[-1]) @ weight[t]
            for t, part in zip(self.present, self.split(value), strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        sorted_items = torch.cat(parts).view(len(self.order), -1)
        return sorted_items.index_select(0, self.inverse).view(-1, weight.shape[2])
