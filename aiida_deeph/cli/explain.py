"""`aiida-deeph inputs`: templates, fields and schemas of inputs files, and a check of one."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli import inputs as schema
from aiida_deeph.engine.config import Config
from aiida_deeph.engine.observables.registry import OBSERVABLES, load_observable

FILES: dict[str, type[schema.Inputs]] = {
    "label": schema.LabelInputs,
    "dataset": schema.DatasetInputs,
    "train": schema.TrainInputs,
    "predict": schema.PredictInputs,
    "target": schema.TargetInputs,
    "bands": schema.BandsInputs,
    "accelerate": schema.AccelerateInputs,
    "full": schema.FullInputs,
    "active": schema.ActiveInputs,
}
MATERIALS = ("bulk", "layer", "polymer", "molecule", "predict")
# Parameters of jobs, as `overrides` take them; those of observables go by their names with the same ending.
ENDING = ".parameters"


def kinds() -> list[str]:
    """All that can be explained."""
    jobs = ("train", "evaluate", "predict", "overlap", "preprocess", *OBSERVABLES)
    return [*FILES, "perturbation", "settings", *(f"{name}{ENDING}" for name in jobs)]


def config_of(kind: str) -> type[Config]:
    """The configuration of a kind."""
    from aiida_deeph.engine.overlap.config import OverlapConfig
    from aiida_deeph.engine.prediction.config import PredictConfig
    from aiida_deeph.engine.preprocess.config import PreprocessConfig
    from aiida_deeph.engine.structures.design import DesignConfig
    from aiida_deeph.engine.training.config import EvaluateConfig, TrainConfig
    from aiida_deeph.workflows.target import TargetSettings

    jobs: dict[str, type[Config]] = {
        "train": TrainConfig,
        "evaluate": EvaluateConfig,
        "predict": PredictConfig,
        "overlap": OverlapConfig,
        "preprocess": PreprocessConfig,
    }
    if kind.endswith(ENDING):
        name = kind.removesuffix(ENDING)
        return jobs[name] if name in jobs else load_observable(name).Config
    others: dict[str, type[Config]] = {"perturbation": DesignConfig, "settings": TargetSettings}
    return others[kind] if kind in others else FILES[kind]


KIND = click.argument("kind", type=click.Choice(kinds()), default="full")


@click.group("inputs", cls=VerdiCommandGroup)
def command() -> None:
    """Inputs files: templates, fields with units and defaults, JSON schemas for editors, a check."""


@command.command("example")
@click.argument("material", type=click.Choice(MATERIALS), default="bulk")
@click.option("-D", "--dft", help="DFT code of the labels.  [default: the one that needs no program]")
def example(material: str, dft: str | None) -> None:
    """Print a commented inputs file for a kind of material, or for the use of a model: write it to inputs.yaml."""
    from aiida_deeph.codes.registry import DEFAULT_LABEL, PREFIX, label_entry_points
    from aiida_deeph.engine.dft.base import get_record
    from aiida_deeph.engine.errors import InputError, nearest

    known = [name.removeprefix(PREFIX) for name in label_entry_points()]
    dft = dft or DEFAULT_LABEL.removeprefix(PREFIX)
    if dft not in known:
        raise InputError("no such DFT code", where="--dft", found=dft, expected=nearest(dft, known))
    text = resources.files("aiida_deeph.cli").joinpath("templates", f"{material}.yaml").read_text(encoding="utf-8")
    programs = get_record(dft).programs
    line = f"  dft: {programs[0].name}@localhost\n" if programs else ""
    echo.echo(text.replace("label: CODE  ", f"label: {dft:<6}").replace("DFT\n", line, 1), nl=False)


@command.command("fields")
@KIND
def fields(kind: str) -> None:
    """Print every field of a kind of file, or of parameters: type, default, range, and what it is."""
    from aiida_deeph.engine.fields import fields_of

    for field in fields_of(config_of(kind)):
        default = f", default {field.default}" if field.default else ", required"
        bounds = f", {field.bounds}" if field.bounds else ""
        echo.echo(field.name, bold=True, nl=False)
        echo.echo(f": {field.kind}{bounds}{default}")
        if field.text:
            echo.echo(f"    {field.text}")


@command.command("schema")
@KIND
def json_schema(kind: str) -> None:
    """Print the JSON schema: `# yaml-language-server: $schema=FILE` at the top of a file makes editors check it."""
    from aiida_deeph.engine.fields import schema_of

    echo.echo(json.dumps(schema_of(config_of(kind)), indent=2))


@command.command("check")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("kind", type=click.Choice(list(FILES)), default="full")
@decorators.with_dbenv()
def check(path: Path, kind: str) -> None:
    """Check an inputs file of a kind: its fields, then files, codes and nodes that it names; nothing is submitted."""
    from aiida_deeph.cli.launch import command as launch
    from aiida_deeph.engine.config import load_config

    load_config(FILES[kind], path)
    context = click.get_current_context()
    launched: Any = launch.get_command(context, kind)
    launched.main(["-f", str(path), "--dry-run"], standalone_mode=False, parent=context.parent)
