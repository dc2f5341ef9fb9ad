"""`aiida-deeph model`: trained networks."""

from __future__ import annotations

from pathlib import Path

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.verdi_data import model_export, model_show


@click.group("model", cls=VerdiCommandGroup)
def command() -> None:
    """Trained DeepH models."""


command.add_command(model_show)
command.add_command(model_export)


@command.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def model_import(folder: Path, label: str | None, description: str | None) -> None:
    """Store a model folder (model.json, weights.safetensors) as a node; nothing in it is executed."""
    from aiida.plugins import DataFactory

    node = DataFactory("deeph.model")(folder)
    node.label = label or folder.resolve().name
    node.description = description or ""
    node.store()
    echo.echo_success(f"stored as DeepHModelData<{node.pk}> of {', '.join(node.elements)} ({node.uuid})")
