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
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--code",
    default="deeph",
    show_default=True,
    help="Who wrote FOLDER: deeph (POSCAR, info.json, overlap.h5, hamiltonian.h5), deeph_legacy, or a DFT code.",
)
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def data_import(folder: Path, code: str, label: str | None, description: str | None) -> None:
    """Store H(R) and S(R) of a DeepH folder, or of a DFT code's raw output, as a node that says where it is from."""
    from aiida_deeph.cli.imported import imported_node
    from aiida_deeph.engine.errors import InputError

    if code not in codes():
        raise InputError("no reader for this code", where="--code", found=code, expected=f"one of {', '.join(codes())}")
    node = imported_node(folder, code)
    node.label = label or folder.resolve().name
    node.description = description or node.description
    node.store()
    echo.echo_success(f"stored as HamiltonianData<{node.pk}>, {node.n_atoms} atoms, {node.n_pairs} pairs ({node.uuid})")
