"""What the quickstart computes: the material, the DFT runs, the network. All numbers that one may want to turn."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from aiida_deeph.codes.registry import PREFIX, label_class


@dataclass(frozen=True)
class CellSettings:
    """Training and validation cells, and the long chain; lengths in Angstrom.

    :param n_cells: labelled cells.
    :param units: CH units of the cells, taken in turn; even numbers.
    :param max_alternation: bond alternations are spread evenly over [-max, max].
    :param displacement: standard deviation of every coordinate.
    :param vacuum: width of all cells across the chain: wide enough that a chain does not see its images.
    :param validation_units: CH units of the cell whose bands are compared with DFT.
    :param chain_units: CH units of the long chain; an odd number makes one domain wall.
    :param chain_alternation: bond alternation far from the wall.
    :param half_width: of the wall, CH units.
    """

    n_cells: int = 24
    units: tuple[int, ...] = (4, 6)
    max_alternation: float = 0.06
    displacement: float = 0.025
    vacuum: float = 9.0
    seed: int = 2024
    validation_units: int = 8
    validation_alternation: float = 0.045
    validation_displacement: float = 0.025
    validation_seed: int = 7
    chain_units: int = 201
    chain_alternation: float = 0.05
    half_width: float = 7.0


@dataclass(frozen=True)
class QuickstartSettings:
    """Everything that decides the result.

    :param cutoff: atom pairs further apart are dropped from the labels, Angstrom.
    :param kmesh: k-points along the chain, for labels and validation.
    :param label_parameters: of the DFT code, over its protocol `fast`.
    :param train_parameters: over the protocol `fast`.
    :param band_points: k-points from Gamma to X.
    :param broadening: of the DOS, eV.
    :param max_concurrent: jobs at a time.
    :param training_threads: of the one training job; where a second thread has to share its core it slows the first
        one down.
    """

    cells: CellSettings = CellSettings()
    cutoff: float = 7.0
    kmesh: int = 9
    label_parameters: dict[str, Any] = field(default_factory=dict)
    train_parameters: dict[str, Any] = field(default_factory=dict)
    band_points: int = 21
    broadening: float = 0.04
    max_concurrent: int = 2
    training_threads: int = 1

    def as_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)


TRAINING: dict[str, Any] = {
    # Fitted in seconds, without epochs and so without cells that tell when to stop.
    "network": {"name": "closed-form"},
    "split": {"train": 0.85, "validation": 0.0, "test": 0.15, "seed": 42},
    "epochs": 1,
    "device": "cpu",
}


def full(engine: str) -> QuickstartSettings:
    """The quickstart itself.

    :param engine: name of the code that labels.
    """
    parameters, _ = label_class(f"{PREFIX}{engine}").quickstart
    return QuickstartSettings(label_parameters=dict(parameters), train_parameters=TRAINING)


def reduced(engine: str) -> QuickstartSettings:
    """The same with everything small: it proves the plumbing within a minute or two, not the accuracy."""
    cells = CellSettings(n_cells=4, units=(4,), validation_units=4, vacuum=7.5, chain_units=15, half_width=2.0)
    network = {**TRAINING["network"], "detail": "smooth", "lmax_environment": 3}
    split = {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 42}
    training = {**TRAINING, "network": network, "split": split}
    parameters, small = label_class(f"{PREFIX}{engine}").quickstart
    label = {**parameters, **small}
    return QuickstartSettings(
        cells=cells, cutoff=5.0, kmesh=5, label_parameters=label, train_parameters=training, band_points=5
    )
