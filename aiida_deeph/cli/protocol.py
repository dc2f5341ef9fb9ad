"""`aiida-deeph protocol`: named sets of inputs."""

from __future__ import annotations

import click
import yaml
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params.types import LazyChoice
from aiida.cmdline.utils import echo

PREFIX = "deeph."


def workflow_names() -> list[str]:
    """Workflows that have protocols, without their common prefix."""
    from aiida.plugins.entry_point import get_entry_point_names

    return sorted(
        name.removeprefix(PREFIX) for name in get_entry_point_names("aiida.workflows") if name.startswith(PREFIX)
    )


WORKFLOW = LazyChoice(workflow_names)


@click.group("protocol", cls=VerdiCommandGroup)
def command() -> None:
    """Named sets of inputs of the workflows."""


@command.command("list")
@click.argument("workflow", type=WORKFLOW, required=False)
def protocol_list(workflow: str | None) -> None:
    """List the protocols of a workflow, or of all."""
    from aiida.plugins import WorkflowFactory

    for name in [workflow] if workflow else workflow_names():
        process = WorkflowFactory(PREFIX + name)
        echo.echo(name, bold=True)
        default = process.get_default_protocol()
        for protocol, description in process.get_available_protocols().items():
            echo.echo(f"  {protocol + (' (default)' if protocol == default else ''):20} {description}")


@command.command("show")
@click.argument("workflow", type=WORKFLOW)
@click.argument("protocol", required=False)
def protocol_show(workflow: str, protocol: str | None) -> None:
    """Print the inputs of a protocol as YAML: what `overrides` may change."""
    from aiida.plugins import WorkflowFactory

    inputs = WorkflowFactory(PREFIX + workflow).get_protocol_inputs(protocol)
    echo.echo(yaml.safe_dump(inputs, sort_keys=False).rstrip())
