"""`aiida-deeph results`: what became of the structures of a workflow or a group, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.engine.errors import InputError

KINDS = ("table", "csv", "json", "extxyz", "optimade")


@click.command("results")
@click.argument("identifiers", metavar="GROUP|PK...", nargs=-1)
@click.option("--format", "kind", type=click.Choice(KINDS), default="table", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File, instead of the terminal.")
@decorators.with_dbenv()
def command(identifiers: tuple[str, ...], kind: str, output: Path | None) -> None:
    """Show gap, Fermi level, expected error, warnings and cost of every structure of workflows, Hamiltonians or groups.

    Without an argument, of the workflow that was launched last.
    extxyz writes the structures with these values, optimade JSON lines for databases of materials.
    """
    from aiida_deeph.cli.nodes import latest_workflow
    from aiida_deeph.engine.io.files import write_text_atomic
    from aiida_deeph.report.rows import processes_of, rows_of
    from aiida_deeph.report.tables import FORMATS

    nodes = [node for identifier in identifiers for node in nodes_of(identifier)] or [latest_workflow()]
    rows = rows_of(processes_of(nodes))
    if not rows:
        expected = "workflows that use a model on structures, Hamiltonians, or a group of them"
        raise InputError("no results", where=" ".join(identifiers) or "the latest workflow", expected=expected)
    text = FORMATS[kind](rows)
    if output is None:
        echo.echo(text, nl=False)
    else:
        write_text_atomic(output, text)
        echo.echo_success(f"{len(rows)} structures written to {output}")


def nodes_of(identifier: str) -> list[Any]:
    """A node by PK or UUID, or those of a group by its label.

    :raises InputError: there is neither.
    """
    from aiida import orm
    from aiida.common.exceptions import NotExistent

    try:
        return list(orm.load_group(label=identifier).nodes)
    except NotExistent:
        pass
    try:
        return [orm.load_node(identifier)]
    except (NotExistent, ValueError) as error:
        expected = "label of a group, or PK or UUID of a node"
        raise InputError(
            "nothing of this name", where="argument", found=f"{identifier} ({error})", expected=expected
        ) from None
