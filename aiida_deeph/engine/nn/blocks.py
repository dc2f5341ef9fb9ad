"""Convolution with gate, and the updates of nodes and edges (Gong et al., Nat. Commun. 14, 2848 (2023), Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.nn.frames import Edges
from aiida_deeph.engine.nn.irreps import Irrep, Irreps, reachable
from aiida_deeph.engine.nn.layernorm import EquivariantLayerNorm
from aiida_deeph.engine.nn.linear import SCALAR, EquivariantLinear, Normalization, TypeGroups
from aiida_deeph.engine.nn.module import EngineModule, Features
from aiida_deeph.engine.nn.radial import radial_network
from aiida_deeph.engine.nn.so2 import SO2Product

# Factors that give activations of a normal variable a second moment of 1, as e3nn computes and the reference uses them.
SILU_FACTOR = 1.6791767923989418
TANH_FACTOR = 1.5937334472592695
SIGMOID_FACTOR = 1.8467055342154763


class GatedConvolution(EngineModule):
    """Product with the spherical harmonics, gate, and a factor per channel that depends on the distance.

    :param irreps_in: irreps of source node, target node and edge.
    :param irreps_out: wanted; `self.irreps_out` holds those that can be reached, scalars first.
    """

    def __init__(
        self,
        irreps_in: Sequence[Irreps],
        irreps_sh: Irreps,
        irreps_out: Irreps,
        n_gaussians: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        joined = Irreps(entry for irreps in irreps_in for entry in irreps)
        possible = Irreps(entry for entry in irreps_out if reachable(entry.irrep, joined, irreps_sh))
        scalars = Irreps(entry for entry in possible if entry.irrep.l == 0).simplified()
        gated = Irreps(entry for entry in possible if entry.irrep.l > 0).simplified()
        if gated and not reachable(SCALAR, joined, irreps_sh):
            raise InputError(
                "convolution without even scalars has no gates", where="irreps_in", found=joined, expected="some 0e"
            )
        gates = Irreps.of([(gated.n_channels, SCALAR)]) if gated else Irreps()
        self.irreps_in, self.irreps_out = tuple(irreps_in), Irreps((*scalars, *gated))
        self.product = SO2Product(
            irreps_in, irreps_sh, Irreps((*scalars, *gates, *gated)).sorted().simplified(), normalization=normalization
        )
        self.radial = radial_network(n_gaussians, self.irreps_out.n_channels)
        self.scalars, self.gated, self.n_gates = scalars, gated, gates.n_channels
        # Where scalars and gated entries lie in the product's output: (entry, first channel).
        place: dict[Irrep, int] = {}
        self.places = []
        for mul, ir in self.irreps_out:
            entry = next(n for n, (_, other) in enumerate(self.product.irreps_out) if other == ir)
            self.places.append((entry, place.get(ir, 0)))
            place[ir] = place.get(ir, 0) + mul
        self.gate_place = (
            next((n for n, (_, ir) in enumerate(self.product.irreps_out) if ir == SCALAR), 0),
            place.get(SCALAR, 0),
        )

    def forward(self, inputs: Sequence[Features], gaussians: Tensor, loops: Tensor) -> Features:
        """:param inputs: features of source node, target node and edge, in the edge frame.
        :param gaussians: shape (n_edges, n_gaussians).
        """
        z = self.product(inputs, loops)
        factors = self.radial(gaussians).split([mul for mul, _ in self.irreps_out], dim=1)
        entry, first = self.gate_place
        gates = (SIGMOID_FACTOR * torch.sigmoid(z[entry][:, 0, first:])).split([mul for mul, _ in self.gated], dim=1)
        result = []
        for n, ((mul, ir), (entry, first), factor) in enumerate(
            zip(self.irreps_out, self.places, factors, strict=True)
        ):
            value = z[entry][:, :, first : first + mul]
            if ir.l > 0:
                scale = gates[n - len(self.scalars)] * factor
            else:
                value = nn.functional.silu(value) if ir.p > 0 else torch.tanh(value)
                scale = factor * (SILU_FACTOR if ir.p > 0 else TANH_FACTOR)
            result.append(value * scale.unsqueeze(1))
        return result


class _Update(EngineModule):
    """What updates of nodes and edges share: linear maps around the convolution, normalisation and the way past it."""

    def __init__(
        self,
        irreps_own: Irreps,
        irreps_in: Sequence[Irreps],
        irreps_sh: Irreps,
        irreps_out: Irreps,
        n_types: int,
        n_gaussians: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        self.irreps_in = irreps_own
        self.lin_pre = EquivariantLinear(irreps_own, irreps_own, bias=True, normalization=normalization)
        self.conv = GatedConvolution(irreps_in, irreps_sh, irreps_out, n_gaussians, normalization)
        self.irreps_out = self.conv.irreps_out
        self.lin_post = EquivariantLinear(self.irreps_out, self.irreps_out, bias=True, normalization=normalization)
        self.self_connection = EquivariantLinear(
            irreps_own, self.irreps_out, n_types=n_types, normalization=normalization
        )
        self.norm = EquivariantLayerNorm(self.irreps_out)
        same = self.irreps_out == irreps_own
        self.skip = None if same else EquivariantLinear(irreps_own, self.irreps_out, normalization=normalization)

    def combine(self, x: Features, messages: Features, groups: TypeGroups | None) -> Features:
        """Features before normalisation, from the old ones and the convolution's."""
        return self.self_connection(x, groups, onto=self.lin_post(messages))

    def past(self, x: Features, normalised: Features) -> Features:
        """New features: the old ones added to what was normalised."""
        if self.skip is not None:
            return self.skip(x, onto=normalised)
        return [a + b for a, b in zip(x, normalised, strict=True)]


class NodeUpdate(_Update):
    """x' = LN(Lin_post(sum over edges of Conv(x_i, x_j, e_ij)) + SC(x)) + Skip(x)."""

    def __init__(
        self, irreps_node: Irreps, irreps_edge: Irreps, irreps_sh: Irreps, irreps_out: Irreps, n_species: int, **options
    ) -> None:
        super().__init__(
            irreps_node, (irreps_node, irreps_node, irreps_edge), irreps_sh, irreps_out, n_species, **options
        )

    def messages(self, h: Features, e: Features, edges: Edges, gaussians: Tensor) -> Features:
        """Sum at each atom over the given edges; `h` is `lin_pre` of the nodes."""
        n_atoms = h[0].shape[0]
        inputs = [edges.gather(h, self.irreps_in, edges.source), edges.gather(h, self.irreps_in, edges.target), e]
        z = self.conv(inputs, gaussians, edges.loops)
        return edges.sum_at_source(edges.frames.to_laboratory(z, self.irreps_out), n_atoms)


class EdgeUpdate(_Update):
    """e' = LN(Lin_post(Conv(x'_i, x'_j, Lin_pre(e))) + SC(e)) + Skip(e), with the nodes already updated."""

    def __init__(
        self, irreps_node: Irreps, irreps_edge: Irreps, irreps_sh: Irreps, irreps_out: Irreps, n_types: int, **options
    ) -> None:
        super().__init__(
            irreps_edge, (irreps_node, irreps_node, irreps_edge), irreps_sh, irreps_out, n_types, **options
        )
        self.irreps_node = irreps_node

    def raw(self, x: Features, e: Features, edges: Edges, gaussians: Tensor) -> Features:
        """New features of the given edges before normalisation."""
        inputs = [
            edges.gather(x, self.irreps_node, edges.source),
            edges.gather(x, self.irreps_node, edges.target),
            self.lin_pre(e),
        ]
        return self.combine(e, self.conv(inputs, gaussians, edges.loops), edges.groups)
