"""How equivariant features lie in memory: by the magnitude of m, so that products with matrices need no copies.

Features of some Irreps are a list [S, V_0, V_1, ..., V_lmax]. S holds all scalars, shape (n_items, n_scalars). V_m
holds the components of all channels with l >= max(m, 1): shape (n_items, 1, n_channels) for m = 0, and for m > 0
(n_items, 2, n_channels), where the two are +m and -m. Channels are sorted by l: those of V_m are the last of V_0.
The same layout serves nodes (m about the z axis of the laboratory) and edges (m about the edge).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aiida_deeph.engine.nn.equivariant.irreps import Irreps

Features = list[Tensor]


class FeatureLayout:
    """Places of the entries of some Irreps in their features.

    :param irreps: the entries, in any order.
    """

    def __init__(self, irreps: Irreps) -> None:
        self.irreps = irreps
        self.scalars = [k for k, (_, ir) in enumerate(irreps) if ir.l == 0]
        self.vectors = sorted((k for k, (_, ir) in enumerate(irreps) if ir.l > 0), key=lambda k: irreps[k].irrep.l)
        self.lmax = irreps.lmax
        self.n_scalars = sum(irreps[k].mul for k in self.scalars)
        self.order = [*self.scalars, *self.vectors]
        self.first: dict[int, int] = {}
        position = 0
        for n, k in enumerate(self.order):
            position = 0 if n == len(self.scalars) else position
            self.first[k] = position
            position += irreps[k].mul
        self._entries = [[k for k in self.vectors if irreps[k].irrep.l >= m] for m in range(self.lmax + 1)]
        self._muls = [[irreps[k].mul for k in entries] for entries in self._entries]
        self._channels = [sum(muls) for muls in self._muls]

    def entries(self, m: int) -> list[int]:
        """Entries in V_m, in order."""
        return self._entries[m] if m <= self.lmax else []

    def muls(self, m: int) -> list[int]:
        """Channels of each entry in V_m."""
        return self._muls[m] if m <= self.lmax else []

    def n_channels(self, m: int) -> int:
        """Channels of V_m."""
        return self._channels[m] if m <= self.lmax else 0

    def skipped(self, m: int) -> int:
        """Channels of V_0 that V_m lacks; they come first."""
        return self._channels[0] - self.n_channels(m)

    def channel_order(self) -> list[int]:
        """For every channel of S and then of V_0 its place among all channels in the order of the irreps."""
        start = [0]
        for mul, _ in self.irreps:
            start.append(start[-1] + mul)
        return [c for k in self.order for c in range(start[k], start[k + 1])]

    def shapes(self) -> list[tuple[int, int]]:
        """Rows and channels per item of S, V_0, V_1, ..."""
        count = self.lmax + 1 if self.vectors else 0
        return [(1, self.n_scalars), *((1 if m == 0 else 2, self.n_channels(m)) for m in range(count))]

    def check(self, x: Features) -> None:
        """Refuse features of another layout.

        :raises ValueError: naming the first difference.
        """
        expected = [channels for _, channels in self.shapes()]
        found = [part.shape[-1] for part in x]
        if found != expected:
            raise ValueError(f"features of {found} channels, expected {expected} for {self.irreps}")

    def zeros(self, n: int, like: Tensor) -> Features:
        """Features of n items, all zero."""
        scalars, *vectors = self.shapes()
        return [like.new_zeros(n, scalars[1]), *(like.new_zeros(n, *shape) for shape in vectors)]

    def split(self, vectors: Sequence[Tensor], copies: int = 1) -> dict[int, Tensor]:
        """Each entry with l > 0 by itself: components m = 0, +1, -1, ... of shape (n_items, 2 l + 1, copies * mul).

        :param vectors: V_0, V_1, ...
        :param copies: times that the channels of each entry are there (2 for the ends of edges).
        """
        pieces: dict[int, list[Tensor]] = {k: [] for k in self.vectors}
        for m, v in enumerate(vectors):
            for k, piece in zip(self.entries(m), v.split([copies * mul for mul in self.muls(m)], dim=2), strict=True):
                pieces[k].append(piece)
        return {k: torch.cat(parts, dim=1) for k, parts in pieces.items()}

    def join(self, entries: dict[int, Tensor]) -> list[Tensor]:
        """V_0, V_1, ...: the inverse of `split`."""
        parts = {k: entry.split([1] + [2] * self.irreps[k].irrep.l, dim=1) for k, entry in entries.items()}
        count = self.lmax + 1 if self.vectors else 0
        return [torch.cat([parts[k][m] for k in self.entries(m)], dim=2) for m in range(count)]
