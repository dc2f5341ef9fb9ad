"""Between AiiDA's StructureData and the Structure of the engine; atom order and positions stay as they are."""

from __future__ import annotations

from aiida.orm import StructureData
from aiida.orm.nodes.data.structure import Kind, Site
from ase import Atoms

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.structure import from_ase


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
