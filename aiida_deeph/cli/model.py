"""`aiida-deeph model`: trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import arguments, options
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.verdi_data import AS_JSON, MODEL, export, print_values
from aiida_deeph.engine.errors import InputError


@click.group("model", cls=VerdiCommandGroup)
def command() -> None:
    """Trained DeepH models."""


@command.command("show")
@arguments.DATUM(type=MODEL)
@AS_JSON
@decorators.with_dbenv()
def model_show(datum: Any, as_json: bool) -> None:
    """Show the model card: data, network, training, errors, cost, environment, what to cite."""
    from aiida_deeph.cli.model_card import model_card

    card = model_card(datum)
    if as_json:
        print_values(card, as_json)
        return
    for title, section in card.items():
        if section:
            echo.echo(title)
            print_values({f"  {key}": value for key, value in section.items()}, as_json)


@command.command("export")
@arguments.DATUM(type=MODEL)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--archive",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write an AiiDA archive of the model and everything behind it instead: `verdi archive import` reads it.",
)
@decorators.with_dbenv()
def model_export(datum: Any, folder: Path | None, archive: Path | None) -> None:
    """Write the model folder, which `deeph-engine predict --model` reads, or with --archive its whole history."""
    if (folder is None) == (archive is None):
        raise InputError(
            "nothing to write" if folder is None else "two things to write", expected="FOLDER or --archive"
        )
    if folder is not None:
        export(datum, folder)
        return
    from aiida.tools.archive import create_archive
    from aiida.tools.archive.exceptions import ArchiveExportError

    from aiida_deeph.cli.model_card import workflows_behind

    if archive.exists():
        raise InputError("cannot export", where=archive, found="a file", expected="a new file")
    try:
        create_archive([datum, *workflows_behind(datum)], filename=archive, include_authinfos=False)
    except ArchiveExportError as error:
        remedy = "wait for the workflows behind the model to end"
        raise InputError("cannot export", where=archive, found=error, remedy=remedy) from None
    echo.echo_success(f"written to {archive}; read it elsewhere with `verdi archive import {archive.name}`")


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
