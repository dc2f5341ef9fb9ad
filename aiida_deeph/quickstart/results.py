"""What the report shows, as plain arrays: filled from the provenance graph, drawn without AiiDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.report.error_tables import DistanceErrors, PairErrors

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BandsComparison:
    """:param distances: along the path, 1/Angstrom, shape (n_k,).
    :param ticks: (position in `distances`, name of the point).
    :param reference: DFT bands, eV, shape (n_k, n_bands).
    :param predicted: bands of the predicted H, eV, shape (n_k, n_bands).
    :param n_occupied: number of occupied bands.
    :param title: which structure.
    """

    distances: Floats
    ticks: Sequence[tuple[float, str]]
    reference: Floats
    predicted: Floats
    n_occupied: int
    title: str


@dataclass(frozen=True)
class ChainSpectrum:
    """:param energies, dos: density of states, eV and states/eV/cell, shape (n,).
    :param levels: eigenvalues at Gamma, eV, ascending, shape (n_states,).
    :param n_electrons: valence electrons: an odd number, so that one state is half filled.
    :param title: which structure.
    """

    energies: Floats
    dos: Floats
    levels: Floats
    n_electrons: float
    n_units: int
    title: str

    @property
    def middle(self) -> int:
        """Index of the half-filled state."""
        return int(self.n_electrons) // 2

    @property
    def midgap(self) -> float:
        """Energy of the half-filled state, eV."""
        return float(self.levels[self.middle])

    @property
    def gap(self) -> tuple[float, float]:
        """The states next below and next above the half-filled one, eV."""
        return float(self.levels[self.middle - 1]), float(self.levels[self.middle + 1])


@dataclass(frozen=True)
class Results:
    """Everything in the report. `summary` is what `summary.json` holds."""

    summary: Mapping[str, Any]
    distance_errors: DistanceErrors
    pair_errors: PairErrors
    bands: BandsComparison
    spectrum: ChainSpectrum
    provenance_svg: str
    commands: Sequence[str] = field(default_factory=tuple)
