"""A network that somebody else might add: one file, a configuration class, one line that registers it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from e3nn import o3
from torch import Tensor, nn

from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.graph.wigner import wigner_3j
from aiida_deeph.engine.nn.config import NetworkConfig, register_network
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.run import train

N_GAUSSIANS = 6


@register_network
class ToyConfig(NetworkConfig):
    """:param message_cutoff: range of the surroundings, Angstrom."""

    implementation: ClassVar[str] = f"{__name__}:ToyNetwork"

    name: Literal["toy"] = "toy"
    message_cutoff: float | None = None
    all_pairs: bool = False


class ToyNetwork(Network):
    """Bonds along spherical harmonics, with factors that know how crowded both ends are; atoms have their own head.

    t_L(i, j) = f_L(r_ij, n_i, n_j) Y_L(r_ij), t_0(i, i) = c + d n_i, n_i = sum_k g(r_ik).
    """

    def __init__(self, layout: EntryLayout, message_cutoff: float | None, all_pairs: bool) -> None:
        super().__init__()
        self.layout, self.message_cutoff, self.all_pairs = layout, message_cutoff, all_pairs
        self.n_species = len(layout.basis.elements)
        self.parts = [
            (n, L)
            for n, target in enumerate(layout.targets)
            for L in range(abs(target.l1 - target.l2), target.l1 + target.l2 + 1, 2)
        ]
        self.bond = nn.Parameter(0.01 * torch.randn(self.n_species**2, 3 * N_GAUSSIANS, len(self.parts)))
        self.site = nn.Parameter(0.01 * torch.randn(self.n_species, 1 + N_GAUSSIANS, len(self.parts)))

    @classmethod
    def describe(
        cls, config: ToyConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        return config.model_dump(exclude={"name"})

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> ToyNetwork:
        return cls(EntryLayout.of(basis, spin), **architecture)

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        (crowd,) = sweep.sum_at_atoms("surroundings", self._crowd)

        def pairs(part: Part) -> Tensor:
            graph, (n,) = part.graph, part.of_atoms([crowd])
            i, j = graph.edge_index
            g, kind = self._gaussians(graph.edge_vec), graph.species[i] * self.n_species + graph.species[j]
            features = torch.cat([g, g * n[i], g * n[j]], dim=1)
            factors = 10 * torch.einsum("ef,eft->et", features, self.bond[kind])
            return self._columns(factors, graph.edge_vec)

        def atoms(part: Part) -> Tensor:
            graph, (n,) = part.graph, part.of_atoms([crowd])
            i = graph.edge_index[0, graph.loops]
            features = torch.cat([torch.ones_like(n[i, :1]), n[i]], dim=1)
            factors = 10 * torch.einsum("ef,eft->et", features, self.site[graph.species[i]])
            factors = factors * torch.tensor([float(L == 0) for _, L in self.parts], dtype=factors.dtype)
            return self._columns(factors, torch.zeros(len(i), 3))

        yield Output(self.layout, pairs, atoms)

    def _crowd(self, part: Part) -> list[Tensor]:
        graph, edges = part.graph, slice(None)
        if self.message_cutoff is not None:
            edges = self.message_edges(graph)
        g = self._gaussians(graph.edge_vec[edges])
        return [g.new_zeros(len(graph.species), N_GAUSSIANS).index_add(0, graph.edge_index[0, edges], g)]

    def _gaussians(self, vectors: Tensor) -> Tensor:
        centres = torch.linspace(0.5, 3, N_GAUSSIANS, dtype=torch.float64)
        distances = vectors.norm(dim=1, keepdim=True)
        return (torch.exp(-(((distances - centres) / 0.6) ** 2)) * (distances > 1e-6)).to(self.bond.dtype)

    def _columns(self, factors: Tensor, vectors: Tensor) -> Tensor:
        columns = factors.new_zeros(len(factors), self.layout.n_columns)
        for n, (t, L) in enumerate(self.parts):
            target, first = self.layout.targets[t], int(self.layout.first_columns[t])
            y = o3.spherical_harmonics(L, vectors[:, [1, 2, 0]].double(), normalize=True)
            coupling = torch.tensor(wigner_3j(target.l1, target.l2, L))
            block = torch.einsum("abm,em->eab", coupling, y).flatten(1).to(factors.dtype) * factors[:, n : n + 1]
            size = block.shape[1]
            for spin_block in (0,) if self.layout.n_spin_blocks == 1 else (0, 3):
                start = first + spin_block * size
                columns = columns.index_add(1, torch.arange(start, start + size), block)
        return columns if self.layout.n_spin_blocks == 1 else columns.to(columns.dtype.to_complex())


if __name__ == "__main__":
    # Trainings by the processes of torchrun: of each folder named.
    for folder in map(Path, sys.argv[1:]):
        train(load_config(TrainConfig, folder / "config.json"), folder, quiet=True)
