"""From features to blocks of H with weights that depend on the elements alone: QHNet's expansion."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.graph.wigner import wigner_3j
from aiida_deeph.engine.nn.equivariant.linear import TypeGroups
from aiida_deeph.engine.nn.equivariant.module import EngineModule, Modules
from aiida_deeph.engine.nn.qhnet.layers import ChannelLinear, by_l, mlp


class Expansion(EngineModule):
    """Block (a, b) of two shells: sum_L sum_k C^(l1 l2 L)_abk (sum_w W_w f_L[w, k] + B for L = 0).

    f has the parity of l1 + l2 where both parities are kept apart. W and B come from the embeddings of the elements;
    W's outputs run over parity, L, w, and the targets with these, class by class; those of B over the targets with
    L = 0. A layout of all pairs of shells 3s2p1d gives the 14x14 of QH9.

    :param n_embedding: numbers that describe the elements of an atom or pair.
    """

    def __init__(
        self,
        layout: EntryLayout,
        n_channels: int,
        bottleneck: int,
        lmax: int,
        n_embedding: int,
        *,
        ignore_parity: bool,
    ) -> None:
        super().__init__()
        self.layout = layout
        kinds = range(1 if ignore_parity else 2)
        self.bottlenecks: Modules[ChannelLinear] = Modules(
            ChannelLinear(n_channels, bottleneck, lmax, bias=False) for _ in kinds
        )
        # By parity relative to (-1)^L and by L: targets of each class that has it.
        counts: dict[tuple[int, int], list[int]] = {(kind, L): [] for kind in kinds for L in range(lmax + 1)}
        self.classes: list[tuple[int, list[tuple[int, int]]]] = []  # targets, and the features that make their blocks
        for n, ((l1, l2), members) in enumerate(layout.classes.items()):
            ls = range(abs(l1 - l2), l1 + l2 + 1)
            sources = [(0 if ignore_parity else (l1 + l2 + L) % 2, L) for L in ls]
            for source in sources:
                counts[source].append(len(members))
            self.classes.append((len(members), sources))
            tables = [wigner_3j(l1, l2, L).reshape(-1, 2 * L + 1).T for L in ls]
            self.constant(f"coupling_{n}", np.concatenate(tables))
        self.counts = {source: targets for source, targets in counts.items() if targets}
        n_outputs = [sum(targets) for targets in self.counts.values()]
        self.weights = mlp(n_embedding, n_channels, bottleneck * sum(n_outputs))
        self.bias = mlp(n_embedding, n_channels, n_outputs[0])

    def forward(self, x: list[Tensor], embeddings: Tensor, types: Tensor) -> Tensor:
        """Columns of all blocks, shape (n_items, n_columns).

        :param x: features of parity (-1)^l, then of the other one if they are kept apart, shape (n_items,
            (lmax + 1)^2, n_channels).
        :param embeddings: of each type, shape (n_types, n_embedding).
        :param types: of each item, shape (n_items,).
        """
        n_items, n_types = len(types), len(embeddings)
        if not n_items:
            return embeddings.new_zeros(0, self.layout.n_columns)
        f = [by_l(linear(features)) for linear, features in zip(self.bottlenecks, x, strict=True)]
        width, groups = f[0][0].shape[2], TypeGroups(types, n_types)
        weights = self.weights(embeddings).split([width * sum(counts) for counts in self.counts.values()], dim=1)
        values = [
            groups.matmul(f[kind][L], w.view(n_types, width, -1))
            for (kind, L), w in zip(self.counts, weights, strict=True)
        ]
        values[0] = values[0] + self.bias(embeddings).index_select(0, types)
        pieces = {
            source: iter(value.view(n_items, 2 * source[1] + 1, -1).split(counts, dim=2))
            for (source, counts), value in zip(self.counts.items(), values, strict=True)
        }
        blocks = []
        for n, (count, sources) in enumerate(self.classes):
            parts = torch.cat([next(pieces[source]) for source in sources], dim=1).transpose(1, 2)
            coupled = parts.reshape(n_items * count, -1) @ getattr(self, f"coupling_{n}")
            blocks.append(coupled.view(n_items, -1))
        return torch.cat(blocks, dim=1)
