"""Products of features channel by channel: of an atom with the harmonics of an edge, and of two atoms.

Features have the shape (n_items, (lmax + 1)^2, n_channels), components l = 0..lmax with m = -l..l. A path (l1, l2, l3)
adds f w_u sum_ij C^(l1 l2 l3)_ijk a_iu b_ju to component k of channel u, C being 3j symbols of unit norm. The weights w
differ from edge to edge and leave nothing to a product with one matrix; so both products go through some edges at a
time, that stay in a processor's cache, and keep nothing but their arguments for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aiida_deeph.engine.graph.wigner import wigner_3j
from aiida_deeph.engine.nn.equivariant.module import EngineModule, Function

NUMBERS_AT_A_TIME = {"cpu": 2**13, "cuda": 2**19}
"""Edges times channels that a product works on at a time, by kind of device."""


@dataclass(frozen=True)
class Path:
    """:param factor: gives each output a variance of 1 if weights and inputs have it, for normalised harmonics."""

    l1: int
    l2: int
    l3: int
    factor: float

    @property
    def table(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """3j symbols with the factor, shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1)."""
        return self.factor * wigner_3j(self.l1, self.l2, self.l3)


def coupling_paths(lmax_1: int, lmax_2: int, lmax: int, parity: int | None) -> list[Path]:
    """All paths, in the order of their weights: l1 outermost, then l2, then l3.

    The factor is that of e3nn's tensor product with path weights (2 l3 + 1) / n, n the number of all paths: the
    reference hands over what is a normalisation already, hence the second root (SPEC of the reference).

    :param parity: of l1 + l2 + l3. 0 leads from tensors of parity (-1)^l to such, 1 to those of parity -(-1)^l; None
        takes all paths and mixes both, as the published network does.
    """
    triples = [
        (l1, l2, l3)
        for l1 in range(lmax_1 + 1)
        for l2 in range(lmax_2 + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, lmax) + 1)
        if parity in (None, (l1 + l2 + l3) % 2)
    ]
    into = [sum(triple[2] == l for triple in triples) for l in range(lmax + 1)]
    return [
        Path(l1, l2, l3, sqrt((2 * l3 + 1) / into[l3] * sqrt((2 * l3 + 1) / len(triples)))) for l1, l2, l3 in triples
    ]


def components(l: int) -> slice:
    """Places of the components of l."""
    return slice(l * l, (l + 1) ** 2)


def spherical_harmonics(vectors: Tensor, lmax: int) -> Tensor:
    """Real Y_l of unit vectors, m = -l..l, |Y_l|^2 = 2 l + 1, no Condon-Shortley phase; shape (n, (lmax + 1)^2).

    Y_l is the coupling of Y_1 and Y_(l-1) to l, which is exact to rounding.

    :param vectors: shape (n, 3), of any length but 0.
    """
    first = sqrt(3) * torch.nn.functional.normalize(vectors, dim=1)[:, [1, 2, 0]]
    result = [torch.ones_like(first[:, :1]), first]
    for l in range(2, lmax + 1):
        table = wigner_3j(1, l - 1, l)
        # Of the unit vector along z, whose only component is m = 0.
        along_z = sqrt(3) * sqrt(2 * l - 1) * table[1, l - 1, l]
        coupling = vectors.new_tensor(table * sqrt(2 * l + 1) / along_z)
        result.append(torch.einsum("na,nb,abc->nc", first, result[-1], coupling))
    return torch.cat(result[: lmax + 1], dim=1)


def _chunks(n_edges: int, like: Tensor) -> Iterator[slice]:
    size = max(1, NUMBERS_AT_A_TIME.get(like.device.type, 2**19) // like.shape[-1])
    return (slice(first, first + size) for first in range(0, n_edges, size))


class EdgeProduct(EngineModule):
    """Features of the atoms at the ends of edges with the edges' harmonics, summed at their starts.

    :param lmax_in: of the features; `lmax` of harmonics and result. All have parity (-1)^l.
    """

    table: Tensor

    def __init__(self, lmax_in: int, lmax: int) -> None:
        super().__init__()
        paths = coupling_paths(lmax_in, lmax, lmax, 0)
        self.n_paths, self.lmax = len(paths), lmax
        # For each l3: (path, l1, rows) of the weighted features, side by side, that one matrix per edge couples to l3.
        self.members: list[list[tuple[int, int, slice]]] = []
        self.sizes: list[int] = []
        tables = []
        for l3 in range(lmax + 1):
            members, columns, first = [], [], 0
            for p, path in enumerate(paths):
                if path.l3 == l3:
                    table = np.zeros(((lmax + 1) ** 2, 2 * l3 + 1, 2 * path.l1 + 1))
                    table[components(path.l2)] = path.table.transpose(1, 2, 0)
                    members.append((p, path.l1, slice(first, first + 2 * path.l1 + 1)))
                    columns.append(table)
                    first += 2 * path.l1 + 1
            self.members.append(members)
            self.sizes.append(first)
            tables.append(np.concatenate(columns, axis=2).reshape((lmax + 1) ** 2, -1))
        self.constant("table", np.concatenate(tables, axis=1))

    def couplings(self, harmonics: Tensor) -> list[Tensor]:
        """Matrices of all edges for each l3, shape (n_edges, 2 l3 + 1, rows): what depends on the geometry alone.

        :param harmonics: shape (n_edges, (lmax + 1)^2).
        """
        shapes = [(2 * l + 1, rows) for l, rows in enumerate(self.sizes)]
        parts = (harmonics @ self.table).split([a * b for a, b in shapes], dim=1)
        return [part.reshape(len(harmonics), *shape) for part, shape in zip(parts, shapes, strict=True)]

    def forward(self, x: Tensor, weights: Tensor, source: Tensor, target: Tensor, couplings: list[Tensor]) -> Tensor:
        """Sums at the atoms, shape (n_atoms, (lmax + 1)^2, n_channels).

        :param x: of the atoms, shape (n_atoms, (lmax_in + 1)^2, n_channels).
        :param weights: shape (n_edges, n_paths, n_channels).
        :param source: atom at which each edge's product is added, shape (n_edges,); `target` atom whose features enter.
        """
        total: Tensor = _EdgeProduct.apply(self, x, weights, source, target, *couplings)
        return total


class _EdgeProduct(Function):
    """See `EdgeProduct.forward`; the weights are multiplied first, so that the coupling sums over paths as well."""

    @staticmethod
    def forward(
        ctx: Any, product: EdgeProduct, x: Tensor, weights: Tensor, source: Tensor, target: Tensor, *couplings: Tensor
    ) -> Tensor:
        ctx.product = product
        ctx.save_for_backward(x, weights, source, target, *couplings)
        total = x.new_zeros(len(x), (product.lmax + 1) ** 2, x.shape[2])
        for part in _chunks(len(source), x):
            sent, w = x.index_select(0, target[part]), weights[part]
            result = sent.new_empty(len(sent), *total.shape[1:])
            for l3, (members, rows) in enumerate(zip(product.members, product.sizes, strict=True)):
                weighted = sent.new_empty(len(sent), rows, x.shape[2])
                for p, l1, place in members:
                    torch.mul(sent[:, components(l1)], w[:, p, None], out=weighted[:, place])
                result[:, components(l3)] = torch.bmm(couplings[l3][part], weighted)
            total.index_add_(0, source[part], result)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        product = ctx.product
        x, weights, source, target, *couplings = ctx.saved_tensors
        grad_x, grad_weights = torch.zeros_like(x), torch.empty_like(weights)
        for part in _chunks(len(source), x):
            g, sent, w = grad.index_select(0, source[part]), x.index_select(0, target[part]), weights[part]
            grad_sent = torch.zeros_like(sent)
            for l3, members in enumerate(product.members):
                weighted = torch.bmm(couplings[l3][part].transpose(1, 2), g[:, components(l3)])
                for p, l1, place in members:
                    own = components(l1)
                    grad_weights[part, p] = (weighted[:, place] * sent[:, own]).sum(dim=1)
                    grad_sent[:, own].addcmul_(weighted[:, place], w[:, p, None])
            grad_x.index_add_(0, target[part], grad_sent)
        return None, grad_x, grad_weights, None, None, *[None] * len(couplings)


class PairProduct(EngineModule):
    """Features of two atoms.

    :param parity: see `coupling_paths`.
    """

    def __init__(self, lmax: int, parity: int | None) -> None:
        super().__init__()
        paths = coupling_paths(lmax, lmax, lmax, parity)
        self.n_paths, self.lmax = len(paths), lmax
        # For each (l1, l2): (path, l3, rows) of what one matrix makes of the outer product of all components.
        self.groups: dict[tuple[int, int], list[tuple[int, int, slice]]] = {}
        tables: dict[tuple[int, int], list[Any]] = {}
        for p, path in enumerate(paths):
            members = self.groups.setdefault((path.l1, path.l2), [])
            first = members[-1][2].stop if members else 0
            members.append((p, path.l3, slice(first, first + 2 * path.l3 + 1)))
            tables.setdefault((path.l1, path.l2), []).append(path.table.reshape(-1, 2 * path.l3 + 1).T)
        for (l1, l2), parts in tables.items():
            self.constant(f"table_{l1}_{l2}", np.concatenate(parts))

    def forward(self, left: Tensor, right: Tensor, weights: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Products of pairs of items, shape (n_pairs, (lmax + 1)^2, n_channels).

        :param left: shape (n_items, (lmax + 1)^2, n_channels); `right` too.
        :param weights: shape (n_pairs, n_paths, n_channels).
        :param first: item of `left` of each pair, shape (n_pairs,); `second` that of `right`.
        """
        result: Tensor = _PairProduct.apply(self, left, right, weights, first, second)
        return result

    def coupled(self, a: Tensor, b: Tensor) -> Iterator[tuple[int, int, list[tuple[int, int, slice]], Tensor, Tensor]]:
        """l1, l2, paths, matrix and coupled outer product for each (l1, l2), before the weights."""
        for (l1, l2), members in self.groups.items():
            outer = (a[:, components(l1), None] * b[:, None, components(l2)]).flatten(1, 2)
            table = getattr(self, f"table_{l1}_{l2}").expand(len(a), -1, -1)
            yield l1, l2, members, table, torch.bmm(table, outer)


class _PairProduct(Function):
    """See `PairProduct.forward`; all paths of the same (l1, l2) share one outer product."""

    @staticmethod
    def forward(
        ctx: Any, product: PairProduct, left: Tensor, right: Tensor, weights: Tensor, first: Tensor, second: Tensor
    ) -> Tensor:
        ctx.product = product
        ctx.save_for_backward(left, right, weights, first, second)
        result = left.new_zeros(len(first), *left.shape[1:])
        for part in _chunks(len(first), left):
            a, b = left.index_select(0, first[part]), right.index_select(0, second[part])
            out, w = result[part], weights[part]
            for _, _, members, _, coupled in product.coupled(a, b):
                for p, l3, rows in members:
                    out[:, components(l3)].addcmul_(coupled[:, rows], w[:, p, None])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        product = ctx.product
        left, right, weights, first, second = ctx.saved_tensors
        grad_left, grad_right = torch.zeros_like(left), torch.zeros_like(right)
        grad_weights = weights.new_empty(weights.shape)
        for part in _chunks(len(first), left):
            a, b = left.index_select(0, first[part]), right.index_select(0, second[part])
            g, w = grad[part], weights[part]
            grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
            for l1, l2, members, table, coupled in product.coupled(a, b):
                own_1, own_2 = components(l1), components(l2)
                weighted = torch.empty_like(coupled)
                for p, l3, rows in members:
                    own = g[:, components(l3)]
                    grad_weights[part, p] = (coupled[:, rows] * own).sum(dim=1)
                    torch.mul(own, w[:, p, None], out=weighted[:, rows])
                outer = torch.bmm(table.transpose(1, 2), weighted).unflatten(1, (2 * l1 + 1, 2 * l2 + 1))
                grad_a[:, own_1] += (outer * b[:, None, own_2]).sum(dim=2)
                grad_b[:, own_2] += (outer * a[:, own_1, None]).sum(dim=1)
            grad_left.index_add_(0, first[part], grad_a)
            grad_right.index_add_(0, second[part], grad_b)
        return None, grad_left, grad_right, grad_weights, None, None
