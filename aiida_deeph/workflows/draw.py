"""Structures by calcfunctions: cells drawn around parents, twisted bilayers; seed, settings and parents are inputs."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from aiida_deeph.data.structure import from_engine, to_engine
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.structures.design import DesignConfig, draw
from aiida_deeph.engine.structures.twist import TwistConfig, twisted


@calcfunction
def perturb_structures(
    settings: orm.Dict, first: orm.Int, last: orm.Int, **parents: orm.StructureData
) -> dict[str, orm.StructureData]:
    """Cells `first` to `last` (excluded) of a design; parents take turns in the order of their names.

    :param settings: see DesignConfig.
    :returns: `cell_0000`, `cell_0001`, ...
    """
    config = parse_config(DesignConfig, settings.get_dict(), "perturbation")
    names = sorted(parents)
    known = {name: to_engine(parents[name]) for name in names}
    return {
        cell_name(index): from_engine(draw(known[names[index % len(names)]], config, index))
        for index in range(first.value, min(last.value, config.n))
    }


def cell_name(index: int) -> str:
    """Name of a drawn cell."""
    return f"cell_{index:04d}"


@calcfunction
def twist_bilayer(bilayer: orm.StructureData, settings: orm.Dict) -> orm.StructureData:
    """A hexagonal bilayer with its upper layer turned, in a common cell.

    :param settings: see TwistConfig: `m` and `r`, or `angle`, ...
    """
    structure, _ = twisted(to_engine(bilayer), parse_config(TwistConfig, settings.get_dict(), "twist"))
    return from_engine(structure)
