"""Which of the cells of a design an earlier dataset holds already."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import numpy as np
from aiida import orm

from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.io.dataset import DatasetManifest, member_uuid


def content_uuid(structure: orm.StructureData, manifest: DatasetManifest) -> str | None:
    """uuid that the structure has as a member of a dataset; None if the dataset does not know an element of it."""
    engine, basis = to_engine(structure), manifest.orbital_basis
    if not set(engine.elements) <= set(basis.elements):
        return None
    rank = {symbol: n for n, symbol in enumerate(engine.elements)}
    order = np.argsort([rank[symbol] for symbol in engine.symbols], kind="stable")
    return member_uuid(engine.permuted(order), basis)


def new_cells(
    structures: Mapping[str, orm.StructureData], manifest: DatasetManifest, taken: set[str]
) -> dict[str, str]:
    """Name of each member that is to be labelled -> name of its cell.

    A cell whose atoms and lattice stand in the dataset is left out; another one that only has the name of a member gets
    a number behind it.

    :param taken: further names that are no longer free.
    """
    known = {member.uuid for member in manifest.members}
    names = {member.name for member in manifest.members} | taken | set(structures)
    result: dict[str, str] = {}
    for cell, structure in structures.items():
        uuid = content_uuid(structure, manifest)
        if uuid in known:
            continue
        name = cell
        if any(cell == member.name for member in manifest.members):
            name = next(f"{cell}_{n}" for n in count(2) if f"{cell}_{n}" not in names)
            names.add(name)
        result[name] = cell
    return result
