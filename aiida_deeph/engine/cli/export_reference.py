"""`deeph-engine export-reference`: a model as a checkpoint of the reference DeepH-E3 code."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="export-reference")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--e3nn",
    type=click.Choice(["auto", "0.3", "0.4", "0.5"]),
    default="auto",
    show_default=True,
    help="Version of e3nn that the reference will run with (0.5 stands for all later ones).",
)
def command(model: Path, folder: Path, e3nn: str) -> None:
    """Write MODEL as the training folder FOLDER (best_model.pkl and src/) that the reference code evaluates."""
    from aiida_deeph.engine.nn.reference.convert import export_reference

    for written in export_reference(model, folder, e3nn=e3nn):
        click.echo(str(written))
