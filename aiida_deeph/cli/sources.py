"""Structures of an inputs file as nodes: one of a file or of the database, or all that a pattern means."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aiida_deeph.cli import inputs as schema
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError


def structure_node(source: schema.StructureSource, folder: Path, name: str, *, store: bool = True) -> Any:
    """The node of a source; a new one (unstored) for a file.

    :param folder: where the inputs file lies.
    :param store: whether a twist, which is a process, is stored with its inputs.
    :raises InputError: no such file or node.
    """
    from aiida import orm

    node = _untwisted(source, folder, name)
    if source.twist is None:
        return node
    from aiida_deeph.workflows.draw import twist_bilayer

    settings = orm.Dict(source.twist.model_dump(mode="json", exclude_none=True))
    metadata = {"label": f"twist {name}", "store_provenance": store}
    twisted = twist_bilayer(bilayer=node, settings=settings, metadata=metadata)
    twisted.label = name
    return twisted


def _untwisted(source: schema.StructureSource, folder: Path, name: str) -> Any:
    from aiida import orm

    from aiida_deeph.cli.nodes import load
    from aiida_deeph.data.structure import to_engine
    from aiida_deeph.engine.io.folders import read_structure

    if source.file is None:
        node = load(source.pk or source.uuid, orm.StructureData, f"structure {name}")
        if source.supercell is None and source.pbc is None:
            return node
        structure = to_engine(node)
    else:
        structure = read_structure(folder / source.file)
    return _changed(structure, source, name)


def _changed(structure: Structure, source: schema.StructureSource | schema.StructuresSource, name: str) -> Any:
    """Unstored node of a structure with the changes that a source asks for."""
    from aiida_deeph.data.structure import from_engine

    if source.pbc is not None:
        structure = Structure(structure.symbols, structure.positions, structure.cell, source.pbc)
    if source.supercell is not None:
        from aiida_deeph.engine.structures.changes import repeated

        structure = repeated(structure, source.supercell)
    node = from_engine(structure)
    node.label = name
    return node


def structure_nodes(
    sources: Sequence[schema.StructuresSource], folder: Path, field: str = "structures"
) -> dict[str, Any]:
    """Nodes of all structures that some sources mean, under names of inputs; those of files are new and unstored.

    Names are those of the files with the number of the frame, or the labels of nodes; equal ones get a number behind.

    :param folder: where the inputs file lies.
    :param field: of that file, as messages name it.
    :raises InputError: a source holds nothing, or something that is no structure.
    """
    from aiida_deeph.cli.imported import member_name

    nodes: dict[str, Any] = {}
    for number, source in enumerate(sources):
        where, found = f"{field}.{number}", 0
        for name, node in _of_files(source, folder, where) if source.file else _of_database(source, where):
            plain = unique = member_name(name)
            count = 2
            while unique in nodes:
                unique, count = f"{plain}_{count}", count + 1
            nodes[unique] = node
            found += 1
        if not found:
            raise InputError("no structures", where=where, found="nothing", expected=source.file or source.group)
    return nodes


def _of_files(source: schema.StructuresSource, folder: Path, where: str) -> Iterator[tuple[str, Any]]:
    """Names and nodes of the frames of files."""
    from aiida_deeph.cli.imported import ORIGIN, origin_of
    from aiida_deeph.engine.io.deeph import INFO_FILE
    from aiida_deeph.engine.io.folders import is_legacy, read_structures

    assert source.file is not None
    paths = [Path(path) for path in sorted(glob.glob(str(folder / source.file), recursive=True))]
    if len(paths) == 1 and paths[0].is_dir() and not ((paths[0] / INFO_FILE).is_file() or is_legacy(paths[0])):
        paths = [path for path in sorted(paths[0].iterdir()) if not path.name.startswith(".")]
    if not paths:
        raise InputError("no such files", where=where, found=source.file)
    for path in paths:
        frames = read_structures(path)
        chosen = _indices(source.frames, len(frames))
        for index in chosen:
            name = path.stem if path.is_file() else path.name
            name = name if len(chosen) == 1 else f"{name}_{index:0{len(str(len(frames)))}d}"
            node = _changed(frames[index], source, name)
            node.base.extras.set(ORIGIN, f"{origin_of(path)}, frame {index}" if len(frames) > 1 else origin_of(path))
            yield name, node


def _indices(frames: str, count: int) -> Sequence[int]:
    """Numbers of the frames that are meant."""
    parts = [int(part) if part else None for part in frames.split(":")]
    if len(parts) == 1:
        return range(count)[parts[0] :][:1] if parts[0] is not None and -count <= parts[0] < count else ()
    return range(count)[slice(*parts)]


def _of_database(source: schema.StructuresSource, where: str) -> Iterator[tuple[str, Any]]:
    """Names and nodes of a group or of what filters find."""
    from aiida import orm
    from aiida.common.exceptions import NotExistent

    from aiida_deeph.data.structure import to_engine

    query = orm.QueryBuilder()
    if source.group is not None:
        try:
            orm.load_group(source.group)
        except NotExistent:
            remedy = "`verdi group list` shows the groups"
            raise InputError("no such group", where=where, found=source.group, remedy=remedy) from None
        query.append(orm.Group, filters={"label": source.group}, tag="group")
        query.append(orm.StructureData, with_group="group", tag="structure")
    else:
        query.append(orm.StructureData, filters=source.query, tag="structure")
    query.order_by({"structure": "id"})
    for (node,) in query.all():
        name = node.label or f"structure_{node.pk}"
        changed = source.supercell is not None or source.pbc is not None
        yield name, _changed(to_engine(node), source, name) if changed else node
