"""`aiida-deeph data`: Hamiltonians, and files of orbitals."""

from __future__ import annotations

from pathlib import Path

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.clean import data_clean
from aiida_deeph.cli.listing import listing, of_hamiltonian
from aiida_deeph.cli.pao import command as pao
from aiida_deeph.cli.verdi_data import hamiltonian_export, hamiltonian_show
from aiida_deeph.codes.families import commands


@click.group("data", cls=VerdiCommandGroup)
def command() -> None:
    """Real-space Hamiltonians H(R) and overlaps S(R), and files of orbitals."""


command.add_command(pao)
command.add_command(listing("deeph.hamiltonian", "Hamiltonians", of_hamiltonian))
for making_families in commands():
    command.add_command(making_families)
command.add_command(hamiltonian_show)
command.add_command(hamiltonian_export)
command.add_command(data_clean)


def codes() -> list[str]:
    """Whose output can be imported."""
    from aiida_deeph.engine.dft.base import records

    return ["deeph", "deeph_legacy", *records()]


@command.command("import")
@click.argument("source", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--code",
    default="deeph",
    show_default=True,
    help="Who wrote FOLDER: deeph (POSCAR, info.json, overlap.h5, hamiltonian.h5), deeph_legacy, or a DFT code.",
)
@click.option("--split", help="Published split of a data set, whose parts are taken.")
@click.option("--number", nargs=3, type=click.IntRange(min=0), help="Molecules of each part: train, validation, test.")
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def data_import(
    source: Path,
    code: str,
    split: str | None,
    number: tuple[int, int, int] | None,
    label: str | None,
    description: str | None,
) -> None:
    """Store H(R) and S(R) of a DeepH folder, or of a DFT code's raw output, as a node that says where it is from.

    Of a data set of molecules, FOLDER is FILE/N, molecule N counted from 0; or FILE with --split: then --number
    molecules of each part are stored, in one group a part, FILE-SPLIT-PART.
    """
    from aiida import orm

    from aiida_deeph.cli.imported import imported_node
    from aiida_deeph.engine.errors import InputError
    from aiida_deeph.engine.preprocess.collection import chosen_members

    if code not in codes():
        raise InputError("no reader for this code", where="--code", found=code, expected=f"one of {', '.join(codes())}")
    if split is not None:
        for part, members in chosen_members(code, source, split, number).items():
            nodes = [imported_node(Path(member.path), code, member.name).store() for member in members]
            group, _ = orm.Group.collection.get_or_create(f"{source.stem}-{split}-{part}")
            group.add_nodes(nodes)
            echo.echo_success(f"{len(nodes)} molecules stored in the group {group.label}")
        return
    node = imported_node(source, code)
    node.label = label or source.resolve().name
    node.description = description or node.description
    node.store()
    echo.echo_success(f"stored as HamiltonianData<{node.pk}>, {node.n_atoms} atoms, {node.n_pairs} pairs ({node.uuid})")
