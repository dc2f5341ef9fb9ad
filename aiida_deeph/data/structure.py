"""Between AiiDA's StructureData and the Structure of the engine; atom order and positions stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.orm import StructureData
from aiida.orm.nodes.data.structure import Kind, Site
from ase import Atoms

from aiida_deeph.engine.domain.moments import as_vectors
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.structure import from_ase

MOMENTS_OF_KINDS = "Spin moment by kind of atom in Bohr magnetons: a number along z, or [x, y, z] if noncollinear."


def atom_symbols(node: StructureData) -> tuple[str, ...]:
    """Element symbol of each atom.

    :raises InputError: a site is a mixture of elements or a partial vacancy.
    """
    symbols = {}
    for kind in node.kinds:
        if kind.is_alloy or kind.has_vacancies:
            raise InputError(
                "site without a definite element",
                where=f"kind {kind.name}",
                found=f"{kind.symbols} with weights {kind.weights}",
                expected="one element with weight 1",
            )
        symbols[kind.name] = kind.symbol
    return tuple(symbols[name] for name in node.get_site_kindnames())


def atom_moments(node: StructureData, by_kind: Mapping[str, Any], where: str = "moments") -> list[list[float]]:
    """Spin moment of each atom, [x, y, z] in Bohr magnetons, from those of the kinds; others have none.

    :param by_kind: numbers along z, or vectors.
    :raises InputError: a kind that the structure lacks, or a moment that is none.
    """
    kinds = node.get_site_kindnames()
    unknown = sorted(set(by_kind) - set(kinds))
    if unknown:
        expected = f"kinds of the structure: {', '.join(sorted(set(kinds)))}"
        raise InputError("moment of an unknown kind", where=where, found=", ".join(unknown), expected=expected)
    vectors = {}
    for kind, value in by_kind.items():
        try:
            vectors[kind] = as_vectors([value], where)[0].tolist()
        except DataError:
            raise InputError(
                "moment is not understood", where=f"{where}.{kind}", found=repr(value), expected="a number or [x, y, z]"
            ) from None
    return [vectors.get(kind, [0.0, 0.0, 0.0]) for kind in kinds]


def to_engine(node: StructureData) -> Structure:
    """The structure for the engine; kinds of the same element become that element.

    :raises InputError: a site without a definite element, no atoms, or a periodic direction without cell vector.
    """
    symbols = atom_symbols(node)
    if not symbols:
        raise InputError("structure holds no atoms", where=f"StructureData {node.uuid}" if node.is_stored else None)
    positions = [site.position for site in node.sites]
    return from_ase(Atoms(symbols, positions=positions, cell=node.cell, pbc=node.pbc))


def from_engine(structure: Structure) -> StructureData:
    """An unstored node with one kind per element."""
    node = StructureData(cell=structure.cell.tolist(), pbc=structure.pbc)
    for symbol in structure.elements:
        node.append_kind(Kind(symbols=symbol, name=symbol))
    # all sites at once: append_site copies the whole list for each atom
    sites = [
        Site(kind_name=symbol, position=position).get_raw()
        for symbol, position in zip(structure.symbols, structure.positions.tolist(), strict=True)
    ]
    node.base.attributes.set("sites", sites)
    return node
