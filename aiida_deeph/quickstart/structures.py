"""The quickstart's structures as calcfunctions, so that they too have a provenance."""

from __future__ import annotations

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_deeph.data.structure import from_engine
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.quickstart import polyacetylene


def to_node(structure: Structure, label: str) -> orm.StructureData:
    """A StructureData (unstored) with a label."""
    node = from_engine(structure)
    node.label = label
    return node


@calcfunction
def perturbed_cells(
    n_cells: orm.Int,
    units: orm.List,
    max_alternation: orm.Float,
    displacement: orm.Float,
    vacuum: orm.Float,
    seed: orm.Int,
) -> dict[str, orm.StructureData]:
    """Cells of trans-polyacetylene with every bond alternation from -max to +max and random displacements.

    The alternations are spread evenly, not drawn: both ground states and the uniform chain between them, which the
    heart of a domain wall resembles, are covered by however few cells.

    :param units: numbers of CH units, taken in turn.
    :param max_alternation: Angstrom.
    :param displacement: standard deviation of each coordinate, Angstrom.
    """
    rng = np.random.default_rng(seed.value)
    sizes = units.get_list()
    n = n_cells.value
    alternations = rng.permutation(np.linspace(-max_alternation.value, max_alternation.value, n))
    cells = {}
    for index in range(n):
        size = sizes[index % len(sizes)]
        structure = polyacetylene.perturbed(size, alternations[index], displacement.value, rng, vacuum=vacuum.value)
        cells[f"cell_{index:02d}"] = to_node(structure, f"C{size}H{size} {index:02d}")
    return cells


@calcfunction
def validation_cell(
    n_units: orm.Int, alternation: orm.Float, displacement: orm.Float, vacuum: orm.Float, seed: orm.Int
) -> orm.StructureData:
    """One further perturbed cell, larger than those of the training data."""
    rng = np.random.default_rng(seed.value)
    structure = polyacetylene.perturbed(n_units.value, alternation.value, displacement.value, rng, vacuum=vacuum.value)
    return to_node(structure, f"C{n_units.value}H{n_units.value} validation")


@calcfunction
def soliton_chain(
    n_units: orm.Int, alternation: orm.Float, half_width: orm.Float, vacuum: orm.Float
) -> orm.StructureData:
    """A long chain that holds one domain wall between its two bond alternations."""
    structure = polyacetylene.soliton(n_units.value, alternation.value, half_width.value, vacuum=vacuum.value)
    return to_node(structure, f"C{n_units.value}H{n_units.value} soliton")
