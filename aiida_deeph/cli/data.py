"""`aiida-deeph data`: Hamiltonians, and files of orbitals."""

from __future__ import annotations

from pathlib import Path

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.clean import data_clean
from aiida_deeph.cli.gth import data_gth
from aiida_deeph.cli.pao import command as pao
from aiida_deeph.cli.verdi_data import hamiltonian_export, hamiltonian_show


@click.group("data", cls=VerdiCommandGroup)
def command() -> None:
    """Real-space Hamiltonians H(R) and overlaps S(R), and files of orbitals."""


command.add_command(pao)
command.add_command(data_gth)
command.add_command(hamiltonian_show)
command.add_command(hamiltonian_export)
command.add_command(data_clean)


@command.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def data_import(folder: Path, label: str | None, description: str | None) -> None:
    """Store a DeepH folder (POSCAR, info.json, overlap.h5, hamiltonian.h5) as a node."""
    from aiida.plugins import DataFactory

    node = DataFactory("deeph.hamiltonian")(folder)
    node.label = label or folder.resolve().name
    node.description = description or ""
    node.store()
    echo.echo_success(f"stored as HamiltonianData<{node.pk}>, {node.n_atoms} atoms, {node.n_pairs} pairs ({node.uuid})")
