"""Small cells around a parent structure: random displacements and strains, reproducible by seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from aiida import orm
from aiida.engine import calcfunction
from pydantic import Field

from aiida_deeph.data.structure import from_engine, to_engine
from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.domain.structure import Structure


class PerturbationConfig(Config):
    """How cells are drawn around their parents, which take turns.

    :param n: number of cells.
    :param amplitude: displacement of each Cartesian coordinate, Angstrom: half-width if uniform, standard deviation if
        normal (cut at two of them).
    :param strain: largest |component| of the symmetric strain along the periodic directions.
    :param supercell: repetitions of the parent before it is perturbed.
    :param seed: cell i draws from its own stream (seed, i): more cells leave the first ones as they are.
    """

    n: int = Field(ge=1)
    amplitude: float = Field(default=0.05, ge=0)
    distribution: Literal["uniform", "normal"] = "uniform"
    strain: float = Field(default=0.0, ge=0, lt=0.5)
    supercell: tuple[int, int, int] = (1, 1, 1)
    seed: int = Field(default=42, ge=0)


def repeated(parent: Structure, counts: tuple[int, int, int]) -> Structure:
    """The parent repeated along its lattice vectors, copy by copy."""
    cells = np.array(np.meshgrid(*map(range, counts), indexing="ij")).reshape(3, -1).T
    positions = (parent.positions[None] + (cells @ parent.cell)[:, None]).reshape(-1, 3)
    return Structure(parent.symbols * len(cells), positions, parent.cell * np.array(counts)[:, None], parent.pbc)


def perturbed(parent: Structure, config: PerturbationConfig, index: int) -> Structure:
    """Cell number `index` around a parent."""
    rng = np.random.default_rng([config.seed, index])
    start = repeated(parent, config.supercell)
    draw = rng.uniform(-1, 1, size=start.positions.shape)
    if config.distribution == "normal":
        draw = np.clip(rng.normal(size=start.positions.shape), -2, 2)
    strain = rng.uniform(-config.strain, config.strain, size=(3, 3))
    periodic = _periodic_projector(start)
    strain = periodic @ ((strain + strain.T) / 2) @ periodic
    deformation = np.eye(3) + strain
    positions = start.positions @ deformation + config.amplitude * draw
    return Structure(start.symbols, positions, start.cell @ deformation, start.pbc)


def _periodic_projector(structure: Structure) -> np.ndarray:
    """Projector on the space of the periodic lattice vectors, shape (3, 3): a vacuum is not strained."""
    vectors = structure.cell[np.array(structure.pbc)]
    if not len(vectors):
        return np.zeros((3, 3))
    basis, _ = np.linalg.qr(vectors.T)
    return basis @ basis.T


@calcfunction
def perturb_structures(
    settings: orm.Dict, first: orm.Int, last: orm.Int, **parents: orm.StructureData
) -> dict[str, orm.StructureData]:
    """Cells `first` to `last` (excluded) of a perturbation; parents take turns in the order of their names.

    :returns: `cell_0000`, `cell_0001`, ...
    """
    config = parse_config(PerturbationConfig, settings.get_dict(), "perturbation")
    names = sorted(parents)
    known = {name: to_engine(parents[name]) for name in names}
    return {
        cell_name(index): from_engine(perturbed(known[names[index % len(names)]], config, index))
        for index in range(first.value, min(last.value, config.n))
    }


def cell_name(index: int) -> str:
    """Name of a perturbed cell."""
    return f"cell_{index:04d}"
