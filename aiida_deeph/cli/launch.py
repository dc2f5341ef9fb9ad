"""`aiida-deeph launch`: workflows from an inputs file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options, types
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli import inputs as schema
from aiida_deeph.cli.active_builder import active_builder
from aiida_deeph.cli.builders import (
    codes_of,
    dataset_changes,
    entry_point,
    extended,
    full_builder,
    labels_of,
    structures_of,
    training_changes,
)
from aiida_deeph.cli.sources import structure_node
from aiida_deeph.cli.target_builders import predict_builder, target_builder
from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.errors import InputError

InputsType = TypeVar("InputsType", bound=schema.Inputs)
Function = Callable[..., Any]

FILE = click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Inputs (YAML or JSON).",
)
ENGINE = click.option(
    "-X", "--code", "engine", type=types.CodeParamType(), help="The engine's code, instead of the file's."
)
DFT = click.option("-D", "--dft-code", "dft", type=types.CodeParamType(), help="The DFT code, instead of the file's.")
PROTOCOL = click.option("-t", "--protocol", type=str, help="Protocol, instead of the file's.")
RUN = click.option("--run", is_flag=True, help="Run here and now instead of submitting to the daemon.")


def common(function: Function) -> Function:
    """Options of every launch command."""
    for option in (FILE, ENGINE, PROTOCOL, RUN, options.DRY_RUN()):
        function = option(function)
    return decorators.with_dbenv()(function)


def read(kind: type[InputsType], path: Path, protocol: str | None) -> InputsType:
    """The inputs file, with the options of the command line on top."""
    values = load_config(kind, path)
    return values.model_copy(update={"protocol": protocol}) if protocol else values


def start(builder: Any, values: schema.Inputs, title: str, *, run: bool, dry_run: bool) -> None:
    """Submit, run or print a builder."""
    from aiida import engine
    from aiida.common.exceptions import InvalidOperation
    from aiida.manage import get_manager

    from aiida_deeph.processes.aiida_internals import refusal

    builder.metadata.label = values.title or title
    builder.metadata.description = values.description
    refused = refusal(builder)
    if refused is not None:
        message, port = refused
        raise InputError(message, where=f"{title}: {port}")
    if not dry_run:
        ask_programs(builder)
    if dry_run:
        echo.echo(str(builder))
        echo.echo_success("the inputs are valid; nothing was submitted")
        return
    if run:
        _, node = engine.run_get_node(builder)
        state = f"exit status {node.exit_status}" + (f": {node.exit_message}" if node.exit_message else "")
        (echo.echo_success if node.is_finished_ok else echo.echo_critical)(
            f"{node.process_label}<{node.pk}> ended with {state}"
        )
        return
    profile = get_manager().get_profile()
    if profile.process_control_backend is None:
        raise InputError(
            "profile has no message broker",
            expected="one that can run a daemon",
            remedy="use --run, or a profile with a broker",
        )
    try:
        node = engine.submit(builder)
    except InvalidOperation as error:
        remedy = "`verdi daemon start`, or --run"
        raise InputError("nothing was submitted", where=f"profile {profile.name}", found=error, remedy=remedy) from None
    echo.echo_success(f"submitted {node.process_label}<{node.pk}>; follow it with `verdi process status {node.pk}`")
    from aiida.engine.daemon.client import get_daemon_client

    if not get_daemon_client().is_daemon_running:
        echo.echo_warning("the daemon is not running; start it with `verdi daemon start`")


def ask_programs(builder: Any) -> None:
    """Look at the programs behind the codes, so that no result of another version is taken from the cache."""
    from aiida.orm import AbstractCode

    from aiida_deeph.calculations.program import ask_program
    from aiida_deeph.processes.aiida_internals import flat_inputs

    codes = {value.pk: value for value in flat_inputs(builder).values() if isinstance(value, AbstractCode)}
    for code in codes.values():
        try:
            ask_program(code)
        except Exception as error:  # Whatever transports raise: jobs will be submitted when the machine is reached.
            echo.echo_warning(f"{code.full_label} not looked at, the cache may hold another version's results: {error}")


@click.group("launch", cls=VerdiCommandGroup)
def command() -> None:
    """Submit a workflow; `-f` names a file of inputs, whose fields the help of each command names."""


@command.command("label")
@common
def launch_label(path: Path, engine: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """One DFT run: label, codes.dft, structure, bands, kpath."""
    from aiida import orm
    from aiida.plugins import WorkflowFactory

    from aiida_deeph.workflows.band_functions import band_kpoints

    values = read(schema.LabelInputs, path, protocol)
    codes = codes_of(values, path, dft=engine)
    structure = structure_node(values.structure, path.parent, "structure", store=not dry_run)
    kpoints = None
    if values.bands:
        settings = orm.Dict({"path": values.kpath, "points_per_segment": values.points_per_segment})
        kpoints = band_kpoints(structure, settings)
    builder = WorkflowFactory(entry_point(values.label)).get_builder_from_protocol(
        codes.get("dft") or codes["engine"],
        structure,
        protocol=values.protocol,
        overrides=values.overrides,
        options=values.options,
        bands_kpoints=kpoints,
    )
    start(builder, values, "label", run=run, dry_run=dry_run)


@command.command("dataset")
@common
@DFT
def launch_dataset(path: Path, engine: Any, dft: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """Many DFT runs and their dataset: label, codes, structures, perturbation, labels, extend, keep."""
    from aiida_deeph.processes.protocol import merge
    from aiida_deeph.workflows.dataset import DatasetWorkChain

    values = read(schema.DatasetInputs, path, protocol)
    builder = DatasetWorkChain.get_builder_from_protocol(
        codes_of(values, path, engine=engine, dft=dft),
        structures_of(values.structures, path, dry_run),
        protocol=values.protocol,
        overrides=merge(values.overrides, dataset_changes(values)),
        options=values.options,
        label=entry_point(values.label),
        labels=labels_of(values, path),
        extend=extended(values, path),
    )
    start(builder, values, "dataset", run=run, dry_run=dry_run)


@command.command("train")
@common
def launch_train(path: Path, engine: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """A training and its test: codes.engine, dataset, initial_model."""
    from aiida.plugins import DataFactory

    from aiida_deeph.cli.nodes import load
    from aiida_deeph.processes.folders import folder_of
    from aiida_deeph.processes.protocol import merge
    from aiida_deeph.workflows.train import TrainWorkChain

    values = read(schema.TrainInputs, path, protocol)
    dataset = load(values.dataset, DataFactory("deeph.dataset"), f"{path}: dataset")
    builder = TrainWorkChain.get_builder_from_protocol(
        codes_of(values, path, engine=engine)["engine"],
        dataset,
        folder_of(dataset),
        protocol=values.protocol,
        overrides=merge(values.overrides, training_changes(values, path)),
        options=values.options,
    )
    start(builder, values, "train", run=run, dry_run=dry_run)


@command.command("predict")
@common
def launch_predict(path: Path, engine: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """H(R) by a model: codes.engine, model, structure or structures, observables, kpath, group, basis."""
    values = read(schema.PredictInputs, path, protocol)
    builder = predict_builder(values, path, engine=engine, dry_run=dry_run)
    start(builder, values, "predict", run=run, dry_run=dry_run)


@command.command("target")
@common
@DFT
def launch_target(path: Path, engine: Any, dft: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """H(R), bands and DOS by a model: those of predict, and label, which compares with DFT."""
    values = read(schema.TargetInputs, path, protocol)
    builder = target_builder(values, path, engine=engine, dft=dft, dry_run=dry_run)
    start(builder, values, "target", run=run, dry_run=dry_run)


@command.command("bands")
@common
def launch_bands(path: Path, engine: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """Bands and density of states: codes.engine, hamiltonian, kpath."""
    from aiida.plugins import DataFactory

    from aiida_deeph.cli.nodes import load
    from aiida_deeph.workflows.bands import BandsWorkChain

    values = read(schema.BandsInputs, path, protocol)
    builder = BandsWorkChain.get_builder_from_protocol(
        codes_of(values, path, engine=engine)["engine"],
        load(values.hamiltonian, DataFactory("deeph.hamiltonian"), f"{path}: hamiltonian"),
        protocol=values.protocol,
        overrides=values.overrides,
        options=values.options,
        kpath=values.kpath,
    )
    start(builder, values, "bands", run=run, dry_run=dry_run)


@command.command("accelerate")
@common
def launch_accelerate(path: Path, engine: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """Cycles that an SCF saves from predictions: codes.engine, hamiltonians."""
    from aiida.plugins import DataFactory, WorkflowFactory

    from aiida_deeph.cli.nodes import load

    values = read(schema.AccelerateInputs, path, protocol)
    kind = DataFactory("deeph.hamiltonian")
    builder = WorkflowFactory("deeph.accelerate").get_builder_from_protocol(
        codes_of(values, path, engine=engine)["engine"],
        {name: load(node, kind, f"{path}: hamiltonians.{name}") for name, node in values.hamiltonians.items()},
        protocol=values.protocol,
        overrides=values.overrides,
        options=values.options,
    )
    start(builder, values, "accelerate", run=run, dry_run=dry_run)


@command.command("full")
@common
@DFT
def launch_full(path: Path, engine: Any, dft: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """Everything: those of dataset and train, and targets, validation, kpath, basis."""
    values = read(schema.FullInputs, path, protocol)
    builder = full_builder(values, path, engine=engine, dft=dft, dry_run=dry_run)
    start(builder, values, "full", run=run, dry_run=dry_run)


@command.command("active")
@common
@DFT
def launch_active(path: Path, engine: Any, dft: Any, protocol: str | None, run: bool, dry_run: bool) -> None:
    """Labels until a model is good enough: label, codes, candidates, perturbation, targets, budget, target, rule."""
    values = read(schema.ActiveInputs, path, protocol)
    builder = active_builder(values, path, engine=engine, dft=dft, dry_run=dry_run)
    start(builder, values, "active", run=run, dry_run=dry_run)
