"""Files of OpenMX's bases by name: from families, or from the whole database."""

from __future__ import annotations

from collections.abc import Mapping

from aiida import orm
from aiida.plugins import DataFactory, GroupFactory

from aiida_deeph.engine.dft.openmx.orbital_name import parse_orbital_name
from aiida_deeph.engine.errors import InputError

# Folder of the overlap job into which files of orbitals are put.
FOLDER = "orbitals"
PREFIX = f"openmx:{FOLDER}:"

PaoData = DataFactory("deeph.pao")
PaoFamily = GroupFactory("deeph.family.pao")


def overlap_of(names: Mapping[str, str]) -> dict[str, str]:
    """Element -> orbitals such as `C6.0-s2p2d1`, in the words of `deeph-engine overlap`."""
    return {symbol: f"{PREFIX}{names[symbol]}" for symbol in sorted(names)}


def find_orbitals(name: str, family: str) -> orm.SinglefileData:
    """The file of a name such as `C6.0`.

    :raises InputError: the family is not there, or does not hold it.
    """
    groups = PaoFamily.collection.find(filters={"label": family})
    if not groups:
        raise InputError(
            "no such family of orbitals",
            where="orbitals_family",
            found=family,
            expected="one of " + (", ".join(group.label for group in PaoFamily.collection.all()) or "none installed"),
            remedy=f"`aiida-deeph data pao install FOLDER --label {family}`",
        )
    return groups[0].get_orbitals(name)


def find_pseudo(symbol: str, family: str) -> orm.SinglefileData:
    """The pseudopotential of an element.

    :raises InputError: the family is not there, or does not hold it.
    """
    groups = GroupFactory("pseudo.family").collection.find(filters={"label": family})
    if not groups:
        raise InputError(
            "no such family of pseudopotentials",
            where="pseudos_family",
            found=family,
            remedy=f"`aiida-pseudo install family FOLDER {family} -P pseudo.vps`, or with the orbitals: "
            "`aiida-deeph data pao install`",
        )
    try:
        return groups[0].get_pseudo(symbol)
    except ValueError:
        raise InputError(
            "pseudopotential is not in the family", where=f"PseudoPotentialFamily {family}", found=f"no {symbol}"
        ) from None


def orbitals_of_basis(basis: object) -> dict[str, orm.SinglefileData]:
    """Files by element that a basis in the words of `deeph-engine overlap` needs; none if it is of another kind.

    :raises InputError: a file is not in the database, or two different ones have its name.
    """
    if not isinstance(basis, Mapping):
        return {}
    return {symbol: _stored(text.removeprefix(PREFIX)) for symbol, text in basis.items() if text.startswith(PREFIX)}


def _stored(orbitals: str) -> orm.SinglefileData:
    name = parse_orbital_name(orbitals, "overlap.parameters.basis").file
    found = orm.QueryBuilder().append(PaoData, filters={"attributes.name": name}).all(flat=True)
    if len({node.base.attributes.get("sha256") for node in found}) == 1:
        return found[0]
    remedy = "install them with `aiida-deeph data pao install FOLDER`" if not found else "give overlap.orbitals"
    raise InputError(
        "orbitals of the model are not known" if not found else "orbitals of the model are not unique",
        where="overlap.orbitals",
        found=f"no {name}.pao" if not found else f"different files {name}.pao: " + ", ".join(str(n.pk) for n in found),
        remedy=remedy,
    )
