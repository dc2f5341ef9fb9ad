"""`aiida-deeph protocol`: named sets of inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import yaml
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params.types import LazyChoice
from aiida.cmdline.utils import echo

PREFIX = "deeph."
# Workflows whose inputs stand inside those of others.
INSIDE = {
    "full": ("dataset", "train", "predict", "bands"),
    "target": ("predict", "bands"),
    "targets": ("predict", "bands"),
}


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
    """Print all that a protocol comes to as YAML, and where it comes from: what `overrides` may change."""
    for line in lines_of(resolved(workflow, protocol), {}, (workflow,)):
        echo.echo(line)


def resolved(workflow: str, protocol: str | None) -> dict[str, Any]:
    """Inputs of a protocol with those of the workflows inside."""
    from aiida.plugins import WorkflowFactory

    inputs: dict[str, Any] = dict(WorkflowFactory(PREFIX + workflow).get_protocol_inputs(protocol))
    for name in INSIDE.get(workflow, ()):
        inputs[name] = resolved(name, protocol)
    return inputs


def defaults_of(job: str) -> dict[str, Any]:
    """Parameters of a job that nobody sets: the defaults of its configuration, without what AiiDA fills in."""
    from aiida.common.exceptions import EntryPointError
    from aiida.plugins import CalculationFactory

    try:
        process = CalculationFactory(PREFIX + job)
    except EntryPointError:
        return {}
    config = getattr(process, "CONFIG", None)
    if config is None:
        return {}
    fields = {name: info for name, info in config.model_fields.items() if not info.is_required()}
    unset = config.model_construct().model_dump(mode="json", include=set(fields) - set(process.FILLED))
    return {name: value for name, value in unset.items() if value is not None}


def lines_of(values: Mapping[str, Any], defaults: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[str]:
    """YAML, a line per value, each with its origin."""
    indent = "  " * (len(place) - 1)
    for key, value in {**values, **{k: v for k, v in defaults.items() if k not in values}}.items():
        known = defaults_of(place[-1]) if key == "parameters" else {}
        if isinstance(value, Mapping) and (value or known):
            yield f"{indent}{key}:"
            below = value if key in values else {}
            yield from lines_of(below, known or ({} if key in values else value), (*place, key))
            continue
        flow = None if isinstance(value, list | tuple) else False  # a list stands in one line
        text = yaml.safe_dump({key: value}, default_flow_style=flow, width=1000).strip().splitlines()
        origin = "protocol" if key in values else "default"
        yield from (f"{indent}{line}" for line in text[:-1])
        yield f"{indent + text[-1]:<60}  # {origin}"
