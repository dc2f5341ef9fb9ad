"""Smooth functions of a distance: the largest principal components of what is expected of the function before any data.

A function f(r) = w(r) u(r), with u a Gaussian process of a given smoothness (covariance exp(-(r - r')^2 / 2 s^2)) and
w(r) how large f may be at r, lies nearly always within few components of its covariance (Karhunen-Loeve). Each of them
is as large as its standard deviation, so that one ridge penalises rough and far-reaching functions more than smooth,
near ones.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from aiida_deeph.engine.config import Config

SPACING = 0.2
"""Of the Gaussians that the functions are made of, Angstrom; they are twice as wide."""
_GRID = 400


class RadialSpace(Config):
    """What is expected of a function of a distance.

    :param start: no distance is much smaller, Angstrom.
    :param end: no distance is larger, Angstrom.
    :param smoothness: distance over which the function changes, Angstrom.
    :param decay: the function falls as exp(-r / decay), Angstrom; None means that it does not.
    :param n_functions: components that are kept.
    """

    start: float
    end: float
    smoothness: float
    decay: float | None = None
    n_functions: int

    @classmethod
    def within(cls, start: float, end: float, smoothness: float, decay: float | None, tolerance: float) -> RadialSpace:
        """With the components whose standard deviation exceeds a fraction of the largest."""
        end = max(end, start + smoothness)
        space = cls(start=start, end=end, smoothness=smoothness, decay=decay, n_functions=1)
        deviations = space._components()[0]
        return space.model_copy(update={"n_functions": int((deviations > tolerance * deviations[0]).sum())})

    def centres(self) -> Tensor:
        """Of the Gaussians, shape (n_gaussians,), Angstrom."""
        n = round((self.end - self.start) / SPACING) + 3
        return self.start + SPACING * torch.arange(-1, n - 1, dtype=torch.float64)

    def coefficients(self) -> Tensor:
        """Of the Gaussians in each component, shape (n_gaussians, n_functions), the largest component first."""
        deviations, functions, grid = self._components()
        wanted = functions[:, : self.n_functions] * deviations[: self.n_functions] * _GRID**0.5
        basis = gaussians(grid, self.centres())
        gram = basis.T @ basis
        gram += 1e-10 * gram.diagonal().max() * torch.eye(len(gram), dtype=gram.dtype)
        found: Tensor = torch.linalg.solve(gram, basis.T @ wanted)
        return found

    def _components(self) -> tuple[Tensor, Tensor, Tensor]:
        grid = torch.linspace(self.start, self.end, _GRID, dtype=torch.float64)
        weight = torch.exp(-(grid - self.start) / (self.decay or inf))
        covariance = torch.exp(-0.5 * ((grid[:, None] - grid) / self.smoothness) ** 2) * weight[:, None] * weight
        values, functions = torch.linalg.eigh(covariance)
        return (values.clamp(min=0) / _GRID).sqrt().flip(0), functions.flip(1), grid


def gaussians(distances: Tensor, centres: Tensor) -> Tensor:
    """exp(-(r - c)^2 / 2 s^2) with s twice the spacing, shape (n, n_centres)."""
    return torch.exp(-0.5 * ((distances[:, None] - centres) / (2 * SPACING)) ** 2)
