"""From equivariant edge features to blocks of H: the Wigner-Eckart layer (Gong et al., Nat. Commun. 14, 2848 (2023)).

Without spin: H_ab = sum_L sum_m C^(l1 l2 L)_abm t_Lm with C the 3j symbols of unit norm. With spin each target has
complex outputs: spin scalars t_L and, for K = |L-1|..L+1, parts of the spin vector, V_L[m,n] = sum_k w3j(L,1,K)[m,n,k]
t_K[k]; then H[spin,a,b] = sum_(L,m,s) T_L[m,s] C[a,b,m] S[spin,s] with spin = uu, ud, du, dd and T = (t, V) along
s = 1, y, z, x.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.graph.wigner import component_order, wigner_3j
from aiida_deeph.engine.nn.equivariant.features import Features
from aiida_deeph.engine.nn.equivariant.frames import Frames
from aiida_deeph.engine.nn.equivariant.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.equivariant.linear import EquivariantLinear, Normalization
from aiida_deeph.engine.nn.equivariant.module import EngineModule

# Columns 1, sigma_y, sigma_z, sigma_x over sqrt(2); rows uu, ud, du, dd.
SPIN_BASIS = np.array([[1, 0, 1, 0], [0, -1j, 0, 1], [0, 1j, 0, 1], [1, 0, -1, 0]]) / sqrt(2)


@dataclass(frozen=True)
class Component:
    """One irrep of a target's output.

    :param half: 0 real, 1 imaginary.
    :param vector: whether it is a part of the spin vector.
    :param L: of the block, as above; `irrep` holds K.
    """

    half: int
    vector: bool
    L: int
    irrep: Irrep


def components(l1: int, l2: int, spinful: bool, ignore_parity: bool) -> list[Component]:
    """Output irreps of one target, in the order of the reference (real halves first)."""
    p = 1 if ignore_parity else (-1) ** (l1 + l2)
    ls = range(abs(l1 - l2), l1 + l2 + 1)
    result = []
    for half in range(2 if spinful else 1):
        result += [Component(half, False, L, Irrep(L, p)) for L in ls]
        if spinful:
            result += [Component(half, True, L, Irrep(K, p)) for L in ls for K in range(abs(L - 1), L + 2)]
    return result


def coupling_matrix(l1: int, l2: int, spinful: bool, ignore_parity: bool) -> NDArray[np.float64]:
    """The Wigner-Eckart layer of one target as a matrix.

    :returns: rows are its outputs, each irrep in `component_order`; columns are the elements (a, b) of its block, with
        spin (spin, a, b, real and imaginary part).
    """
    rows = []
    for c in components(l1, l2, spinful, ignore_parity):
        block = wigner_3j(l1, l2, c.L)  # a, b, m
        if not spinful:
            rows.append(np.einsum("abm->mab", block).reshape(2 * c.L + 1, -1)[component_order(c.L)])
            continue
        if c.vector:
            # k: component of the output; m: of L; n: y, z, x; s: rows of the spin basis.
            value = np.einsum("mnk,abm,sn->ksab", wigner_3j(c.L, 1, c.irrep.l), block, SPIN_BASIS[:, 1:])
        else:
            value = np.einsum("abk,s->ksab", block, SPIN_BASIS[:, 0])
        value = value * (1j if c.half else 1)
        rows.append(np.stack([value.real, value.imag], axis=-1).reshape(c.irrep.dim, -1)[component_order(c.irrep.l)])
    return np.concatenate(rows)


class HamiltonianHead(EngineModule):
    """Blocks of H from the final edge features.

    :param irreps_in: of the edges.
    :param layout: targets and columns of the output.
    """

    def __init__(
        self, irreps_in: Irreps, layout: EntryLayout, *, ignore_parity: bool, normalization: Normalization
    ) -> None:
        super().__init__()
        self.irreps_in, self.n_columns = irreps_in, layout.n_columns
        self.spinful = layout.n_spin_blocks > 1
        # Channels of each irrep of the linear map run class by class, component by component, target by target.
        channels: dict[Irrep, int] = {}
        self.classes: list[tuple[int, list[Irrep]]] = []  # number of targets, irrep of each component
        self.sizes: dict[Irrep, list[int]] = {}  # channels of an irrep by class and component
        self.channel_of: dict[tuple[int, int], tuple[Irrep, int]] = {}  # (target, component) -> irrep, channel
        for n, ((l1, l2), members) in enumerate(layout.classes.items()):
            irreps = []
            for k, component in enumerate(components(l1, l2, self.spinful, ignore_parity)):
                first = channels.get(component.irrep, 0)
                irreps.append(component.irrep)
                self.sizes.setdefault(component.irrep, []).append(len(members))
                for offset, target in enumerate(members):
                    self.channel_of[target, k] = (component.irrep, first + offset)
                channels[component.irrep] = first + len(members)
            self.classes.append((len(members), irreps))
            self.constant(f"coupling_{n}", coupling_matrix(l1, l2, self.spinful, ignore_parity))
        self.irreps_out = Irreps.of((channels[ir], ir) for ir in sorted(channels))
        self.linear = EquivariantLinear(irreps_in, self.irreps_out, bias=True, normalization=normalization)

    def forward(self, e: Features, frames: Frames) -> Tensor:
        """Columns of every edge, shape (n_edges, n_columns), eV, complex with spin."""
        layout = self.linear.layout_out
        t = self.linear(e)
        n = len(t[0])
        scalars = t[0].split([self.irreps_out[k].mul for k in layout.scalars], dim=1)
        by_irrep = {
            self.irreps_out[k].irrep: part.unsqueeze(1) for k, part in zip(layout.scalars, scalars, strict=True)
        }
        for k, entry in layout.split(t[1:]).items():
            irrep = self.irreps_out[k].irrep
            by_irrep[irrep] = frames.to_laboratory(entry, irrep)
        pieces = {ir: iter(entry.split(self.sizes[ir], dim=2)) for ir, entry in by_irrep.items()}
        blocks = []
        for k, (count, irreps) in enumerate(self.classes):
            parts = torch.cat([next(pieces[ir]) for ir in irreps], dim=1)
            values = parts.transpose(1, 2).reshape(n * count, -1) @ getattr(self, f"coupling_{k}")
            blocks.append(values.view(n, -1))
        columns = torch.cat(blocks, dim=1)
        return torch.view_as_complex(columns.view(n, -1, 2)) if self.spinful else columns
