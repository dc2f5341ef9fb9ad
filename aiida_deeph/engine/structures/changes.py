"""Random changes of a structure, each drawn from the generator that it is given."""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure, require_size
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.structures.layers import layers_of

Distribution = Literal["uniform", "normal"]
# Rounds in which atoms that came too close are drawn anew.
TRIES = 500


def random_moves(
    structure: Structure, amplitude: float, distribution: Distribution, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Displacements, shape (n_atoms, 3), Angstrom.

    :param amplitude: half-width of each coordinate if uniform, standard deviation if normal (cut at two of them).
    """
    if distribution == "normal":
        return np.asarray(amplitude * np.clip(rng.normal(size=structure.positions.shape), -2, 2))
    return np.asarray(amplitude * rng.uniform(-1, 1, size=structure.positions.shape))


def displaced(structure: Structure, moves: NDArray[np.float64]) -> Structure:
    """The structure with each atom moved, shape (n_atoms, 3), Angstrom."""
    return Structure(structure.symbols, structure.positions + moves, structure.cell, structure.pbc)


def rattled(structure: Structure, amplitude: float, min_distance: float | None, rng: np.random.Generator) -> Structure:
    """Normal displacements of a standard deviation; atoms that come too close are drawn anew.

    :param min_distance: between any two atoms, Angstrom; None is 0.85 times the shortest distance in the structure.
    :raises InputError: the atoms are too close already, or no displacements keep them apart.
    """
    if min_distance is None:
        min_distance = 0.85 * shortest_distance(structure)
    moves = amplitude * rng.normal(size=structure.positions.shape)
    for _ in range(TRIES):
        moved = displaced(structure, moves)
        pairs = pairs_within(moved, min_distance)
        apart = (pairs[:, 3] != pairs[:, 4]) | pairs[:, :3].any(axis=1)
        close = np.unique(pairs[apart, 3])
        if not len(close):
            return moved
        moves[close] = amplitude * rng.normal(size=(len(close), 3))
    raise InputError(
        "atoms stay too close",
        where="rattle",
        found=f"{len(close)} of {len(structure)} atoms nearer than {min_distance:.3g} Angstrom",
        remedy="a smaller amplitude or min_distance",
    )


def shortest_distance(structure: Structure) -> float:
    """Smallest distance between two atoms, periodic images included, Angstrom; infinite for a single atom."""
    reach = 3.0
    limit = 2 * float(np.linalg.norm(structure.cell, axis=1).sum() + np.ptp(structure.positions, axis=0).sum())
    while reach < limit:
        pairs = pairs_within(structure, reach)
        others = pairs[(pairs[:, 3] != pairs[:, 4]) | pairs[:, :3].any(axis=1)]
        if len(others):
            return float(np.linalg.norm(structure.pair_vectors(others), axis=1).min())
        reach *= 2
    return np.inf


def random_strain(size: float, kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """A symmetric strain tensor, shape (3, 3): components within +-size; `biaxial` is one number in all directions."""
    if kind == "biaxial":
        return np.asarray(np.eye(3) * rng.uniform(-size, size))
    draw = rng.uniform(-size, size, size=(3, 3))
    return np.asarray((draw + draw.T) / 2)


def strained(structure: Structure, strain: NDArray[np.float64]) -> Structure:
    """The structure under a strain along its periodic directions; a vacuum is not strained.

    :param strain: shape (3, 3), without unit.
    """
    periodic = _periodic_projector(structure)
    deformation = np.eye(3) + periodic @ strain @ periodic
    positions, cell = structure.positions @ deformation, structure.cell @ deformation
    return Structure(structure.symbols, positions, cell, structure.pbc)


def slid(structure: Structure, spread: float, rng: np.random.Generator) -> Structure:
    """Each layer above the lowest shifted in the plane by a random vector of the cell, uniformly.

    :param spread: each interlayer distance changes by up to this as well, Angstrom.
    :raises InputError: there is only one layer.
    """
    layers = layers_of(structure)
    if len(layers) < 2:
        raise InputError(
            "nothing to slide",
            where="structure",
            found="one layer",
            expected="two or more, spanned by the first two lattice vectors",
        )
    normal = np.cross(structure.cell[0], structure.cell[1])
    normal *= np.sign(normal @ structure.cell[2]) / np.linalg.norm(normal)
    moves = np.zeros_like(structure.positions)
    lift = 0.0
    for layer in layers[1:]:
        lift += rng.uniform(-spread, spread)
        moves[layer] = rng.uniform(size=2) @ structure.cell[:2] + lift * normal
    return displaced(structure, moves)


def _periodic_projector(structure: Structure) -> NDArray[np.float64]:
    """Projector on the space of the periodic lattice vectors, shape (3, 3)."""
    vectors = structure.cell[np.array(structure.pbc)]
    if not len(vectors):
        return np.zeros((3, 3))
    basis, _ = np.linalg.qr(vectors.T)
    return np.asarray(basis @ basis.T)


def repeated(parent: Structure, counts: tuple[int, int, int]) -> Structure:
    """The parent repeated along its lattice vectors, copy by copy.

    :raises InputError: too many atoms.
    """
    require_size(prod(counts) * len(parent), "supercell", "fewer repetitions")
    cells = np.array(np.meshgrid(*map(range, counts), indexing="ij")).reshape(3, -1).T
    positions = (parent.positions[None] + (cells @ parent.cell)[:, None]).reshape(-1, 3)
    return Structure(parent.symbols * len(cells), positions, parent.cell * np.array(counts)[:, None], parent.pbc)
