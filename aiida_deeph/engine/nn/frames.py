"""Edges as the convolutions see them: end points, frames, distances and types."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aiida_deeph.engine.graph.wigner import edge_wigner, wigner_size
from aiida_deeph.engine.nn.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.linear import TypeGroups
from aiida_deeph.engine.nn.module import Features


class Frames:
    """Rotations of features into the frame of each edge and back.

    :param wigner: see `graph.wigner.edge_wigner`, shape (n_edges, .).
    :param ignore_parity: irreps of either parity are stored alike, see `nn.so2`.
    """

    def __init__(self, wigner: Tensor, lmax: int, ignore_parity: bool) -> None:
        self.ignore_parity = ignore_parity
        self.natural = [None]
        start = 0
        for l in range(1, lmax + 1):
            d = 2 * l + 1
            self.natural.append(wigner[:, start : start + d * d].reshape(-1, d, d))
            start += d * d
        self._unnatural: dict[int, Tensor] = {}

    @classmethod
    def of(cls, vectors: Tensor, wigner: Tensor | None, lmax: int, ignore_parity: bool, dtype: torch.dtype) -> Frames:
        """From stored rotations if they reach `lmax`, else computed from the edges' vectors."""
        if wigner is None or wigner.shape[1] < wigner_size(lmax) or wigner.dtype != dtype:
            wigner = edge_wigner(vectors, lmax, dtype)
        return cls(wigner, lmax, ignore_parity)

    def matrix(self, irrep: Irrep) -> Tensor:
        """Rows: components in the frame; columns: m = -l..l of the laboratory; shape (n_edges, 2 l + 1, 2 l + 1), l > 0."""
        if irrep.natural or self.ignore_parity:
            return self.natural[irrep.l]
        if irrep.l not in self._unnatural:
            # Components +m and -m change places, (u_-m, -u_m).
            swap = [0, *(k for m in range(1, irrep.l + 1) for k in (2 * m, 2 * m - 1))]
            matrix = self.natural[irrep.l][:, swap]
            matrix[:, 2::2] *= -1
            self._unnatural[irrep.l] = matrix
        return self._unnatural[irrep.l]

    def to_frame(self, x: Features, irreps: Irreps) -> Features:
        """From the laboratory; features of shape (n_edges, 2 l + 1, mul)."""
        return [torch.bmm(self.matrix(ir), entry) if ir.l else entry for entry, (_, ir) in zip(x, irreps, strict=True)]

    def to_laboratory(self, x: Features, irreps: Irreps) -> Features:
        """From the frames; features of shape (n_edges, 2 l + 1, mul)."""
        return [
            torch.bmm(self.matrix(ir).transpose(1, 2), entry) if ir.l else entry
            for entry, (_, ir) in zip(x, irreps, strict=True)
        ]


@dataclass
class Edges:
    """The edges of one graph, of several, or a part of one graph's edges.

    :param source: atom i of each edge, shape (n_edges,).
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

    @cached_property
    def groups(self) -> TypeGroups | None:
        """The edges by type, None if there is one type."""
        return TypeGroups(self.types, self.n_types) if self.n_types > 1 else None

    def gather(self, x: Features, irreps: Irreps, atoms: Tensor) -> Features:
        """Features of an end of each edge, in its frame."""
        return self.frames.to_frame([entry.index_select(0, atoms) for entry in x], irreps)

    def sum_at_source(self, x: Features, n_atoms: int) -> Features:
        """Sum of the edges' features over all edges that leave each atom."""
        return [entry.new_zeros(n_atoms, *entry.shape[1:]).index_add_(0, self.source, entry) for entry in x]
