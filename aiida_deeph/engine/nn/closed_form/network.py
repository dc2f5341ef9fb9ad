"""The closed-form three-centre Hamiltonian as a network of the registry: fitted once, nothing is learnt in epochs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig
from aiida_deeph.engine.nn.closed_form.fit import fit
from aiida_deeph.engine.nn.closed_form.model import Architecture, ThreeCentre
from aiida_deeph.engine.nn.closed_form.radial import RadialSpace
from aiida_deeph.engine.nn.network import AddUp, Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep

SHORTEST = 0.7
"""Angstrom; no bond is much shorter."""
TOLERANCE_BOND, TOLERANCE_ENVIRONMENT, TOLERANCE_SITE = 0.01, 0.03, 0.05
"""Components with a smaller standard deviation, as a fraction of the largest, are left out of the radial functions."""
LMAX = 8
LARGEST_SYSTEMS = 2 * 2**30
"""Bytes of all normal equations together."""


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
        layout, end = EntryLayout.of(basis, spin), max(pair_cutoffs.values())
        found = Architecture(
            bond=RadialSpace.within(SHORTEST, end, config.bond_smoothness, None, TOLERANCE_BOND),
            environment=RadialSpace.within(
                SHORTEST, end, config.environment_smoothness, config.environment_decay, TOLERANCE_ENVIRONMENT
            ),
            site=RadialSpace.within(SHORTEST, end, config.site_smoothness, config.site_decay, TOLERANCE_SITE),
            lmax_environment=config.lmax_environment or 0,
            site_lmax=config.site_lmax,
            element_channels=min(config.element_channels, len(basis.elements)),
        )
        if config.lmax_environment is None:
            candidates = [found.model_copy(update={"lmax_environment": l}) for l in range(LMAX, -1, -1)]
            found = next((a for a in candidates if ThreeCentre.size(a, layout) <= LARGEST_SYSTEMS), candidates[-1])
        return found.model_dump(mode="json")

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> ClosedForm:
        """Build from a model's description."""
        return cls(ThreeCentre(Architecture.model_validate(architecture), EntryLayout.of(basis, spin)))

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> None:
        """Set all coefficients; computed in float64 whatever the type of the network."""
        exact = copy.deepcopy(self.model).double()
        fit(exact, graphs, add_up)
        self.model.load_state_dict(exact.state_dict())

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
