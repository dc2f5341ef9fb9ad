"""Functions of the distance: Gaussians and the network that turns them into one factor per channel."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from aiida_deeph.engine.nn.equivariant.module import EngineModule

SMALLEST_EXPONENT = -80.0
"""Below, exp would give denormal numbers in float32, which make it and all that follows many times slower."""


class GaussianBasis(EngineModule):
    """exp(-(r - c)^2 / (2 w^2)) with centres c even from 0 to `end` and w their spacing; no cutoff, no envelope.

    :param end: centre of the last Gaussian, Angstrom.
    :param n: number of Gaussians.
    """

    centres: Tensor

    def __init__(self, end: float, n: int) -> None:
        super().__init__()
        self.n = n
        self.constant("centres", np.linspace(0.0, end, n))
        self.coefficient = -0.5 / (end / (n - 1)) ** 2

    def forward(self, distances: Tensor) -> Tensor:
        """:param distances: shape (n_edges,), Angstrom; returns shape (n_edges, n)."""
        exponent = (distances[:, None] - self.centres).square_().mul_(self.coefficient)
        return exponent.clamp_(min=SMALLEST_EXPONENT).exp_()


def radial_network(n_gaussians: int, n_channels: int, hidden: int = 64) -> nn.Sequential:
    """Two hidden layers with SiLU; its outputs multiply the channels of a convolution."""
    return nn.Sequential(
        nn.Linear(n_gaussians, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, n_channels)
    )
