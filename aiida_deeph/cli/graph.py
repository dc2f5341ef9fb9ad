"""`aiida-deeph graph`: the provenance of a process in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.params import arguments
from aiida.cmdline.utils import decorators, echo


@click.command("graph")
@arguments.PROCESS("process", required=False)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="SVG file. [default: graph-PK.svg]")
@decorators.with_dbenv()
def command(process: Any | None, output: Path | None) -> None:
    """Draw what a process comes from and what it made; nodes of one kind are one box, with their number."""
    from aiida_deeph.cli.nodes import latest_workflow
    from aiida_deeph.engine.errors import InputError
    from aiida_deeph.engine.io.files import write_text_atomic
    from aiida_deeph.report.graph_svg import draw
    from aiida_deeph.report.provenance import condensed

    process = process or latest_workflow()
    boxes, edges = condensed(process)
    if not boxes:
        raise InputError("nothing to draw", where=f"{process.process_label}<{process.pk}>", found="no calculation")
    path = output or Path(f"graph-{process.pk}.svg")
    write_text_atomic(path, draw(boxes, edges) + "\n")
    echo.echo_success(f"{len(boxes)} boxes drawn in {path}")
