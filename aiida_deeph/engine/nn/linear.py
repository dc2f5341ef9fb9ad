"""Linear maps between features: channels of the same irrep are mixed, with the normalisation of e3nn's Linear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiida_deeph.engine.nn.features import FeatureLayout, Features
from aiida_deeph.engine.nn.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.module import EngineModule

Normalization = Literal["path", "element"]
"""How weights of variance 1 are scaled: in e3nn 0.3 each path has the same share, in later versions each channel."""

SCALAR = Irrep(0, 1)


@dataclass(frozen=True)
class Path:
    """Weights from entry `i_in` to entry `i_out`: `weight[start:stop]`, row-major (mul_in, [n_types,] mul_out)."""

    i_in: int
    i_out: int
    start: int
    stop: int


def path_factor(fans: list[int], fan: int, normalization: Normalization) -> float:
    """Factor of one of the paths into an output: 1/sqrt(n fan) ('path') or 1/sqrt(sum of all fans) ('element')."""
    return 1 / math.sqrt(len(fans) * fan if normalization == "path" else sum(fans))


@dataclass(frozen=True)
class DenseWeights:
    """The same weights as matrices over all channels of S and of V_0, shape (n_types, n_in, n_out); bias of S or None."""

    scalars: Tensor
    vectors: Tensor
    bias: Tensor | None


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
        scale = []
        start = 0
        for i, (mul_in, ir_in) in enumerate(irreps_in):
            for o, (mul_out, ir_out) in enumerate(irreps_out):
                if ir_in != ir_out:
                    continue
                fans = [mul * n_types for mul, ir in irreps_in if ir == ir_out]
                size = mul_in * n_types * mul_out
                scale.append(np.full(size, path_factor(fans, mul_in * n_types, normalization)))
                self.paths.append(Path(i, o, start, start + size))
                start += size
        self.weight = nn.Parameter(torch.randn(start))
        self.constant("scale", np.concatenate([*scale, np.zeros(0)]))
        n_bias = sum(mul for mul, ir in irreps_out if ir == SCALAR) if bias else 0
        self.bias = nn.Parameter(torch.zeros(n_bias)) if n_bias else None
        self.constant("dense_index", np.concatenate([self._index(0).ravel(), self._index(1).ravel()]))
        if n_bias and n_bias != self.layout_out.n_scalars:
            self.constant("bias_index", self._bias_index(n_bias))

    def _index(self, kind: int) -> NDArray[np.int64]:
        """Weight at each place of the matrix of scalars (0) or vectors (1), the number of weights where there is none."""
        inside, outside = self.layout_in, self.layout_out
        sizes = [(layout.n_scalars, layout.n_channels(0))[kind] for layout in (inside, outside)]
        index = np.full((self.n_types, *sizes), len(self.scale), dtype=np.int64)
        for path in self.paths:
            if (self.irreps_in[path.i_in].irrep.l > 0) != bool(kind):
                continue
            mul_in, mul_out = self.irreps_in[path.i_in].mul, self.irreps_out[path.i_out].mul
            places = np.arange(path.start, path.stop).reshape(mul_in, self.n_types, mul_out)
            row, column = inside.first[path.i_in], outside.first[path.i_out]
            index[:, row : row + mul_in, column : column + mul_out] = places.transpose(1, 0, 2)
        return index

    def _bias_index(self, n_bias: int) -> NDArray[np.int64]:
        index, position = np.full(self.layout_out.n_scalars, n_bias, dtype=np.int64), 0
        for k, (mul, ir) in enumerate(self.irreps_out):
            if ir == SCALAR:
                first = self.layout_out.first[k]
                index[first : first + mul] = np.arange(position, position + mul)
                position += mul
        return index

    def dense(self) -> DenseWeights:
        """The weights as matrices, normalisation included."""
        weight = nn.functional.pad(self.weight * self.scale, (0, 1)).index_select(0, self.dense_index)
        inside, outside = self.layout_in, self.layout_out
        shapes = [(inside.n_scalars, outside.n_scalars), (inside.n_channels(0), outside.n_channels(0))]
        scalars, vectors = weight.split([self.n_types * a * b for a, b in shapes])
        bias = self.bias
        if bias is not None and hasattr(self, "bias_index"):
            bias = nn.functional.pad(bias, (0, 1)).index_select(0, self.bias_index)
        return DenseWeights(scalars.view(self.n_types, *shapes[0]), vectors.view(self.n_types, *shapes[1]), bias)

    def forward(self, x: Features, groups: TypeGroups | None = None, onto: Features | None = None) -> Features:
        """Map features.

        :param groups: the type of each item, needed if there is more than one type.
        :param onto: features to which the result is added.
        """
        inside, outside = self.layout_in, self.layout_out
        dense = self.dense()
        n = x[0].shape[0]
        result: Features = []
        count = outside.lmax + 1 if outside.vectors else 0
        for m in range(-1, count):
            before = None if onto is None else onto[1 + m]
            if m < 0:
                before = dense.bias if before is None else before if dense.bias is None else before + dense.bias
                value, weight = x[0], dense.scalars
            elif m <= inside.lmax and inside.vectors:
                value, weight = x[1 + m], dense.vectors[:, inside.skipped(m) :, outside.skipped(m) :]
            else:
                value, weight = None, None
            rows, columns = (1, outside.n_scalars) if m < 0 else (1 if m == 0 else 2, outside.n_channels(m))
            shape = (n, columns) if m < 0 else (n, rows, columns)
            if value is None or 0 in weight.shape:
                if before is None:
                    result.append(x[0].new_zeros(shape))
                else:
                    result.append(before.expand(shape))
                continue
            if before is not None and before.dim() > 1:
                before = before.reshape(-1, columns)
            if self.n_types > 1:
                product = groups.matmul(value, weight).view(-1, columns)
                product = product if before is None else product + before
            elif before is None:
                product = value.reshape(-1, weight.shape[1]) @ weight[0]
            else:
                product = torch.addmm(before, value.reshape(-1, weight.shape[1]), weight[0])
            result.append(product.view(shape))
        return result


class TypeGroups:
    """Items grouped by type so that each type is one matrix product.

    :param types: type of each item, shape (n_items,).
    """

    def __init__(self, types: Tensor, n_types: int) -> None:
        self.order = torch.argsort(types, stable=True)
        counts = torch.bincount(types, minlength=n_types).tolist()
        self.present = [t for t, count in enumerate(counts) if count]
        self.counts = [count for count in counts if count]

    @cached_property
    def inverse(self) -> Tensor:
        """Place of each item among the sorted ones."""
        return torch.argsort(self.order)

    def matmul(self, value: Tensor, weight: Tensor) -> Tensor:
        """Product of each item with the weights of its type.

        :param value: shape (n_items, [rows,] n_in).
        :param weight: shape (n_types, n_in, n_out).
        """
        if len(self.present) == 1:
            return value.reshape(-1, value.shape[-1]) @ weight[self.present[0]]
        parts = value.index_select(0, self.order).split(self.counts)
        products = [part.reshape(-1, part.shape[-1]) @ weight[t] for t, part in zip(self.present, parts, strict=True)]
        shape = (len(self.order), -1)
        return torch.cat(products).view(shape).index_select(0, self.inverse)
