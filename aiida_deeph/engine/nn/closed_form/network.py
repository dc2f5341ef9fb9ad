"""The closed-form three-centre Hamiltonian as a network of the registry: fitted once, nothing is learnt in epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig
from aiida_deeph.engine.nn.closed_form.fit import fit
from aiida_deeph.engine.nn.closed_form.model import Architecture, ThreeCentre
from aiida_deeph.engine.nn.closed_form.prior import architecture_of, supported_detail
from aiida_deeph.engine.nn.network import AddUp, Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep


class ClosedForm(Network):
    """See the module."""

    hermitian = False  # it is so by construction

    def __init__(self, model: ThreeCentre) -> None:
        super().__init__()
        self.model = model
        self.layout = model.layout
        self.lmax = 0  # of the rotations in graphs: it makes its own, which reach further

    @classmethod
    def describe(
        cls, config: ClosedFormConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """Functions of the distances up to the range of the data, and the largest l that their number allows.

        :raises InputError: collinear spin.
        """
        if spin is SpinMode.COLLINEAR:
            raise InputError(
                "collinear spin cannot be learnt yet",
                where="dataset, spin",
                found=spin.value,
                expected="data without spin, or with spin-orbit coupling and no moments",
            )
        return architecture_of(config, config.detail or "medium", basis, max(pair_cutoffs.values())).model_dump(
            mode="json"
        )

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> ClosedForm:
        """Build from a model's description."""
        return cls(ThreeCentre(Architecture.model_validate(architecture), EntryLayout.of(basis, spin)))

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> dict[str, Any]:
        """Set all coefficients, after the prior was chosen by the number of atoms in the data.

        It is computed in float64 whatever the type of the network.
        """
        n_atoms = torch.tensor([float(sum(len(graph.species) for graph in graphs))])
        add_up([n_atoms])
        architecture = self.model.architecture
        if architecture.choose:
            config = ClosedFormConfig(
                lmax_environment=None if architecture.choose_lmax else architecture.lmax_environment,
                element_channels=architecture.element_channels,
            )
            detail = supported_detail(int(n_atoms))
            architecture = architecture_of(config, detail, self.layout.basis, architecture.bond.end)
        exact = ThreeCentre(architecture, self.layout)
        fit(exact, graphs, add_up)
        like = self.model.mixing
        self.model = exact.to(device=like.device, dtype=like.dtype)
        return architecture.model_copy(update={"choose": False}).model_dump(mode="json")

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

        yield Output(self.layout, columns)
