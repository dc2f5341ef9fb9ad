"""`aiida-deeph data pao`: families of files of numerical orbitals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.verdi_data import AS_JSON, print_values
from aiida_deeph.codes.families import Database, database_of
from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.orbitals.formats import FORMATS

# Of codes that do not make their orbitals themselves.
OF_FILES = [record for record in records().values() if record.basis in FORMATS and not record.makes_orbitals]
PROTOCOLS = ", ".join(f"`{program.families}`" for record in OF_FILES for program in record.programs)


@click.group("pao", cls=VerdiCommandGroup)
def command() -> None:
    """Families of files of numerical orbitals (.pao, .orb, .ion.xml, .ion)."""


@command.command("install")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--label", required=True, help=f"Label; the protocols take {PROTOCOLS}.")
@click.option("--description", default="", help="Where the files are from.")
@click.option(
    "--pseudos/--no-pseudos",
    default=True,
    show_default=True,
    help="Also the pseudopotentials beside them, as a family of aiida-pseudo under the same label.",
)
@decorators.with_dbenv()
def pao_install(folder: Path, label: str, description: str, pseudos: bool) -> None:
    """Store the files of orbitals of FOLDER as a family.

    FOLDER holds them itself, with .upf files of pseudopotentials if you like, or is a code's own database, such as
    DFT_DATA19 with its folders PAO and VPS; of the several pseudopotentials of an element there, the family gets the
    one that the code's manual recommends for PBE.
    """
    from aiida_deeph.data.pao import PaoFamily

    database = database_of(folder)
    family, left_out = PaoFamily.create_from_folder(database.orbitals, label, description)
    for name, reason in left_out.items():
        echo.echo_warning(f"{name} is left out: {reason}")
    orbitals = family.orbitals
    elements = len({node.element for node in orbitals.values()})
    echo.echo_success(f"PaoFamily {label}<{family.pk}>: {len(orbitals)} files, {elements} elements")
    if pseudos and (database.pseudos or database.orbitals != folder):
        _install_pseudos(database, label, description)


def _install_pseudos(database: Database, label: str, description: str) -> None:
    from aiida.plugins import DataFactory, GroupFactory

    kind, node_class = GroupFactory("pseudo.family"), DataFactory(f"pseudo.{database.kind}")
    if kind.collection.count(filters={"label": label}):
        echo.echo_warning(f"a family of pseudopotentials {label} is there already and stays as it is")
        return
    if not database.pseudos:
        echo.echo_warning("there is none of the recommended pseudopotentials, such as C_PBE19.vps")
        return
    nodes = [node_class.get_or_create(path) for path in database.pseudos]
    elements = [node.element for node in nodes]
    twice = sorted({element for element in elements if elements.count(element) > 1})
    if twice:
        echo.echo_warning(f"no family of pseudopotentials: several of {', '.join(twice)}; use `aiida-pseudo install`")
        return
    family = kind(label=label, description=description).store()
    family.add_nodes([node if node.is_stored else node.store() for node in nodes])
    echo.echo_success(f"PseudoPotentialFamily {label}<{family.pk}>: {len(nodes)} elements")


@command.command("list")
@decorators.with_dbenv()
def pao_list() -> None:
    """List the families."""
    from aiida_deeph.data.pao import PaoFamily

    rows = [
        (group.label, str(group.pk), str(group.count()), group.description.replace("\n", " "))
        for group in sorted(PaoFamily.collection.all(), key=lambda group: group.label)
    ]
    if not rows:
        echo.echo_report("no family is installed: `aiida-deeph data pao install FOLDER --label LABEL`")
        return
    header = ("label", "PK", "files", "description")
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(3)]
    for row in [header, *rows]:
        echo.echo(" ".join(f"{text:<{width}}" for text, width in zip(row, [*widths, 0], strict=True)).rstrip())


@command.command("show")
@click.argument("label")
@click.argument("element", required=False)
@AS_JSON
@decorators.with_dbenv()
def pao_show(label: str, element: str | None, as_json: bool) -> None:
    """Show the files of the family LABEL (of ELEMENT alone), their valence, radius and functions of each l."""
    from aiida_deeph.data.pao import PaoFamily
    from aiida_deeph.engine.errors import InputError

    family: Any = PaoFamily.collection.find(filters={"label": label})
    if not family:
        raise InputError("no such family of orbitals", where="label", found=label, remedy="`aiida-deeph data pao list`")
    known = family[0].orbitals
    chosen = {name: node for name, node in known.items() if element in (None, node.element)}
    if not chosen:
        elements = ", ".join(dict.fromkeys(node.element for node in known.values()))
        raise InputError("element is not in the family", where=label, found=element, expected=f"one of {elements}")
    keys = ("valence", "radius", "radius_units", "counts")
    values = {name: {key: node.base.attributes.get(key) for key in keys} for name, node in chosen.items()}
    if as_json:
        print_values(values, True)
        return
    for name, value in values.items():
        shells = "".join(f"{letter}{count}" for letter, count in zip("spdfghi", value["counts"], strict=False))
        electrons = "" if value["valence"] is None else f"{value['valence']:5.1f} electrons  "
        echo.echo(f"{name:<10} {electrons}{value['radius']:5.1f} Bohr  up to {shells}")
