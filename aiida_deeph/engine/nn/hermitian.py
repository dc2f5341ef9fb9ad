"""The Hermitian head: both directions of every pair averaged inside the network, H <- (H + H^dagger) / 2.

The published network predicts H_ij(R) and H_ji(-R) by themselves. With `hermitian` the average is what the loss sees,
so that nothing is spent on the part of the outputs that the average throws away. Not part of the published method.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.equivariant.module import Function


def partner_entries(layout: EntryLayout, graph: Any) -> Tensor:
    """Place of H_ji(-R)_ba for each entry H_ij(R)_ab, from the graph or, if it was built without, found here.

    :param graph: one graph or several joined.
    :returns: shape (n_entries,).
    :raises DataError: a pair without its reverse.
    """
    if "partner" in graph:
        stored: Tensor = graph.partner
        return stored
    ends = graph.edge_index.T[graph.edge_of_pair]
    pairs = torch.cat([graph.atom_pairs[:, :3].to(ends.device), ends], dim=1).cpu().numpy()
    orbitals = np.array([layout.basis.n_orbitals(symbol) for symbol in layout.basis.elements])
    rows = orbitals[graph.species.cpu().numpy()] * layout.spin.multiplicity
    matrix = BlockSparseMatrix.from_pairs(pairs, rows)
    # Places as float64 are exact up to 2^53.
    places = matrix.with_entries(np.arange(len(matrix.entries), dtype=np.float64)).adjoint().entries
    return torch.from_numpy(places.astype(np.int64)).to(graph.species.device)


def hermitian_average(entries: Tensor, partner: Tensor) -> Tensor:
    """(H + H^dagger) / 2.

    :param entries: shape (n_entries,); `partner` see `partner_entries`.
    """
    average: Tensor = _Average.apply(entries, partner)
    return average


class _Average(Function):
    """A symmetric projection: its backward pass is itself, without the scattered sums of an index's gradient."""

    @staticmethod
    def forward(ctx: Any, entries: Tensor, partner: Tensor) -> Tensor:
        ctx.save_for_backward(partner)
        return (entries + entries.index_select(0, partner).conj()) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (partner,) = ctx.saved_tensors
        return (grad + grad.index_select(0, partner).conj()) / 2, None
