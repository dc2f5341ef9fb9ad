"""Edges as the convolutions see them: end points, frames, distances and types."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aiida_deeph.engine.graph.wigner import edge_wigner, wigner_size
from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.irreps import Irrep
from aiida_deeph.engine.nn.equivariant.linear import TypeGroups
from aiida_deeph.engine.nn.equivariant.module import Function

# Batched products of matrices with fewer multiplications than this take a slow path in torch; padding avoids it.
SMALL_BATCHED_PRODUCT = 400


class Frames:
    """Rotations of features into the frame of each edge and back.

    :param wigner: see `graph.wigner.edge_wigner`, shape (n_edges, .).
    :param ignore_parity: irreps of either parity are stored alike, see `nn.so2`.
    """

    def __init__(self, wigner: Tensor, lmax: int, ignore_parity: bool) -> None:
        self.ignore_parity = ignore_parity
        self.natural: list[Tensor] = [wigner.new_ones(len(wigner), 1, 1)]
        start = 0
        for l in range(1, lmax + 1):
            d = 2 * l + 1
            self.natural.append(wigner[:, start : start + d * d].contiguous().view(-1, d, d))
            start += d * d
        self._unnatural: dict[int, Tensor] = {}

    @classmethod
    def of(cls, vectors: Tensor, wigner: Tensor | None, lmax: int, ignore_parity: bool, dtype: torch.dtype) -> Frames:
        """From stored rotations if they reach `lmax`, else computed from the edges' vectors."""
        if wigner is None or wigner.shape[1] < wigner_size(lmax) or wigner.dtype != dtype:
            wigner = edge_wigner(vectors, lmax, dtype)
        return cls(wigner, lmax, ignore_parity)

    def selected(self, rows: Tensor) -> Frames:
        """Those of some of the edges."""
        chosen = Frames(self.natural[0].new_empty(len(rows), 0), 0, self.ignore_parity)
        chosen.natural = [matrix.index_select(0, rows) for matrix in self.natural]
        return chosen

    def matrix(self, irrep: Irrep) -> Tensor:
        """Rows: components in the frame; columns: those of the laboratory; shape (n_edges, 2 l + 1, 2 l + 1), l > 0.

        Both in the order m = 0, +1, -1, +2, -2, ...
        """
        if irrep.natural or self.ignore_parity:
            return self.natural[irrep.l]
        if irrep.l not in self._unnatural:
            # Components +m and -m change places, (u_-m, -u_m).
            swap = [0, *(k for m in range(1, irrep.l + 1) for k in (2 * m, 2 * m - 1))]
            matrix = self.natural[irrep.l].index_select(1, torch.tensor(swap, device=self.natural[0].device))
            matrix[:, 2::2] *= -1
            self._unnatural[irrep.l] = matrix
        return self._unnatural[irrep.l]

    def to_frame(self, entry: Tensor, irrep: Irrep) -> Tensor:
        """From the laboratory; shape (n_edges, 2 l + 1, mul)."""
        return _bmm(self.matrix(irrep), entry)

    def to_laboratory(self, entry: Tensor, irrep: Irrep) -> Tensor:
        """From the frames; shape (n_edges, 2 l + 1, mul)."""
        return _bmm(self.matrix(irrep).transpose(1, 2), entry)


def _bmm(matrix: Tensor, entry: Tensor) -> Tensor:
    size, mul = matrix.shape[1] ** 2, entry.shape[2]
    if size * mul < SMALL_BATCHED_PRODUCT and entry.device.type == "cpu":
        missing = -(-SMALL_BATCHED_PRODUCT // size) - mul
        return torch.bmm(matrix, torch.nn.functional.pad(entry, (0, missing)))[:, :, :mul]
    return torch.bmm(matrix, entry)


@dataclass
class Edges:
    """The edges of one graph, of several, or a part of one graph's edges.

    :param source: atom i of each edge, shape (n_edges,), ascending.
    :param target: atom j of each edge, shape (n_edges,).
    :param graph: graph of each edge, shape (n_edges,); None if there is one graph.
    :param loops: edges from an atom to itself, shape (n_loops,).
    :param types: pair of species of each edge, shape (n_edges,).
    :param frames: their rotations.
    :param distances: shape (n_edges,), Angstrom.
    """

    source: Tensor
    target: Tensor
    graph: Tensor | None
    loops: Tensor
    types: Tensor
    n_types: int
    frames: Frames
    distances: Tensor

    @classmethod
    def of(
        cls,
        species: Tensor,
        edge_index: Tensor,
        vectors: Tensor,
        loops: Tensor,
        *,
        graph: Tensor | None,
        frames: Frames,
        n_species: int,
        dtype: torch.dtype,
    ) -> Edges:
        """From the fields of a graph, see `graph.build.HamiltonianGraph`."""
        source, target = edge_index
        types = species[source] * n_species + species[target]
        return cls(source, target, graph, loops, types, n_species**2, frames, vectors.norm(dim=1).to(dtype))

    def selected(self, rows: Tensor) -> Edges:
        """Some of the edges, as a source of messages alone.

        :param rows: shape (n_selected,), ascending.
        """
        place = torch.full_like(self.source, -1)
        place[rows] = torch.arange(len(rows), device=rows.device)
        loops = place.index_select(0, self.loops)
        return Edges(
            self.source.index_select(0, rows),
            self.target.index_select(0, rows),
            None if self.graph is None else self.graph.index_select(0, rows),
            loops[loops >= 0],
            self.types.index_select(0, rows),
            self.n_types,
            self.frames.selected(rows),
            self.distances.index_select(0, rows),
        )

    @cached_property
    def groups(self) -> TypeGroups | None:
        """The edges by type, None if there is one type."""
        return TypeGroups(self.types, self.n_types) if self.n_types > 1 else None

    @cached_property
    def loop_atoms(self) -> Tensor:
        """Atom of each loop, shape (n_loops,)."""
        return self.source.index_select(0, self.loops)

    def ends(self, x: Features, layout: FeatureLayout) -> list[Tensor]:
        """Vectors of both ends of every edge in its frame: V_0, V_1, ... with the channels of each entry twice.

        Channels run over the entries, then source and target, then the entry's own channels.
        """
        return list(_Ends.apply(self, layout, *x[1:])) if layout.vectors else []

    def sum_at_source(self, z: Features, layout: FeatureLayout, n_atoms: int) -> Features:
        """Sum of the edges' features, turned to the laboratory, over all edges that leave each atom."""
        return list(_SumAtSource.apply(self, layout, n_atoms, *z))


class _Ends(Function):
    """See `Edges.ends`; takes V_0, V_1, ... of the nodes."""

    @staticmethod
    def forward(ctx: Any, edges: Edges, layout: FeatureLayout, *v: Tensor) -> tuple[Tensor, ...]:
        ctx.edges, ctx.layout, ctx.n_atoms = edges, layout, len(v[0])
        rotated = {}
        for k, entry in layout.split(v).items():
            both = torch.cat([entry.index_select(0, edges.source), entry.index_select(0, edges.target)], dim=2)
            rotated[k] = edges.frames.to_frame(both, layout.irreps[k].irrep)
        return tuple(layout.join(rotated))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        edges, layout = ctx.edges, ctx.layout
        nodes = {}
        for k, entry in layout.split(grads, copies=2).items():
            mul = layout.irreps[k].mul
            back = edges.frames.to_laboratory(entry, layout.irreps[k].irrep)
            total = back.new_zeros(ctx.n_atoms, back.shape[1], mul)
            nodes[k] = total.index_add_(0, edges.source, back[:, :, :mul]).index_add_(0, edges.target, back[:, :, mul:])
        return None, None, *layout.join(nodes)


class _SumAtSource(Function):
    """See `Edges.sum_at_source`."""

    @staticmethod
    def forward(ctx: Any, edges: Edges, layout: FeatureLayout, n_atoms: int, *z: Tensor) -> tuple[Tensor, ...]:
        ctx.edges, ctx.layout = edges, layout

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(n_atoms, *values.shape[1:]).index_add_(0, edges.source, values)

        entries = {
            k: total(edges.frames.to_laboratory(entry, layout.irreps[k].irrep))
            for k, entry in layout.split(z[1:]).items()
        }
        return total(z[0]), *layout.join(entries)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        edges, layout = ctx.edges, ctx.layout
        entries = {
            k: edges.frames.to_frame(entry.index_select(0, edges.source), layout.irreps[k].irrep)
            for k, entry in layout.split(grads[1:]).items()
        }
        return None, None, None, grads[0].index_select(0, edges.source), *layout.join(entries)
