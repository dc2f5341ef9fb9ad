"""`list` of models, datasets and Hamiltonians: the latest nodes of a kind, a line each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
from aiida.cmdline.utils import decorators, echo

MATRICES = {"H": "hamiltonian.h5", "S": "overlap.h5"}
Summary = Callable[[Mapping[str, Any]], dict[str, Any]]


def listing(entry_point: str, title: str, summary: Summary) -> click.Command:
    """The command that lists all nodes of a kind, latest first.

    :param title: what they are called.
    :param summary: from the attributes of a node to what is told of it.
    """

    @click.command("list", help=f"List {title}, the latest first.")
    @click.option("-n", "--limit", type=click.IntRange(min=1), default=30, show_default=True, help="At most so many.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
    @decorators.with_dbenv()
    def command(limit: int, as_json: bool) -> None:
        from aiida import orm
        from aiida.plugins import DataFactory

        from aiida_deeph.report.tables import columns, digits
        from aiida_deeph.report.tables import title as of_column

        query = orm.QueryBuilder().append(
            DataFactory(entry_point), project=["id", "label", "ctime", "attributes"], tag="node"
        )
        query.order_by({"node": {"id": "desc"}}).limit(limit)
        rows = [
            {"pk": pk, "label": label, "created": created.strftime("%Y-%m-%d %H:%M"), **summary(attributes)}
            for pk, label, created, attributes in query.all()
        ]
        if as_json:
            echo.echo(json.dumps(rows, indent=2))
        elif not rows:
            echo.echo(f"no {title} yet")
        else:
            keys = list(rows[0])
            cells = [[of_column(key) for key in keys]] + [[digits(key, row[key]) for key in keys] for row in rows]
            echo.echo("\n".join(columns(cells, range(1, len(keys)))))

    return command


def of_model(values: Mapping[str, Any]) -> dict[str, Any]:
    """Network, elements, spin, and the error that it was chosen by."""
    error = values["metrics"].get("test_mae_eV", values["metrics"].get("validation_mae_eV"))
    return {
        "network": values["network"],
        "elements": " ".join(values["elements"]),
        "spin": values["spin"],
        "mae_meV": None if error is None else 1000.0 * error,
    }


def of_hamiltonian(values: Mapping[str, Any]) -> dict[str, Any]:
    """Size, elements, spin, Fermi level."""
    return {
        "n_atoms": values["n_atoms"],
        "elements": " ".join(values["elements"]),
        "spin": values["spin"],
        "fermi_eV": values["fermi_energy"],
        "holds": " ".join(matrix for matrix, name in MATRICES.items() if name in values["files"]),
    }


def of_dataset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Members, elements, spin, what was rejected."""
    return {
        "members": values["n_members"],
        "rejected": len(values["rejected"]),
        "elements": " ".join(values["elements"]),
        "spin": values["spin"],
    }
