"""Dataset designs: how small cells are drawn around their parents, reproducible by seed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from ase.data import chemical_symbols
from pydantic import Field, field_validator, model_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.domain.contacts import require_apart
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.structures.changes import (
    Distribution,
    displaced,
    random_moves,
    random_strain,
    rattled,
    repeated,
    shortest_distance,
    slid,
    strained,
)
from aiida_deeph.engine.structures.defects import random_sites, substituted, with_vacancies


class Displace(Config):
    """Independent displacements of all atoms.

    :param amplitude: Angstrom: half-width of each coordinate if uniform, standard deviation if normal.
    """

    kind: Literal["displace"] = "displace"
    amplitude: float = Field(default=0.05, ge=0)
    distribution: Distribution = "uniform"

    def apply(self, structure: Structure, rng: np.random.Generator) -> Structure:
        """The structure after this step."""
        return displaced(structure, random_moves(structure, self.amplitude, self.distribution, rng))


class Rattle(Config):
    """Normal displacements that keep the atoms apart.

    :param amplitude: standard deviation, Angstrom.
    :param min_distance: between two atoms, Angstrom; None is 0.85 times the shortest distance before.
    """

    kind: Literal["rattle"] = "rattle"
    amplitude: float = Field(default=0.1, ge=0)
    min_distance: float | None = Field(default=None, gt=0)

    def apply(self, structure: Structure, rng: np.random.Generator) -> Structure:
        """The structure after this step."""
        return rattled(structure, self.amplitude, self.min_distance, rng)


class Strain(Config):
    """A random strain along the periodic directions.

    :param size: largest |component|.
    :param shape: `any` symmetric tensor, or `biaxial`: the same in all directions.
    """

    kind: Literal["strain"] = "strain"
    size: float = Field(default=0.02, ge=0, lt=0.5)
    shape: Literal["any", "biaxial"] = "any"

    def apply(self, structure: Structure, rng: np.random.Generator) -> Structure:
        """The structure after this step."""
        return strained(structure, random_strain(self.size, self.shape, rng))


class Slide(Config):
    """Layers shifted against each other by any vector in the plane.

    :param spread: largest change of an interlayer distance, Angstrom.
    """

    kind: Literal["slide"] = "slide"
    spread: float = Field(default=0.0, ge=0)

    def apply(self, structure: Structure, rng: np.random.Generator) -> Structure:
        """The structure after this step."""
        return slid(structure, self.spread, rng)


class Vacancy(Config):
    """Atoms taken out at random.

    :param element: of which element; None is any.
    :param separation: between two of them, Angstrom.
    """

    kind: Literal["vacancy"] = "vacancy"
    number: int = Field(default=1, ge=1)
    element: str | None = None
    separation: float = Field(default=0.0, ge=0)

    def apply(self, structure: Structure, rng: np.random.Generator) -> Structure:
        """The structure after this step."""
        sites = random_sites(structure, self.element, self.number, self.separation, rng)
        return with_vacancies(structure, sites)


class Substitute(Config):
    """Atoms replaced at random.

    :param by: the new element.
    :param element: which element is replaced; None is any.
    :param separation: between two of them, Angstrom.
    """

    kind: Literal["substitute"] = "substitute"
    by: str
    number: int = Field(default=1, ge=1)
    element: str | None = None
    separation: float = Field(default=0.0, ge=0)

    @field_validator("by")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in chemical_symbols[1:]:
            raise ValueError(f"{value} is no element")
        return value

    def apply(self, structure: Structure, rng: np.random.Generator) -> Structure:
        """The structure after this step."""
        sites = random_sites(structure, self.element, self.number, self.separation, rng)
        return substituted(structure, sites, self.by)


Step = Annotated[Displace | Rattle | Strain | Slide | Vacancy | Substitute, Field(discriminator="kind")]


class DesignConfig(Config):
    """How cells are drawn around their parents, which take turns.

    Without `design`, each cell is strained and its atoms are displaced: the first fields. With it, its steps are done
    one after the other, each with a stream of random numbers of its own.

    :param n: number of cells.
    :param amplitude: displacement of each Cartesian coordinate, Angstrom: half-width if uniform, standard deviation if
        normal (cut at two of them).
    :param strain: largest |component| of the symmetric strain along the periodic directions.
    :param supercell: repetitions of the parent before anything else.
    :param design: steps, e.g. `[{kind: slide}, {kind: displace, amplitude: 0.08}]`; a single one needs no list.
    :param seed: cell i draws from its own stream (seed, i): more cells leave the first ones as they are.
    """

    n: int = Field(ge=1)
    amplitude: float = Field(default=0.05, ge=0)
    distribution: Distribution = "uniform"
    strain: float = Field(default=0.0, ge=0, lt=0.5)
    supercell: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1, 1)
    design: tuple[Step, ...] = ()
    seed: int = Field(default=42, ge=0)

    @field_validator("design", mode="before")
    @classmethod
    def _one_step(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_form(self) -> DesignConfig:
        twice = sorted({"amplitude", "distribution", "strain"} & self.model_fields_set) if self.design else []
        if twice:
            raise ValueError(f"{', '.join(twice)} beside design: say it in a step of the design")
        return self

    @property
    def new_elements(self) -> set[str]:
        """Elements that the parents need not hold."""
        return {step.by for step in self.design if isinstance(step, Substitute)}


def draw(parent: Structure, config: DesignConfig, index: int) -> Structure:
    """Cell number `index` around a parent.

    :raises InputError: a step cannot be done on this parent.
    """
    structure = repeated(parent, config.supercell)
    _refuse_large_moves(structure, config)
    remedy = "a smaller amplitude or strain"
    for number, step in enumerate(config.design):
        structure = step.apply(structure, np.random.default_rng([config.seed, index, number]))
    if config.design:
        require_apart(structure, f"cell {index}", remedy)
        return structure
    rng = np.random.default_rng([config.seed, index])
    moves = random_moves(structure, config.amplitude, config.distribution, rng)
    strain = random_strain(config.strain, "any", rng)
    structure = displaced(strained(structure, strain), moves)
    require_apart(structure, f"cell {index}", remedy)
    return structure


def _refuse_large_moves(structure: Structure, config: DesignConfig) -> None:
    """Atoms that are moved by as much as a bond make another structure, not a neighbour of the parent.

    :raises InputError: an amplitude is not smaller than the shortest distance.
    """
    steps = [step for step in config.design if isinstance(step, Displace | Rattle)] if config.design else [config]
    amplitude = max((step.amplitude for step in steps), default=0.0)
    bond = shortest_distance(structure)
    if amplitude >= bond:
        raise InputError(
            "amplitude is larger than a bond",
            where="amplitude",
            found=f"{amplitude:g} Angstrom",
            expected=f"less than the shortest distance, {bond:.3g} Angstrom",
            remedy="0.05 to 0.2 Angstrom are usual",
        )
