"""DeepH-E3 on top of a two-centre part that is fitted before the training: H = H_two-centre + scale * network.

The network need not learn energies of ten eV and their decay over the distance to a thousandth, only what two-centre
functions leave over. Not part of the published method: choose it by `network.name: deephe3-residual`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.neighbours import species_of
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.nn.config import NetworkConfig
from aiida_deeph.engine.nn.deephe3.hermitian import hermitian_average, partner_entries
from aiida_deeph.engine.nn.deephe3.network import DeepHE3, entry_index
from aiida_deeph.engine.nn.deephe3.two_centre import Bonds, TwoCentre
from aiida_deeph.engine.nn.deephe3.two_centre_fit import fit_on_site, fit_two_centre
from aiida_deeph.engine.nn.network import register_network


@register_network("deephe3-residual")
class ResidualDeepHE3(nn.Module):
    """See the module; `network` is a DeepHE3 of the same layout."""

    def __init__(self, network: DeepHE3, two_centre: TwoCentre) -> None:
        super().__init__()
        self.network, self.two_centre = network, two_centre
        self.layout, self.lmax, self.hermitian = network.layout, network.lmax, network.hermitian

    @staticmethod
    def describe(
        config: NetworkConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """Architecture of the network, and the range of the two-centre part in Angstrom."""
        end = max(pair_cutoffs.values())
        return {"network": DeepHE3.describe(config, basis, spin, pair_cutoffs), "two_centre_end": end}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> ResidualDeepHE3:
        """Build from a model's description."""
        network = DeepHE3.from_architecture(architecture["network"], basis, spin)
        return cls(network, TwoCentre(network.layout, architecture["two_centre_end"]))

    def fit(self, graphs: Sequence[Any]) -> None:
        """Fit the two-centre part and the scale; to be done once, before the training.

        :param graphs: training graphs with `label` and `entry_index`.
        """
        fit_two_centre(self.two_centre, graphs)

    @torch.no_grad()
    def prepare(self, graph: Any) -> Any:
        """Store two-centre part and scale of each entry in the graph, as `base` and `scale`: they never change."""
        index, dtype = entry_index(self.layout, graph), self.network.embedding.weight.dtype
        base, scale = self.two_centre.columns(Bonds.of(graph))
        graph.base, graph.scale = base.view(-1)[index].to(dtype), scale.view(-1)[index].to(dtype)
        return self.network.prepare(graph)

    def forward(self, graph: Any) -> Tensor:
        """Entries of H in eV in the order of the graph's atom pairs, shape (n_entries,), complex with spin."""
        base = getattr(graph, "base", None)
        if base is None:
            base = self.prepare(graph).base
        entries = base + graph.scale * self.network.raw_entries(graph)
        return hermitian_average(entries, partner_entries(self.layout, graph)) if self.hermitian else entries

    @torch.no_grad()
    def restore(
        self,
        entries: NDArray[Any],
        structure: Structure,
        atom_pairs: NDArray[np.int64],
        pairs_per_chunk: int = 20_000,
        add_up: Callable[[list[Tensor]], None] = lambda tensors: None,
    ) -> NDArray[Any]:
        """Turn outputs of `network` into entries of H, in place and in chunks.

        :param entries: in the order of `atom_pairs`, shape (n_entries,).
        :param add_up: replaces tensors by their sums over all processes, if others hold the other pairs.
        """
        species = species_of(structure, self.layout.basis.elements)
        device = self.two_centre.bond_scale.device
        chunks = [atom_pairs[n : n + pairs_per_chunk] for n in range(0, len(atom_pairs), pairs_per_chunk)]

        def bonds_of(pairs: NDArray[np.int64]) -> Bonds:
            ends = torch.from_numpy(np.ascontiguousarray(pairs[:, 3:])).to(device)
            vectors = torch.from_numpy(structure.pair_vectors(pairs)).to(device)
            return Bonds(ends[:, 0], ends[:, 1], vectors, torch.from_numpy(species).to(device))

        surroundings: list[Tensor] | None = None
        for pairs in chunks:
            bonds = bonds_of(pairs)
            surroundings = self.two_centre.surroundings(bonds, self.two_centre.functions(bonds), surroundings)
        add_up(surroundings or [])
        first = 0
        for pairs in chunks:
            index = self.layout.entry_index(species, pairs[:, 3:], np.arange(len(pairs)))
            base, scale = (
                columns.cpu().numpy().reshape(-1)[index]
                for columns in self.two_centre.columns(bonds_of(pairs), surroundings=surroundings)
            )
            window = entries[first : first + len(index)]
            window *= scale
            window += base
            first += len(index)
        return entries


@register_network("deephe3-on-site")
class OnSiteDeepHE3(ResidualDeepHE3):
    """Blocks on the atoms standardised by element: their mean is taken out, their spread is the scale; no more."""

    def fit(self, graphs: Sequence[Any]) -> None:
        """Find means and spreads; to be done once, before the training."""
        fit_on_site(self.two_centre, graphs)
