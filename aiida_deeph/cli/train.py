"""`aiida-deeph train`: how far a training is."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import arguments
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.verdi_data import AS_JSON, print_values
from aiida_deeph.engine.errors import InputError

TRAIN = "aiida.calculations:deeph.train"


@click.group("train", cls=VerdiCommandGroup)
def command() -> None:
    """Trainings."""


@command.command("status")
@arguments.PROCESS("process")
@AS_JSON
@decorators.with_dbenv()
def train_status(process: Any, as_json: bool) -> None:
    """Show epoch, losses, learning rate and the time left of a training job, or of a workflow's latest one.

    The metrics of a running job are read from its folder on the computer.
    """
    job = latest_training(process)
    values = status(job)
    if as_json:
        print_values(values, as_json)
        return
    echo.echo(f"{job.process_label}<{job.pk}> {values['state']}: {values['progress']}")


def latest_training(process: Any) -> Any:
    """The training job that a process is, or the latest among those that it called.

    :raises InputError: there is none.
    """
    jobs = [node for node in (process, *process.called_descendants) if node.process_type == TRAIN]
    if not jobs:
        raise InputError(
            "no training",
            where=f"{process.process_label}<{process.pk}>",
            expected="a TrainCalculation, or a workflow that has submitted one",
        )
    return max(jobs, key=lambda node: node.pk)


def status(job: Any) -> dict[str, Any]:
    """State and progress of a training job."""
    from aiida_deeph.calculations.metrics import progress
    from aiida_deeph.calculations.monitors import wanted_epochs

    state = f"ended with exit status {job.exit_status}" if job.is_terminated else job.process_state.value
    scheduler = job.get_scheduler_state()
    if scheduler is not None and not job.is_terminated:
        state += f", {scheduler.value} on {job.computer.label}"
    known = progress(rows_of(job), wanted_epochs(job))
    values = {"job": job.pk, "state": state, "progress": known.line() if known else "no epoch has ended yet"}
    return {**values, **(dataclasses.asdict(known) if known else {})}


def rows_of(job: Any) -> list[dict[str, Any]]:
    """Epochs: of the retrieved file, or of the one that grows on the computer."""
    from aiida_deeph.calculations.metrics import parse_rows
    from aiida_deeph.calculations.monitors import remote_rows
    from aiida_deeph.calculations.train import METRICS_FILE

    if "retrieved" in job.outputs:
        try:
            return parse_rows(job.outputs.retrieved.base.repository.get_object_content(METRICS_FILE))
        except FileNotFoundError:
            return []
    if job.get_remote_workdir() is None:
        return []
    with job.get_authinfo().get_transport() as transport:
        return remote_rows(job, transport)
