"""DeepH-E3 on top of a two-centre part that is fitted before the training: H = H_two-centre + scale * network.

The network need not learn energies of ten eV and their decay over the distance to a thousandth, only what two-centre
functions leave over. Not part of the published method: choose it by `network.name: deephe3-residual`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config
from aiida_deeph.engine.nn.deephe3.network import DeepHE3
from aiida_deeph.engine.nn.deephe3.two_centre import Bonds, TwoCentre
from aiida_deeph.engine.nn.deephe3.two_centre_fit import fit_on_site, fit_two_centre
from aiida_deeph.engine.nn.network import AddUp, Network, entry_index
from aiida_deeph.engine.nn.passes import Output, Part, Sweep


class ResidualDeepHE3(Network):
    """See the module; `network` is a DeepHE3 of the same layout."""

    def __init__(self, network: DeepHE3, two_centre: TwoCentre) -> None:
        super().__init__()
        self.network, self.two_centre = network, two_centre
        self.layout, self.lmax, self.hermitian = network.layout, network.lmax, network.hermitian
        self.message_cutoff = network.message_cutoff

    @classmethod
    def describe(
        cls, config: DeepHE3Config, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """Architecture of the network, and the range of the two-centre part in Angstrom."""
        end = max(pair_cutoffs.values())
        return {"network": DeepHE3.describe(config, basis, spin, pair_cutoffs), "two_centre_end": end}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> ResidualDeepHE3:
        """Build from a model's description."""
        network = DeepHE3.from_architecture(architecture["network"], basis, spin)
        return cls(network, TwoCentre(network.layout, architecture["two_centre_end"]))

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> None:
        """Fit the two-centre part and the scale."""
        fit_two_centre(self.two_centre, graphs, add_up)

    @torch.no_grad()
    def prepare(self, graph: Any) -> Any:
        """Store two-centre part and scale of each entry in the graph, as `base` and `scale`: they never change."""
        index, dtype = entry_index(self.layout, graph), self.network.embedding.weight.dtype
        base, scale = self.two_centre.columns(Bonds.of(graph))
        graph.base, graph.scale = base.view(-1)[index].to(dtype), scale.view(-1)[index].to(dtype)
        return super().prepare(graph)

    def raw_entries(self, graph: Any) -> Tensor:
        """Entries of H in eV, with the two-centre part as it was prepared."""
        graph = graph if "base" in graph else self.prepare(graph)
        entries: Tensor = graph.base + graph.scale * self.network.raw_entries(graph)
        return entries

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        """One for the surroundings of the atoms, then those of the network."""
        two_centre = self.two_centre

        def surroundings(part: Part) -> list[Tensor]:
            bonds = Bonds.of(part.graph)
            return two_centre.surroundings(bonds, two_centre.functions(bonds))

        around = sweep.sum_at_atoms("two-centre part", surroundings)
        for output in self.network.passes(sweep):

            def columns(part: Part, output: Output = output) -> Tensor:
                base, scale = two_centre.columns(Bonds.of(part.graph), surroundings=part.of_atoms(around))
                return base + scale * output.columns(part)

            yield Output(output.layout, columns)

    def fixed_weights(self) -> AbstractContextManager[None]:
        """Within, what depends on the weights alone is made once."""
        return self.network.fixed_weights()


class OnSiteDeepHE3(ResidualDeepHE3):
    """Blocks on the atoms standardised by element: their mean is taken out, their spread is the scale; no more."""

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> None:
        """Find means and spreads."""
        fit_on_site(self.two_centre, graphs, add_up)
