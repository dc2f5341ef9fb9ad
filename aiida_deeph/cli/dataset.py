"""`aiida-deeph dataset`: the data that models are trained on."""

from __future__ import annotations

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import decorators

from aiida_deeph.cli.listing import listing, of_dataset
from aiida_deeph.cli.verdi_data import AS_JSON, print_values


@click.group("dataset", cls=VerdiCommandGroup)
def command() -> None:
    """Datasets: labels that passed the gates."""


command.add_command(listing("deeph.dataset", "datasets", of_dataset))


@command.command("show")
@click.argument("identifier", metavar="PK")
@AS_JSON
@decorators.with_dbenv()
def dataset_show(identifier: str, as_json: bool) -> None:
    """Show members, what was rejected and why, basis, pair cutoffs, statistics."""
    from aiida.plugins import DataFactory

    from aiida_deeph.cli.nodes import find_output

    node = find_output(identifier, ("dataset",), DataFactory("deeph.dataset"))
    manifest = node.manifest.model_dump(mode="json")
    members, rejected = manifest.pop("members"), manifest.pop("rejected")
    if not as_json:
        manifest["source"].pop("agreement", None)  # numbers for machines
    values = {
        "node": f"{node.uuid} ({node.pk})",
        "members": len(members),
        "atoms": sum(member["n_atoms"] for member in members),
        "names": ", ".join(member["name"] for member in members),
        "rejected": {entry["name"]: entry["reason"] for entry in rejected},
        **manifest,
    }
    print_values({key: value for key, value in values.items() if value not in (None, {}, [])}, as_json)
