"""Convolution with gate, and the updates of nodes and edges (Gong et al., Nat. Commun. 14, 2848 (2023), Fig. 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.frames import Edges
from aiida_deeph.engine.nn.equivariant.gate import gate
from aiida_deeph.engine.nn.equivariant.irreps import Irreps, reachable
from aiida_deeph.engine.nn.equivariant.layernorm import EquivariantLayerNorm
from aiida_deeph.engine.nn.equivariant.linear import SCALAR, EquivariantLinear, Normalization, TypeGroups
from aiida_deeph.engine.nn.equivariant.module import EngineModule
from aiida_deeph.engine.nn.equivariant.radial import radial_network
from aiida_deeph.engine.nn.equivariant.so2 import SO2Product


class GatedConvolution(EngineModule):
    """Product with the spherical harmonics, gate, and a factor per channel that depends on the distance.

    :param irreps_out: wanted; `self.irreps_out` holds those that can be reached, scalars first.
    """

    factor_order: Tensor | None

    def __init__(
        self,
        irreps_node: Irreps,
        irreps_edge: Irreps,
        irreps_sh: Irreps,
        irreps_out: Irreps,
        n_gaussians: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        joined = Irreps((*irreps_node, *irreps_node, *irreps_edge))
        possible = Irreps(entry for entry in irreps_out if reachable(entry.irrep, joined, irreps_sh))
        scalars = Irreps(entry for entry in possible if entry.irrep.l == 0).simplified()
        gated = Irreps(entry for entry in possible if entry.irrep.l > 0).simplified()
        if gated and not reachable(SCALAR, joined, irreps_sh):
            raise InputError("convolution without even scalars has no gates", where="irreps_in", found=joined)
        gates = Irreps.of([(gated.n_channels, SCALAR)]) if gated else Irreps()
        self.irreps_out = Irreps((*scalars, *gated))
        inside = Irreps((*scalars, *gates, *gated)).sorted().simplified()
        self.product = SO2Product(irreps_node, irreps_edge, irreps_sh, inside, normalization=normalization)
        self.radial = radial_network(n_gaussians, self.irreps_out.n_channels)
        self.layout = FeatureLayout(self.irreps_out)
        self.n_gates = gates.n_channels
        self._plan()

    def _plan(self) -> None:
        """Permutations from the product's channels to those that leave, where they are not the same.

        The product's even scalars are followed by the gates of all gated channels, in the order of the irreps.
        """
        inside = self.product.out
        start, position = {}, 0  # of each irrep among the channels of z_0
        for k in inside.order:
            start[inside.irreps[k].irrep] = position
            position += inside.irreps[k].mul
        place, used = {}, dict.fromkeys(start, 0)  # of each entry that leaves, among those of its irrep
        for k, (mul, ir) in enumerate(self.irreps_out):
            place[k] = used[ir]
            used[ir] += mul
        channels = self.layout.channel_order()
        gates = start[SCALAR] + used[SCALAR] if self.n_gates else 0
        columns = [
            start[self.irreps_out[k].irrep] + place[k] + c
            for k in self.layout.scalars
            for c in range(self.irreps_out[k].mul)
        ]
        columns += [gates + c - self.layout.n_scalars for c in channels[self.layout.n_scalars :]]
        columns += [
            start[self.irreps_out[k].irrep] + place[k] + c
            for k in self.layout.vectors
            for c in range(self.irreps_out[k].mul)
        ]
        self._permutation("z_order_0", columns)
        for m in range(1, self.layout.lmax + 1):
            first, position = {}, 0
            for k in inside.entries(m):
                first[inside.irreps[k].irrep] = position
                position += inside.irreps[k].mul
            entries = self.layout.entries(m)
            self._permutation(
                f"z_order_{m}",
                [
                    first[self.irreps_out[k].irrep] + place[k] + c
                    for k in entries
                    for c in range(self.irreps_out[k].mul)
                ],
            )
        self._permutation("factor_order", channels)

    def _permutation(self, name: str, order: list[int]) -> None:
        """Register a permutation, None if it is the identity."""
        if order == list(range(len(order))):
            setattr(self, name, None)
        else:
            self.constant(name, np.array(order))

    def forward(
        self,
        scalars: Tensor,
        ends: list[Tensor],
        e: Features,
        edges: Edges,
        gaussians: Tensor,
        before_ends: Tensor | None = None,
        before_edge: EquivariantLinear | None = None,
    ) -> Features:
        """Messages of every edge in its frame; the arguments are those of the product and the radial basis."""
        z = self.product(scalars, ends, e, edges, before_ends, before_edge)
        z = [_permuted(part, getattr(self, f"z_order_{m}")) for m, part in enumerate(z)]
        return gate(self.layout, _permuted(self.radial(gaussians), self.factor_order), z)


def _permuted(values: Tensor, order: Tensor | None) -> Tensor:
    """Channels (the last dimension) in another order, None keeps them."""
    return values if order is None else values.index_select(values.dim() - 1, order)


class _Update(EngineModule):
    """What updates of nodes and edges share: linear maps around the convolution, normalisation and the way past it."""

    def __init__(
        self,
        irreps_own: Irreps,
        irreps_node: Irreps,
        irreps_edge: Irreps,
        irreps_sh: Irreps,
        irreps_out: Irreps,
        n_types: int,
        n_gaussians: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        self.irreps_in = irreps_own
        self.lin_pre = EquivariantLinear(irreps_own, irreps_own, bias=True, normalization=normalization)
        self.conv = GatedConvolution(irreps_node, irreps_edge, irreps_sh, irreps_out, n_gaussians, normalization)
        self.irreps_out = self.conv.irreps_out
        self.lin_post = EquivariantLinear(self.irreps_out, self.irreps_out, bias=True, normalization=normalization)
        self.self_connection = EquivariantLinear(
            irreps_own, self.irreps_out, n_types=n_types, normalization=normalization
        )
        self.norm = EquivariantLayerNorm(self.irreps_out)
        same = self.irreps_out == irreps_own
        self.skip = None if same else EquivariantLinear(irreps_own, self.irreps_out, normalization=normalization)

    def past(self, x: Features) -> Features:
        """What the old features give to the new ones."""
        return x if self.skip is None else self.skip(x)

    def combine(self, x: Features, messages: Features, groups: TypeGroups | None) -> Features:
        """Features before normalisation, from the old ones and the convolution's."""
        total: Features = self.self_connection(x, groups, onto=self.lin_post(messages))
        return total


class NodeUpdate(_Update):
    """x' = LN(Lin_post(sum over edges of Conv(h_i, h_j, e_ij)) + SC(x)) + Skip(x) with h = Lin_pre(x)."""

    def __init__(
        self,
        irreps_node: Irreps,
        irreps_edge: Irreps,
        irreps_sh: Irreps,
        irreps_out: Irreps,
        n_species: int,
        **options: Any,
    ) -> None:
        super().__init__(irreps_node, irreps_node, irreps_edge, irreps_sh, irreps_out, n_species, **options)

    def messages(self, x: Features, ends: list[Tensor], e: Features, edges: Edges, gaussians: Tensor) -> Features:
        """Sum at each atom over the given edges.

        :param ends: vectors of `x`, not of `lin_pre(x)`, at both ends of the edges: they serve two convolutions.
        """
        (weight, _), bias = self.lin_pre.matrices(), self.lin_pre.full_bias()
        scalars = x[0] @ weight[0] if bias is None else torch.addmm(bias, x[0], weight[0])
        z = self.conv(scalars, ends, e, edges, gaussians, before_ends=self.lin_pre.matrix_of_ends())
        return edges.sum_at_source(z, self.conv.layout, len(x[0]))


class EdgeUpdate(_Update):
    """e' = LN(Lin_post(Conv(x'_i, x'_j, Lin_pre(e))) + SC(e)) + Skip(e), with the nodes already updated."""

    def __init__(
        self,
        irreps_node: Irreps,
        irreps_edge: Irreps,
        irreps_sh: Irreps,
        irreps_out: Irreps,
        n_types: int,
        **options: Any,
    ) -> None:
        super().__init__(irreps_edge, irreps_node, irreps_edge, irreps_sh, irreps_out, n_types, **options)

    def raw(self, x: Features, ends: list[Tensor], e: Features, edges: Edges, gaussians: Tensor) -> Features:
        """New features of the given edges before normalisation."""
        z = self.conv(x[0], ends, e, edges, gaussians, before_edge=self.lin_pre)
        return self.combine(e, z, edges.groups)
