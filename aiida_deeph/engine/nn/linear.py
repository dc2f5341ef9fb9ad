"""Linear maps between features: channels of the same irrep are mixed, with the normalisation of e3nn's Linear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from aiida_deeph.engine.nn.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.module import EngineModule, Features

Normalization = Literal["path", "element"]
"""How weights of variance 1 are scaled: e3nn 0.3 gives each path the same share ('path'), later ones each channel ('element')."""

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


class EquivariantLinear(EngineModule):
    """y_o = sum_i a_io W_io x_i over entries of equal irrep; a bias on the even scalars; optionally weights per type.

    With `n_types` > 1 each item uses the weights of its own type. This is the fully connected tensor product with a one-hot
    vector of the reference ('sc'), whose normalisation counts the types: a 1/sqrt(n_types) is part of a_io.

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
        self.scalar_outputs = [o for o, (_, ir) in enumerate(irreps_out) if ir == SCALAR] if bias else []
        n_bias = sum(irreps_out[o].mul for o in self.scalar_outputs)
        self.bias = nn.Parameter(torch.zeros(n_bias)) if n_bias else None

    def forward(self, x: Features, groups: TypeGroups | None = None, onto: Features | None = None) -> Features:
        """Map features.

        :param groups: the type of each item, needed if there is more than one type.
        :param onto: features to which the result is added.
        """
        n = x[0].shape[0]
        several = self.n_types > 1
        if several:
            x = groups.sort(x)
        weight = self.weight * self.scale
        rows: list[Tensor | None] = [None] * len(
            self.irreps_out
        )  # each of shape (n * dim, mul), or (mul,) for a mere bias
        if onto is not None:
            rows = [entry.reshape(-1, entry.shape[2]) for entry in onto]
        if self.bias is not None:
            biases = self.bias.split([self.irreps_out[o].mul for o in self.scalar_outputs])
            for o, bias in zip(self.scalar_outputs, biases, strict=True):
                rows[o] = bias if rows[o] is None else rows[o] + bias
        for path in self.paths:
            (mul_in, irrep), mul_out = self.irreps_in[path.i_in], self.irreps_out[path.i_out].mul
            w = weight[path.start : path.stop]
            inputs, before = x[path.i_in].reshape(-1, mul_in), rows[path.i_out]
            if several:
                product = groups.unsort(groups.matmul(inputs, w.view(mul_in, -1, mul_out), irrep.dim), irrep.dim)
                rows[path.i_out] = product if before is None else before + product
            elif before is None:
                rows[path.i_out] = inputs @ w.view(mul_in, mul_out)
            else:
                rows[path.i_out] = torch.addmm(before, inputs, w.view(mul_in, mul_out))
        outputs = []
        for entry, (mul, irrep) in zip(rows, self.irreps_out, strict=True):
            full = x[0].new_zeros(n, irrep.dim, mul) if entry is None else entry
            outputs.append(full.expand(n, 1, mul) if full.dim() == 1 else full.view(n, irrep.dim, mul))
        return outputs


class TypeGroups:
    """Items grouped by type so that each type is one matrix product.

    :param types: type of each item, shape (n_items,).
    """

    def __init__(self, types: Tensor, n_types: int) -> None:
        self.order = torch.argsort(types, stable=True)
        self.inverse = torch.argsort(self.order)
        counts = torch.bincount(types, minlength=n_types).tolist()
        self.present = [t for t, count in enumerate(counts) if count]
        self.counts = [count for count in counts if count]

    def sort(self, x: Features) -> Features:
        """Items of each type together."""
        return [entry.index_select(0, self.order) for entry in x]

    def matmul(self, rows: Tensor, weight: Tensor, dim: int) -> Tensor:
        """Product of sorted rows, shape (n_items * dim, mul_in), with the weights of their type, (mul_in, n_types, mul_out)."""
        parts = rows.split([count * dim for count in self.counts])
        return torch.cat([part @ weight[:, t] for t, part in zip(self.present, parts, strict=True)])

    def unsort(self, rows: Tensor, dim: int) -> Tensor:
        """Rows of shape (n_items * dim, mul) back in the items' own order."""
        return rows.view(len(self.order), -1).index_select(0, self.inverse).view(len(rows), -1)
