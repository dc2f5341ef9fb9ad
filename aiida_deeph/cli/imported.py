"""Labels and bands that others have computed, as nodes that say where they come from."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_deeph.engine.errors import DataError, InputError

ORIGIN = "origin"


def group_nodes(label: str, where: object) -> dict[str, Any]:
    """HamiltonianData in a group, by their own labels as member names.

    :raises InputError: no such group, or it holds none.
    """
    from aiida import orm
    from aiida.plugins import DataFactory

    query = orm.QueryBuilder().append(orm.Group, filters={"label": label}, tag="group")
    nodes = query.append(DataFactory("deeph.hamiltonian"), with_group="group").all(flat=True)
    if not nodes:
        raise InputError("no labels", where=where, found=f"group {label}", expected="a group of HamiltonianData")
    return by_member_name({node.label or f"node_{node.pk}": node for node in nodes}, str(where))


def label_nodes(folder: Path, pattern: str = "*") -> dict[str, Any]:
    """HamiltonianData of the DeepH folders below a folder, by member name; those that are stored already as they are.

    The description and the extra `origin` name the folder, without the path to it.

    :raises InputError: there is none.
    """
    from aiida import orm
    from aiida.plugins import DataFactory

    from aiida_deeph.engine.io.deeph import HAMILTONIAN_FILE, INFO_FILE

    kind = DataFactory("deeph.hamiltonian")
    found = [path for path in sorted(folder.glob(pattern)) if (path / INFO_FILE).is_file()]
    found = [path for path in found if (path / HAMILTONIAN_FILE).is_file()]
    if not found:
        raise InputError(
            "no labels",
            where=f"labels: {folder}/{pattern}",
            expected=f"folders with {INFO_FILE} and {HAMILTONIAN_FILE}",
        )
    known = orm.QueryBuilder().append(kind, project=["attributes.files", "*"]).all()
    nodes = {}
    for path in found:
        node = kind(path)
        files = node.base.attributes.get("files")
        stored = next((other for hashes, other in known if hashes == files), None)
        if stored is None:
            node.label = path.name
            node.description = f"imported from the DeepH folder {origin_of(path)}"
            node.base.extras.set(ORIGIN, origin_of(path))
        nodes[member_name(path.name)] = node if stored is None else stored
    return nodes


def imported_node(folder: Path, code: str, label: str = "") -> Any:
    """Unstored HamiltonianData of a folder of others; description and extra `origin` say which and of what code.

    :param code: `deeph`, `deeph_legacy` or a DFT code with a reader.
    :raises InputError: nothing of that kind is there.
    :raises DataError: the run did not converge, or a file is damaged.
    """
    from aiida.plugins import DataFactory

    from aiida_deeph.engine.io.deeph import write_deeph
    from aiida_deeph.engine.preprocess.source import read_source

    kind = DataFactory("deeph.hamiltonian")
    if code == "deeph":
        node = kind(folder)
        what = "the DeepH folder"
    else:
        data = read_source(code, folder)
        with tempfile.TemporaryDirectory() as temporary:
            write_deeph(Path(temporary) / "deeph", data)
            node = kind(Path(temporary) / "deeph")
        version = data.metadata.get("version")
        what = "the legacy DeepH folder" if code == "deeph_legacy" else f"output of {code}"
        what += f" (version {version}) in" if version else ""
    node.label = label
    node.description = f"imported from {what} {origin_of(folder)}"
    node.base.extras.set(ORIGIN, origin_of(folder))
    return node


def imported_bands(path: Path, structure: Any) -> Any:
    """BandsData of a DFT code's own file of bands.

    :param structure: StructureData that the bands are of; k-points are fractions of its reciprocal lattice.
    :raises InputError: no code is known that writes such files.
    :raises DataError: the file is missing or damaged.
    """
    from aiida_deeph.codes.registry import label_classes

    known = {workchain.bands_suffix: workchain for workchain in label_classes() if workchain.bands_suffix is not None}
    if path.suffix not in known:
        raise InputError("not a file of bands", where=path, expected=f"one that ends in {', '.join(known)}")
    workchain = known[path.suffix]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        expected = f"the file of bands of {workchain.record.title}"
        raise DataError("bands cannot be read", where=path, found=error, expected=expected) from None
    node = workchain.read_bands(text, structure.cell)
    node.label = path.name
    node.description = f"imported from {origin_of(path)}, by {workchain.record.title}"
    node.base.extras.set(ORIGIN, origin_of(path))
    return node


def origin_of(path: Path) -> str:
    """Name of a file or folder with that of the folder that holds it."""
    path = path.resolve()
    return f"{path.parent.name}/{path.name}"


def member_name(name: str) -> str:
    """A name as that of an input: letters and digits of ASCII, single underscores, no digit first."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    return plain if plain.isidentifier() else f"cell_{plain}".rstrip("_")


def by_member_name(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values under the names of inputs.

    :raises InputError: two names become the same.
    """
    names: dict[str, str] = {}
    for name in values:
        other = names.setdefault(member_name(name), name)
        if other != name:
            found = f"{other} and {name}: both are {member_name(name)}"
            raise InputError("names are not told apart", where=where, found=found, remedy="rename one")
    return {plain: values[name] for plain, name in names.items()}
