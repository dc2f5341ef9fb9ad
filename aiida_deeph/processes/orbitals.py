"""Files of orbitals and pseudopotentials: from families, from the runs behind a model, or by name in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.plugins import DataFactory, GroupFactory

from aiida_deeph.calculations.overlap import ORBITALS as FOLDER
from aiida_deeph.engine.dft.base import get_record
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.formats import FORMATS
from aiida_deeph.engine.orbitals.pao import parse_orbital_name
from aiida_deeph.engine.overlap.basis import is_numeric

PaoData = DataFactory("deeph.pao")
PaoFamily = GroupFactory("deeph.family.pao")


def overlap_of(code: str, names: Mapping[str, str]) -> dict[str, str]:
    """Element -> orbitals such as `C6.0-s2p2d1`, in the words of `deeph-engine overlap`."""
    return {symbol: f"{code}:{FOLDER}:{names[symbol]}" for symbol in sorted(names)}


def orbitals_family(label: str) -> Any:
    """A family of orbitals.

    :raises InputError: it is not there.
    """
    groups = PaoFamily.collection.find(filters={"label": label})
    if not groups:
        raise InputError(
            "no such family of orbitals",
            where="orbitals_family",
            found=label,
            expected="one of " + (", ".join(group.label for group in PaoFamily.collection.all()) or "none installed"),
            remedy=f"`aiida-deeph data pao install FOLDER --label {label}`",
        )
    return groups[0]


def pseudos_family(label: str) -> Any | None:
    """A family of pseudopotentials of aiida-pseudo, of whatever kind; None if it is not there."""
    query = orm.QueryBuilder().append(orm.Group, filters={"label": label, "type_string": {"like": "pseudo.family%"}})
    return query.first(flat=True)


def find_pseudo(symbol: str, family: str, kind: str = "vps") -> orm.SinglefileData:
    """The pseudopotential of an element.

    :param kind: of the files, as aiida-pseudo calls it.
    :raises InputError: the family is not there, or does not hold it.
    """
    group = pseudos_family(family)
    if group is None:
        raise InputError(
            "no such family of pseudopotentials",
            where="pseudos_family",
            found=family,
            remedy=f"`aiida-pseudo install family FOLDER {family} -P pseudo.{kind}`, or with the orbitals: "
            "`aiida-deeph data pao install`",
        )
    try:
        node: orm.SinglefileData = group.get_pseudo(symbol)
        return node
    except ValueError:
        raise InputError(
            "pseudopotential is not in the family", where=f"PseudoPotentialFamily {family}", found=f"no {symbol}"
        ) from None


@dataclass(frozen=True)
class ElementFiles:
    """What the files of elements are called among the inputs of a label: a prefix and the symbol.

    :param orbitals: prefix of the files of orbitals; None where the program makes them itself.
    :param pseudos: prefix of the pseudopotentials.
    :param kind: of the pseudopotentials, as aiida-pseudo calls it.
    """

    orbitals: str | None
    pseudos: str
    kind: str

    def of_families(
        self, given: Mapping[str, Any] | None, names: Mapping[str, str], family: str | None, pseudos: str
    ) -> dict[str, orm.SinglefileData]:
        """All files, from families where they are not given.

        :param names: of the orbitals in their family, by element.
        :raises InputError: a family that is not installed, or does not hold one.
        """
        files = dict(given or {})
        for symbol, name in names.items():
            if self.orbitals is not None and f"{self.orbitals}{symbol}" not in files:
                files[f"{self.orbitals}{symbol}"] = orbitals_family(str(family)).get_orbitals(name)
            if f"{self.pseudos}{symbol}" not in files:
                files[f"{self.pseudos}{symbol}"] = find_pseudo(symbol, pseudos, self.kind)
        return files

    def chosen(self, files: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, dict[str, orm.SinglefileData]]:
        """`orbitals` (unless the program makes them) and `pseudos` of each element.

        :param names: of the files of orbitals, with or without their ending, by element.
        :raises InputError: one is missing, or the orbitals are not those that the basis names.
        """
        prefixes = {"pseudos": self.pseudos} | ({} if self.orbitals is None else {"orbitals": self.orbitals})
        for symbol, name in sorted(names.items()):
            for kind, prefix in prefixes.items():
                node = files.get(f"{prefix}{symbol}")
                if node is None:
                    raise InputError("file is missing", where="files", found=f"no {prefix}{symbol}", expected="a node")
                if kind == "orbitals" and name not in (getattr(node, "name", None), node.filename):
                    where = f"files.{prefix}{symbol}"
                    raise InputError(
                        "orbitals are not those of the basis", where=where, found=node.filename, expected=name
                    )
        return {kind: {s: files[f"{prefix}{s}"] for s in sorted(names)} for kind, prefix in prefixes.items()}


def orbitals_of_basis(basis: object, model: orm.Data | None = None) -> dict[str, orm.SinglefileData]:
    """Files by element that a basis in the words of `deeph-engine overlap` needs; none if it is of another kind.

    :param model: whose runs made the orbitals, of a code that makes them itself; without a model they do not exist yet.
    :raises InputError: a file is not in the database, or two different ones have its name.
    """
    if not isinstance(basis, Mapping):
        return {}
    named = {symbol: text.split(":") for symbol, text in basis.items() if is_numeric(text) and text.count(":") == 2}
    named = {symbol: words for symbol, words in named.items() if words[1] == FOLDER}
    made = [symbol for symbol, (code, _, _) in named.items() if get_record(code).makes_orbitals]
    if made and model is None:
        return {}
    known = _of_runs(model, made) if made and model is not None else {}
    return {symbol: known.get(symbol) or _stored(code, name) for symbol, (code, _, name) in named.items()}


def _of_runs(model: orm.Data, symbols: Iterable[str]) -> dict[str, orm.SinglefileData]:
    """Files that the runs behind a model made.

    :raises InputError: two runs made different ones.
    """
    found: dict[str, orm.SinglefileData] = {}
    for run in runs_of(model):
        try:
            made = run.outputs.orbitals
        except (AttributeError, NotExistent):
            continue
        for symbol in symbols:
            node = made.get(symbol)
            if node is None:
                continue
            first = found.setdefault(symbol, node)
            if first.base.attributes.get("sha256") != node.base.attributes.get("sha256"):
                raise InputError(
                    "labels of the model have different orbitals",
                    where=f"{symbol} in {run.process_label}<{run.pk}>",
                    found=f"{node.filename}<{node.pk}> is not {first.filename}<{first.pk}>",
                    expected="one basis in all labels",
                )
    return found


def _stored(code: str, orbitals: str) -> orm.SinglefileData:
    """The one file of a name in the database.

    :raises InputError: there is none, or there are several.
    """
    kind = FORMATS[str(get_record(code).basis)]
    name = parse_orbital_name(orbitals, "overlap.parameters.basis").file if kind.named else orbitals
    found = orm.QueryBuilder().append(PaoData, filters={"attributes.name": name}).all(flat=True)
    found = [node for node in found if node.code == code]
    if len({node.base.attributes.get("sha256") for node in found}) == 1:
        node: orm.SinglefileData = found[0]
        return node
    suffix = kind.suffixes[0]
    remedy = "install them with `aiida-deeph data pao install FOLDER`" if not found else "give overlap.orbitals"
    files = ", ".join(str(node.pk) for node in found)
    raise InputError(
        "orbitals of the model are not known" if not found else "orbitals of the model are not unique",
        where="overlap.orbitals",
        found=f"no {name}{suffix}" if not found else f"different files {name}{suffix}: {files}",
        remedy=remedy,
    )


def reader_of(model: orm.Data) -> str | None:
    """Name of the reader of a model's labels; None if the database does not know."""
    try:
        reader: str = model.creator.inputs.dataset.creator.inputs.reader.value
    except (AttributeError, NotExistent):
        return None
    return reader


def runs_of(model: orm.Data) -> list[orm.CalcJobNode]:
    """The DFT runs whose output a model was trained on, as far as the database knows; imported labels have none."""
    runs: list[orm.CalcJobNode] = []
    try:
        dataset = model.creator.inputs.dataset
    except (AttributeError, NotExistent):
        return runs
    while dataset is not None and dataset.creator is not None:
        inputs = dataset.creator.inputs
        labels = inputs.labels if "labels" in inputs else {}
        runs += [labels[name].creator for name in labels if labels[name].creator is not None]
        # A dataset that was extended has labels of its own.
        dataset = inputs.extend if "extend" in inputs else None
    return runs
