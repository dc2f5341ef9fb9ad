"""`aiida-deeph model`: trained networks."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.listing import listing, of_model
from aiida_deeph.cli.verdi_data import AS_JSON, export, print_values
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.quickstart.profile import program_beside_python

PK = click.argument("identifier", metavar="PK")


def find_model(identifier: str) -> Any:
    """A model by its identifier, or by that of a training or of a workflow that has one.

    :raises InputError: there is none.
    """
    from aiida.plugins import DataFactory

    from aiida_deeph.cli.nodes import find_output

    return find_output(identifier, ("model",), DataFactory("deeph.model"))


@click.group("model", cls=VerdiCommandGroup)
def command() -> None:
    """Trained DeepH models."""


command.add_command(listing("deeph.model", "models", of_model))


@command.command("show")
@PK
@AS_JSON
@decorators.with_dbenv()
def model_show(identifier: str, as_json: bool) -> None:
    """Show the model card: data, network, training, errors, cost, environment, what to cite."""
    from aiida_deeph.report.model_card import model_card

    datum = find_model(identifier)
    card = model_card(datum)
    if as_json:
        print_values(card, as_json)
        return
    for title, section in card.items():
        if section:
            echo.echo(title)
            print_values({f"  {key}": value for key, value in section.items()}, as_json)


@command.command("export")
@PK
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--archive",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write an AiiDA archive of the model and everything behind it instead: `verdi archive import` reads it.",
)
@decorators.with_dbenv()
def model_export(identifier: str, folder: Path | None, archive: Path | None) -> None:
    """Write the model folder, which `deeph-engine predict --model` reads, or with --archive its whole history."""
    datum = find_model(identifier)
    if (folder is None) == (archive is None):
        raise InputError(
            "nothing to write" if folder is None else "two things to write", expected="FOLDER or --archive"
        )
    if folder is not None:
        export(datum, folder)
        return
    from aiida.tools.archive import create_archive
    from aiida.tools.archive.exceptions import ArchiveExportError

    from aiida_deeph.report.model_card import workflows_behind

    archive = archive.absolute()
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
@click.option("--reference", is_flag=True, help="FOLDER is a training folder of the reference DeepH-E3 code.")
@click.option(
    "--cutoff",
    type=click.FloatRange(min=0, min_open=True),
    help="With --reference: range of the atom pairs of its training data, Angstrom; the folder does not tell.",
)
@click.option(
    "--dataset",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --reference: a DeepH folder of its training data, or a folder of them, where that range is measured.",
)
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def model_import(
    folder: Path,
    reference: bool,
    cutoff: float | None,
    dataset: Path | None,
    label: str | None,
    description: str | None,
) -> None:
    """Store a model folder (model.json, weights.safetensors) as a node; nothing in it is executed.

    With --reference the folder is one of the reference code (best_model.pkl and src/), which is converted first.
    """
    from aiida.plugins import DataFactory

    given = {"--cutoff": cutoff, "--dataset": dataset}
    arguments = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    if arguments and not reference:
        raise InputError(f"{arguments[0]} without --reference", expected="both, or neither")
    with tempfile.TemporaryDirectory() as scratch:
        source = _converted(folder, Path(scratch) / "model", arguments) if reference else folder
        node = DataFactory("deeph.model")(source)
        node.label = label or folder.resolve().name
        node.description = description or ""
        node.store()
    echo.echo_success(f"stored as DeepHModelData<{node.pk}> of {', '.join(node.elements)} ({node.uuid})")


def _converted(folder: Path, target: Path, arguments: list[str]) -> Path:
    """A training folder of the reference code as a model folder.

    The engine does it in a process of its own: it needs torch, which the AiiDA wing does without.

    :raises DeepHError: the engine is not installed here, or refuses the folder.
    """
    engine = program_beside_python("deeph-engine")
    words = [str(engine), "import-reference", str(folder), str(target), *arguments]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise DeepHError("not imported", where=folder, found=lines[-1].removeprefix("deeph-engine: "))
    return target
