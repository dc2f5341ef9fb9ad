"""DeepH-E3 on top of a part of H that is fitted in closed form before the training: H = H_fitted + scale * network.

The network need not learn energies of ten eV and their decay over the distance to a thousandth, only what functions of
three centres (`closed_form`), or of two, leave over. Not part of the published method: choose it by `network.name:
deephe3-residual`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.nn.config import network_config
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config, ResidualDeepHE3Config
from aiida_deeph.engine.nn.deephe3.network import DeepHE3
from aiida_deeph.engine.nn.deephe3.two_centre import Bonds, TwoCentre
from aiida_deeph.engine.nn.deephe3.two_centre_fit import fit_on_site, fit_scale, fit_two_centre
from aiida_deeph.engine.nn.network import AddUp, Network, entry_index, get_network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep

CLOSED_FORM = "closed-form"
"""Its name in the registry: networks do not import each other."""


class ResidualDeepHE3(Network):
    """See the module.

    :param network: of the same layout.
    :param two_centre: with its coefficients fitted, or of its scale alone where there is a closed form.
    """

    adam_eps = 1e-12

    def __init__(self, network: DeepHE3, two_centre: TwoCentre, closed_form: Network | None = None) -> None:
        super().__init__()
        self.network, self.two_centre, self.closed_form = network, two_centre, closed_form
        self.layout, self.lmax, self.hermitian = network.layout, network.lmax, network.hermitian
        self.message_cutoff = network.message_cutoff

    @classmethod
    def describe(
        cls, config: DeepHE3Config, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """Architecture of the network, and the range of the two-centre part in Angstrom."""
        end = max(pair_cutoffs.values())
        found = {"network": DeepHE3.describe(config, basis, spin, pair_cutoffs), "two_centre_end": end}
        if isinstance(config, ResidualDeepHE3Config) and config.start == CLOSED_FORM:
            start = network_config(CLOSED_FORM).model_validate({})
            found["closed_form"] = get_network(CLOSED_FORM).describe(start, basis, spin, pair_cutoffs)
        return found

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> ResidualDeepHE3:
        """Build from a model's description."""
        network = DeepHE3.from_architecture(architecture["network"], basis, spin)
        below = architecture.get("closed_form")
        closed_form = None if below is None else get_network(CLOSED_FORM).from_architecture(below, basis, spin)
        return cls(network, TwoCentre(network.layout, architecture["two_centre_end"]), closed_form)

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> dict[str, Any] | None:
        """Fit the part in closed form and the scale of the rest."""
        if self.closed_form is None:
            fit_two_centre(self.two_centre, graphs, add_up)
            return None
        below = self.closed_form.fit(graphs, add_up)
        fit_scale(self.two_centre, graphs, add_up, below=self.closed_form.columns)
        return {"closed_form": below}

    @torch.no_grad()
    def prepare(self, graph: Any) -> Any:
        """Store two-centre part and scale of each entry in the graph, as `base` and `scale`: they never change."""
        index, dtype = entry_index(self.layout, graph), self.network.embedding.weight.dtype
        base, scale = self.two_centre.columns(Bonds.of(graph))
        if self.closed_form is not None:
            base = self.closed_form.columns(graph)
        graph.base = base.view(-1)[index].to(dtype.to_complex() if base.is_complex() else dtype)
        graph.scale = scale.view(-1)[index].to(dtype)
        return super().prepare(graph)

    def raw_entries(self, graph: Any) -> Tensor:
        """Entries of H in eV, with the two-centre part as it was prepared."""
        graph = graph if "base" in graph else self.prepare(graph)
        entries: Tensor = graph.base + graph.scale * self.network.raw_entries(graph)
        return entries

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        """One or two for the surroundings of the atoms, then those of the network."""
        two_centre = self.two_centre
        below = [] if self.closed_form is None else list(self.closed_form.passes(sweep))

        def surroundings(part: Part) -> list[Tensor]:
            bonds = Bonds.of(part.graph)
            return two_centre.surroundings(bonds, two_centre.functions(bonds))

        around = sweep.sum_at_atoms("two-centre part", surroundings)
        for output in self.network.passes(sweep):

            def columns(part: Part, output: Output = output) -> Tensor:
                base, scale = two_centre.columns(Bonds.of(part.graph), surroundings=part.of_atoms(around))
                return sum((fitted.columns(part) for fitted in below), base) + scale * output.columns(part)

            yield Output(output.layout, columns)

    def fixed_weights(self) -> AbstractContextManager[None]:
        """Within, what depends on the weights alone is made once."""
        return self.network.fixed_weights()


class OnSiteDeepHE3(ResidualDeepHE3):
    """Blocks on the atoms standardised by element: their mean is taken out, their spread is the scale; no more."""

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> None:
        """Find means and spreads."""
        fit_on_site(self.two_centre, graphs, add_up)
