"""`deeph-engine members`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("members")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--code", required=True, help="Which data set FILE is.")
@click.option("--split", required=True, help="Published split whose parts are taken.")
@click.option("--number", nargs=3, type=click.IntRange(min=0), help="Molecules of each part: train, validation, test.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("preprocess.json"), show_default=True
)
def command(file: Path, code: str, split: str, number: tuple[int, int, int] | None, output: Path) -> None:
    """Write what `deeph-engine preprocess` reads for molecules of a data set, and `split.json` beside it.

    The latter holds the names of the members of each part: the field `split` of a training.
    """
    from aiida_deeph.engine.io.files import write_text_atomic
    from aiida_deeph.engine.preprocess.collection import chosen_members

    parts = chosen_members(code, file.resolve(), split, number)
    members = [member.model_dump() for own in parts.values() for member in own]
    names = {part: [member.name for member in own] for part, own in parts.items()}
    write_text_atomic(output, json.dumps({"members": members}, indent=1) + "\n")
    write_text_atomic(output.parent / "split.json", json.dumps(names, indent=1) + "\n")
    counts = ", ".join(f"{len(own)} {part}" for part, own in names.items())
    click.echo(f"{output}: {len(members)} members ({counts})")
