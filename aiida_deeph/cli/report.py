"""`aiida-deeph report`: a workflow as a page to look at and to pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.params import arguments
from aiida.cmdline.utils import decorators, echo


@click.command("report")
@arguments.PROCESS("process", required=False)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File. [default: report-PK.html]")
@decorators.with_dbenv()
def command(process: Any | None, output: Path | None) -> None:
    """Write one HTML file with the results of a workflow or job: figures, numbers, warnings, model card, provenance.

    Without PK it is the workflow that was launched last. The page needs no network and no server; figures can be
    zoomed, switched and saved, and their data downloaded.
    """
    from aiida_deeph.cli.nodes import latest_workflow
    from aiida_deeph.engine.io.files import write_text_atomic
    from aiida_deeph.report.gather import gather
    from aiida_deeph.report.page import page

    process = process or latest_workflow()
    report = gather(process)
    path = output or Path(f"report-{process.pk}.html")
    write_text_atomic(path, page(process, report))
    echo.echo_success(f"{len(report.figures)} figures, {len(report.warnings)} warnings written to {path}")
