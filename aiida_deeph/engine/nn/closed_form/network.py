"""The closed-form three-centre Hamiltonian as a network of the registry: fitted once, nothing is learnt in epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.channels import element_of
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.closed_form.architecture import Architecture
from aiida_deeph.engine.nn.closed_form.choice import left_out_errors
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig
from aiida_deeph.engine.nn.closed_form.fit import fit
from aiida_deeph.engine.nn.closed_form.model import ThreeCentre
from aiida_deeph.engine.nn.closed_form.posterior import OUTSIDE, Posterior
from aiida_deeph.engine.nn.closed_form.prior import architecture_of, supported_detail
from aiida_deeph.engine.nn.network import AddUp, Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep

BIN_WIDTH, BINS = 0.05, 400
"""Of the table of distances in which the shortest bond is looked up, Angstrom."""
WORTHWHILE = 0.95
"""Four centres are taken where errors of structures that were left out become smaller than this share."""


class ClosedForm(Network):
    """See the module."""

    hermitian = False  # it is so by construction

    def __init__(self, model: ThreeCentre) -> None:
        super().__init__()
        self.model, self.posterior = model, Posterior(model)
        self.layout = model.layout
        # The two channels of a collinear magnet show the same surroundings.
        self.copies = 1 if all(element_of(kind) == kind for kind in self.layout.basis.elements) else 2
        self.lmax = 0  # of the rotations in graphs: it makes its own, which reach further

    @classmethod
    def describe(
        cls, config: ClosedFormConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """Functions of the distances up to the range of the data, and the largest l that their number allows."""
        return architecture_of(config, config.detail or "medium", basis, max(pair_cutoffs.values())).model_dump(
            mode="json"
        )

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> ClosedForm:
        """Build from a model's description."""
        return cls(ThreeCentre(Architecture.model_validate(architecture), EntryLayout.of(basis, spin)))

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> dict[str, Any]:
        """Set all coefficients, after the prior was chosen by the data; in float64 whatever the network's type."""
        n_atoms, distances = torch.zeros(1, dtype=torch.float64), torch.zeros(BINS, dtype=torch.float64)
        for graph in graphs:
            n_atoms += len(graph.species) / self.copies
            lengths = graph.edge_vec.to(torch.float64)[self.model.between(graph)].norm(dim=1)
            distances += torch.histc(lengths, BINS, 0, BINS * BIN_WIDTH)
        add_up([n_atoms, distances])
        known = self.model.architecture
        config = ClosedFormConfig(
            lmax_environment=None if known.choose_lmax else known.lmax_environment,
            detail=None if known.choose else known.detail,
            body_order=None if known.choose_order else 3 if known.products is None else 4,
            element_channels=known.element_channels,
        )
        detail = config.detail or supported_detail(int(n_atoms))
        occupied = torch.nonzero(distances)
        shortest = BIN_WIDTH * int(occupied[0]) if len(occupied) else 1.0
        shapes = (config, detail, self.layout.basis, known.bond.end, shortest)
        architecture = architecture_of(*shapes)
        if config.body_order is None and detail == "fine":
            four = architecture_of(*shapes, body_order=4)
            if four.products is not None:
                errors = left_out_errors(ThreeCentre(four, self.layout), graphs, add_up)
                chosen = four if errors[1] < WORTHWHILE * errors[0] else architecture
                architecture = chosen.model_copy(update={"left_out_errors": errors})
        exact = ThreeCentre(architecture, self.layout)
        posterior = Posterior(exact)
        fit(exact, graphs, add_up, lambda name, solution: posterior.take(exact, name, solution))
        like = self.model.mixing
        self.model = exact.to(device=like.device, dtype=like.dtype)
        self.posterior = posterior.to(device=like.device, dtype=like.dtype)
        return architecture.model_dump(mode="json")

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        """One for the surroundings of the atoms, one for H."""
        model = self.model
        floats = sum((2 * l + 1) ** 2 for l in range(model.lmax + 1))
        geometry = sweep.once(lambda part: model.geometry(part.graph), floats)

        def around(part: Part) -> list[Tensor]:
            return model.around(part.graph, *geometry(part))

        sums = sweep.sum_at_atoms("surroundings", around)

        def columns(part: Part) -> Tensor:
            return model.columns(part.graph, *geometry(part), part.of_atoms(sums))

        if not self.posterior.known:
            yield Output(self.layout, columns)
            return
        known = sweep.once(
            lambda part: self.posterior.of_edges(model, part.graph, *geometry(part), part.of_atoms(sums))
        )

        def deviation(part: Part) -> Tensor:
            return self.posterior.expected_error(model, part.graph, known(part)[1])

        def outside(part: Part) -> Tensor:
            return known(part)[0] > OUTSIDE

        def information(part: Part) -> Iterator[tuple[str, Tensor, Tensor]]:
            leverage, variance = known(part)
            own = variance / (1 + leverage[:, None])
            errors = self.posterior.expected_error(model, part.graph, own)
            for name, places, rows in self.posterior.whitened(model, part.graph, *geometry(part), part.of_atoms(sums)):
                yield name, rows, errors[places]

        yield Output(self.layout, columns, deviation=deviation, outside=outside, information=information)
