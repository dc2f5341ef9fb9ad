"""Twisted bilayers of hexagonal layers, equal or different."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.domain.structure import Structure, require_size
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.structures.coincidence import Coincidence, commensurate, nearest, supercell_matrix
from aiida_deeph.engine.structures.layers import cell_height, heights, stacked, two_layers

# How far the lattice vectors may be from hexagonal, as a share of their length.
HEXAGONAL = 1e-3


class TwistConfig(Config):
    """A twist: by (m, r), for equal layers, or by the angle nearest to which a common cell is looked for.

    :param m: with `r`: cos(angle) = (3m^2 + 3mr + r^2/2) / (3m^2 + 3mr + r^2); r = 1 are the usual cells.
    :param angle: degrees, 0 to 60.
    :param tolerance: degrees; None prefers 1 % of the angle and takes up to 10 %.
    :param max_strain: largest change of the upper layer's lattice constant, as a share, if the layers differ.
    :param max_atoms: in the common cell.
    :param distance: from the highest atom below to the lowest atom above, Angstrom; None keeps the bilayer's own.
    """

    m: int | None = Field(default=None, ge=1)
    r: int = Field(default=1, ge=1)
    angle: float | None = Field(default=None, ge=0, le=60)
    tolerance: float | None = Field(default=None, gt=0)
    max_strain: float = Field(default=0.005, ge=0, lt=0.2)
    max_atoms: int = Field(default=20_000, ge=2, le=1_000_000)
    distance: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_choice(self) -> TwistConfig:
        if (self.m is None) == (self.angle is None):
            raise ValueError("exactly one of m and angle")
        return self


def twisted(bilayer: Structure, config: TwistConfig) -> tuple[Structure, Coincidence]:
    """The bilayer with its upper layer turned, in the common cell of both; atoms of the lower layer come first.

    The axis goes through the origin of the bilayer's cell, and the upper layer keeps its place against the lower one.

    :param bilayer: two layers in a hexagonal cell of the first two lattice vectors.
    :raises InputError: no bilayer, not hexagonal, or no common cell.
    """
    lower, upper = two_layers(bilayer)
    gap = float(heights(upper).min() - heights(lower).max())
    return twisted_layers(lower, upper, config if config.distance else config.model_copy(update={"distance": gap}))


def twisted_layers(lower: Structure, upper: Structure, config: TwistConfig) -> tuple[Structure, Coincidence]:
    """Two layers, each in its own hexagonal cell, turned against each other, in a common cell.

    The upper one is strained if the lattice constants do not fit; the cell is as high as the higher one of the two.

    :param config: with `distance`.
    :raises InputError: a layer is not hexagonal, no common cell, or no distance.
    """
    if config.distance is None:
        raise InputError("distance of the layers is unknown", where="distance", remedy="give it in Angstrom")
    layers = _frame(lower), _frame(upper)
    lengths, atoms = (layers[0].length, layers[1].length), (len(lower), len(upper))
    if config.angle is not None:
        common = nearest(
            config.angle,
            lengths,
            atoms,
            tolerance=config.tolerance,
            max_strain=config.max_strain,
            max_atoms=config.max_atoms,
        )
    else:
        common = commensurate(config.m or 1, config.r)
        size = atoms[0] * common.n_cells[0] + atoms[1] * common.n_cells[1]
        require_size(size, f"(m, r) = ({config.m}, {config.r})", "a smaller m")
        if abs(lengths[0] / lengths[1] - 1) > HEXAGONAL:
            found = f"lattice constants {lengths[0]:g} and {lengths[1]:g} Angstrom"
            raise InputError("(m, r) is for equal layers", found=found, remedy="give the angle instead")
        strain = lengths[0] / lengths[1] - 1
        common = replace(common, strain=strain if abs(strain) > 1e-12 else 0.0)
    side = lengths[0] * np.sqrt(common.n_cells[0])
    cell = np.array([[side, 0, 0], [side / 2, side * np.sqrt(3) / 2, 0], [0, 0, max(map(cell_height, (lower, upper)))]])
    below, above = (
        _in_common_cell(layer, vector, cell) for layer, vector in zip(layers, (common.lower, common.upper), strict=True)
    )
    return stacked(cell, below, above, config.distance), common


@dataclass(frozen=True)
class _Layer:
    """A layer by its hexagonal lattice vectors, 60 degrees apart.

    :param fractional: in the plane, along these vectors, shape (n_atoms, 2).
    :param height: of each atom, Angstrom.
    :param length: lattice constant, Angstrom.
    """

    symbols: tuple[str, ...]
    fractional: NDArray[np.float64]
    height: NDArray[np.float64]
    length: float


def _frame(layer: Structure) -> _Layer:
    a, b = layer.cell[:2]
    if np.cross(a, b) @ layer.cell[2] < 0:
        a, b = b, a
    length = float(np.linalg.norm(a))
    b = a + b if a @ b < 0 else b
    if abs(a @ b / length**2 - 0.5) > HEXAGONAL or abs(np.linalg.norm(b) / length - 1) > HEXAGONAL:
        raise InputError(
            "layer is not hexagonal",
            where="structure",
            found=f"lattice vectors {np.round(layer.cell[:2], 4).tolist()}",
            expected="the first two of equal length, 60 or 120 degrees apart",
        )
    fractional = np.linalg.lstsq(np.stack([a, b], axis=1), layer.positions.T, rcond=None)[0].T
    return _Layer(layer.symbols, fractional, heights(layer), length)


def _in_common_cell(layer: _Layer, vector: tuple[int, int], cell: NDArray[np.float64]) -> Structure:
    """All atoms of a layer whose supercell vector lies along the cell's first vector."""
    matrix = supercell_matrix(vector)
    # Lattice points n with 0 <= n M^-1 < 1, in integers: n adj(M) is compared with det M.
    corners = np.array([[0, 0], matrix[0], matrix[1], matrix.sum(axis=0)])
    spans = [np.arange(low, high + 1) for low, high in zip(corners.min(axis=0), corners.max(axis=0), strict=True)]
    points = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 2)
    (a, b), (c, d) = matrix.tolist()
    scaled = points @ np.array([[d, -b], [-c, a]])
    points = points[((scaled >= 0) & (scaled < a * d - b * c)).all(axis=1)]
    fractional = (points[:, None] + layer.fractional[None]).reshape(-1, 2) @ np.linalg.inv(matrix)
    positions = np.column_stack([fractional @ cell[:2, :2], np.tile(layer.height, len(points))])
    return Structure(layer.symbols * len(points), positions, cell, (True, True, False))
