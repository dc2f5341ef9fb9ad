"""Layers of a two-dimensional material: which atoms belong to which, and stacks of two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

# Atoms whose heights differ by more belong to different layers, Angstrom: more than between the planes inside a
# transition metal dichalcogenide (1.6), less than any van der Waals gap.
GAP = 2.0


def heights(structure: Structure) -> NDArray[np.float64]:
    """Distance of each atom from the plane of the first two lattice vectors, along its normal, Angstrom."""
    normal = np.cross(structure.cell[0], structure.cell[1])
    normal *= np.sign(normal @ structure.cell[2]) / np.linalg.norm(normal)
    return np.asarray(structure.positions @ normal, dtype=np.float64)


def cell_height(structure: Structure) -> float:
    """Extent of the cell along the normal of its first two lattice vectors, Angstrom."""
    normal = np.cross(structure.cell[0], structure.cell[1])
    return float(abs(structure.cell[2] @ normal) / np.linalg.norm(normal))


def layers_of(structure: Structure, gap: float = GAP) -> list[NDArray[np.int64]]:
    """Atoms of each layer, from the lowest to the highest, layers spanned by the first two lattice vectors.

    Where the third direction is periodic, counting starts above the widest gap, so that no layer is cut in two.

    :param gap: atoms that are further apart in height belong to different layers, Angstrom.
    """
    height = heights(structure)
    period = cell_height(structure) if structure.pbc[2] else np.inf
    if structure.pbc[2]:
        height = height % period
    order = np.argsort(height, kind="stable")
    steps = np.diff(height[order], append=height[order[0]] + period)
    if structure.pbc[2]:
        turn = int(np.argmax(steps)) + 1
        order, steps = np.roll(order, -turn), np.roll(steps, -turn)
    return [np.sort(part) for part in np.split(order, np.flatnonzero(steps[:-1] > gap) + 1)]


def two_layers(structure: Structure) -> tuple[Structure, Structure]:
    """Lower and upper layer of a bilayer, each in the bilayer's cell.

    :raises InputError: it does not consist of two layers.
    """
    layers = layers_of(structure)
    if len(layers) != 2:
        raise InputError(
            "no bilayer",
            where="structure",
            found=f"{len(layers)} layer(s)",
            expected=f"two, spanned by the first two lattice vectors, at least {GAP} Angstrom apart",
        )
    lower, upper = (structure.permuted(layer) for layer in layers)
    return lower, upper


def stacked(cell: NDArray[np.float64], lower: Structure, upper: Structure, distance: float) -> Structure:
    """Atoms of two layers in one cell, periodic in the plane, the pair centred along the third lattice vector.

    :param cell: lattice vectors in rows, the third along the normal of the others, shape (3, 3), Angstrom.
    :param distance: from the highest atom below to the lowest atom above, Angstrom.
    """
    normal = cell[2] / np.linalg.norm(cell[2])
    low, high = lower.positions @ normal, upper.positions @ normal
    bottom = (np.linalg.norm(cell[2]) - np.ptp(low) - np.ptp(high) - distance) / 2
    top = bottom + np.ptp(low) + distance
    positions = [lower.positions + (bottom - low.min()) * normal, upper.positions + (top - high.min()) * normal]
    return Structure(lower.symbols + upper.symbols, np.concatenate(positions), cell, (True, True, False))
