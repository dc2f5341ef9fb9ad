"""Layers of a two-dimensional material: which atoms belong to which, and stacks of two."""

from __future__ import annotations

import numpy as np
from ase.build import graphene, mx2
from numpy.typing import NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.structure import from_ase

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


# Name -> lattice constant and, of dichalcogenides, distance of the outer planes, Angstrom (experiment, rounded).
HONEYCOMBS: dict[str, tuple[float, float]] = {
    "graphene": (2.46, 0.0),
    "BN": (2.504, 0.0),
    "MoS2": (3.16, 3.17),
    "MoSe2": (3.29, 3.34),
    "WS2": (3.153, 3.14),
    "WSe2": (3.282, 3.34),
}


def honeycomb(name: str, vacuum: float = 20.0) -> Structure:
    """A single layer by its name, periodic in the plane, its lattice vectors 60 degrees apart.

    :param vacuum: height of the cell, Angstrom.
    :raises InputError: no such layer.
    """
    if name not in HONEYCOMBS:
        raise InputError("unknown layer", found=name, expected=f"one of {', '.join(HONEYCOMBS)}, or a structure file")
    a, thickness = HONEYCOMBS[name]
    if thickness:
        atoms = mx2(formula=name, kind="2H", a=a, thickness=thickness, vacuum=None)  # type: ignore[no-untyped-call]
    else:
        atoms = graphene(formula="C2" if name == "graphene" else name, a=a)  # type: ignore[no-untyped-call]
    atoms.cell[1] += atoms.cell[0]
    atoms.cell[2] = (0.0, 0.0, vacuum)
    atoms.pbc = (True, True, False)
    return from_ase(atoms)
