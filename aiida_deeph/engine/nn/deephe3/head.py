"""From equivariant edge features to blocks of H: a linear map, then the Wigner-Eckart layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.equivariant.features import Features
from aiida_deeph.engine.nn.equivariant.frames import Frames
from aiida_deeph.engine.nn.equivariant.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.equivariant.linear import EquivariantLinear, Normalization
from aiida_deeph.engine.nn.equivariant.module import EngineModule
from aiida_deeph.engine.nn.equivariant.wigner_eckart import components, coupling_matrix


class HamiltonianHead(EngineModule):
    """Blocks of H from the final edge features.

    :param irreps_in: of the edges.
    :param layout: targets and columns of the output.
    :param time_reversal: leave out what changes its sign under it (see `Component.time_odd`): H = T H T^-1.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        layout: EntryLayout,
        *,
        ignore_parity: bool,
        normalization: Normalization,
        time_reversal: bool = False,
    ) -> None:
        super().__init__()
        self.irreps_in, self.n_columns = irreps_in, layout.n_columns
        self.spinful, self.time_reversal = layout.n_spin_blocks > 1, time_reversal
        # Channels of each irrep of the linear map run class by class, component by component, target by target.
        channels: dict[Irrep, int] = {}
        self.classes: list[tuple[int, list[Irrep]]] = []  # number of targets, irrep of each component
        self.sizes: dict[Irrep, list[int]] = {}  # channels of an irrep by class and component
        self.channel_of: dict[tuple[int, int], tuple[Irrep, int]] = {}  # (target, component) -> irrep, channel
        for n, ((l1, l2), members) in enumerate(layout.classes.items()):
            irreps = []
            parts = components(l1, l2, self.spinful, ignore_parity)
            for k, component in enumerate(parts):
                first = channels.get(component.irrep, 0)
                irreps.append(component.irrep)
                self.sizes.setdefault(component.irrep, []).append(len(members))
                for offset, target in enumerate(members):
                    self.channel_of[target, k] = (component.irrep, first + offset)
                channels[component.irrep] = first + len(members)
            self.classes.append((len(members), irreps))
            matrix = coupling_matrix(l1, l2, self.spinful, ignore_parity)
            if time_reversal and self.spinful:
                matrix[np.repeat([c.time_odd for c in parts], [c.irrep.dim for c in parts])] = 0
            self.constant(f"coupling_{n}", matrix)
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
