"""`deeph-engine export-reference`: a model as a checkpoint of the reference codes of DeepH-E3 or QHNet."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="export-reference")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--e3nn",
    type=click.Choice(["auto", "0.3", "0.4", "0.5"]),
    default="auto",
    show_default=True,
    help="Version of e3nn that the reference will run with (0.5 stands for all later ones).",
)
def command(model: Path, target: Path, e3nn: str) -> None:
    """Write MODEL as what the reference code evaluates: of DeepH-E3 the training folder TARGET (best_model.pkl and
    src/), of QHNet the checkpoint file TARGET."""
    from aiida_deeph.engine.io.model import read_description

    if read_description(model).network == "qhnet":
        from aiida_deeph.engine.nn.reference.qhnet import export_qhnet

        click.echo(f"{target}: variant {export_qhnet(model, target, e3nn=e3nn)}")
        return
    from aiida_deeph.engine.nn.reference.convert import export_reference

    for written in export_reference(model, target, e3nn=e3nn):
        click.echo(str(written))
