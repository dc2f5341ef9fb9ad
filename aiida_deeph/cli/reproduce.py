"""`aiida-deeph reproduce`: a finished workflow once more from its recorded inputs, and what came out differently."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.engine.errors import InputError

REPRODUCES = "deeph_reproduces"
NODE = click.argument("identifier", metavar="PROCESS")


def tolerance(name: str, text: str, default: float) -> Any:
    """Option of one tolerance."""
    return click.option(f"--{name}", type=click.FloatRange(min=0), default=default, show_default=True, help=text)


@click.command("reproduce")
@NODE
@click.option("--against", metavar="PROCESS", help="Run nothing: compare with this other finished process.")
@click.option("--use-cache", is_flag=True, help="Let AiiDA take finished jobs from its cache, if the profile does so.")
@click.option("--submit", is_flag=True, help="Submit and return; compare later with --against.")
@click.option(
    "--code",
    "replaced",
    multiple=True,
    metavar="NAME=LABEL",
    help="Run code LABEL of this profile in place of the recorded code NAME; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@tolerance("hamiltonian", "Largest difference of an element of H, meV.", 1.0)
@tolerance("bands", "Largest difference of an eigenvalue, meV.", 1.0)
@tolerance("errors", "Largest difference of test errors and other energies, meV.", 1.0)
@decorators.with_dbenv()
def command(
    identifier: str,
    against: str | None,
    use_cache: bool,
    submit: bool,
    replaced: tuple[str, ...],
    as_json: bool,
    hamiltonian: float,
    bands: float,
    errors: float,
) -> None:
    """Run PROCESS again from its recorded inputs, without the cache, and compare all outputs.

    A model, dataset or Hamiltonian stands for the topmost workflow that made it. Without a GPU the same versions give
    equal weights; a GPU adds in another order each time, and a trained model then differs by a share of its own error:
    raise the tolerances to what you accept. Exit 1 if anything is outside.
    """
    from aiida_deeph.cli.comparison import Tolerances, compare

    process = finished_process(identifier)
    if against is not None:
        second = finished_process(against)
        if second.process_type != process.process_type:
            found, expected = second.process_label, process.process_label
            raise InputError("processes of different kinds", where="--against", found=found, expected=expected)
    else:
        builder = restarted(process, use_cache, replaced)
        second = submitted(process, builder) if submit or can_submit() else run_here(builder)
        second.base.extras.set(REPRODUCES, process.uuid)
        if submit:
            echo.echo_success(f"submitted {second.process_label}<{second.pk}>")
            echo.echo_report(f"when it has ended: aiida-deeph reproduce {process.pk} --against {second.pk}")
            return
        follow(process, second)
    rows = compare(process, second, Tolerances(hamiltonian=hamiltonian, bands=bands, errors=errors))
    outside = sum(row.outside for row in rows)
    if as_json:
        values = {"first": process.uuid, "second": second.uuid, "rows": [row.as_dict() for row in rows]}
        echo.echo(json.dumps({**values, "outside": outside}, indent=2))
    else:
        print_rows(rows)
        verdict = f"{process.process_label}<{process.pk}> and <{second.pk}>: "
        if outside:
            echo.echo_error(verdict + f"{outside} of {len(rows)} outside the tolerances")
        else:
            echo.echo_success(verdict + "equal within the tolerances")
    sys.exit(1 if outside else 0)


def finished_process(identifier: str) -> Any:
    """A process that ended well or with a warning, by itself or by what it made.

    :raises InputError: there is none, or it has not ended so.
    """
    from aiida import orm

    from aiida_deeph.cli.nodes import load

    node = load(identifier, (orm.ProcessNode, orm.Data), "PROCESS")
    if isinstance(node, orm.Data):
        if node.creator is None:
            raise InputError("no process made it", where="PROCESS", found=f"{type(node).__name__}<{node.pk}>")
        node = node.creator
        while node.caller is not None:
            node = node.caller
    name = f"{node.process_label}<{node.pk}>"
    if not node.is_finished:
        state = node.process_state.value if node.process_state else "unknown state"
        raise InputError("process has no result", where=name, found=state, expected="finished")
    if not (node.exit_status == 0 or 700 <= node.exit_status < 800):
        raise InputError("process failed", where=name, found=f"[{node.exit_status}] {node.exit_message}")
    return node


def restarted(process: Any, use_cache: bool, replaced: Sequence[str] = ()) -> Any:
    """Builder with the recorded inputs.

    :param replaced: `NAME=LABEL` of codes that stand in for recorded ones.
    :raises InputError: they are no longer valid, e.g. a folder was cleaned, or a code cannot run in this profile.
    """
    from aiida_deeph.processes.aiida_internals import refusal

    builder = process.get_builder_restart()
    replace_codes(builder, replaced)
    check_codes(builder)
    builder.metadata.label = f"again: {process.label or process.process_label}"
    builder.metadata.description = f"reproduces {process.process_label} {process.uuid}"
    builder.metadata.disable_cache = not use_cache
    refused = refusal(builder)
    if refused is not None:
        message, port = refused
        raise InputError(message, where=f"recorded inputs of {process.process_label}<{process.pk}>: {port}")
    return builder


def codes_of(builder: Any) -> dict[str, Any]:
    """Codes among the inputs, by the dotted name of their port."""
    from aiida.orm import AbstractCode

    from aiida_deeph.processes.aiida_internals import flat_inputs

    return {port: value for port, value in flat_inputs(builder).items() if isinstance(value, AbstractCode)}


def replace_codes(builder: Any, replaced: Sequence[str]) -> None:
    """Put codes of this profile in the place of recorded ones.

    :raises InputError: a NAME that no recorded code has, or a LABEL that names no code here.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_code

    for pair in replaced:
        name, _, label = pair.partition("=")
        codes = codes_of(builder)
        ports = [port for port, code in codes.items() if name in (code.label, code.full_label, code.uuid, str(code.pk))]
        if not (ports and label):
            known = ", ".join(sorted({code.full_label for code in codes.values()}))
            expected = f"NAME=LABEL, NAME of {known}"
            raise InputError("no such recorded code", where="--code", found=pair, expected=expected)
        try:
            code = load_code(label)
        except (NotExistent, MultipleObjectsError, ValueError) as error:
            remedy = "see `verdi code list`"
            raise InputError("no such code here", where="--code", found=f"{label}: {error}", remedy=remedy) from None
        for port in ports:
            *above, last = port.split(".")
            namespace = builder
            for part in above:
                namespace = namespace[part]
            setattr(namespace, last, code)


def check_codes(builder: Any) -> None:
    """Every code can run in this profile: an archive brings codes and computers, but not how they are reached.

    :raises InputError: some cannot; all are named.
    """
    unready: dict[str, str] = {}
    for code in codes_of(builder).values():
        computer = code.computer
        if computer is not None and not computer.is_configured:
            unready[code.full_label] = f"code {code.full_label}: computer {computer.label} is not configured"
        elif computer is not None and computer.transport_type == "core.local":
            path = getattr(code, "filepath_executable", None)
            if path is not None and path.is_absolute() and not Path(path).is_file():
                unready[code.full_label] = f"code {code.full_label}: no program {path}"
    if unready:
        names = " ".join(f"--code {name}=LABEL" for name in sorted(unready))
        raise InputError(
            "codes cannot run here",
            where="recorded inputs",
            found="; ".join(unready[name] for name in sorted(unready)),
            remedy=f"name codes of this profile ({names}), or configure the computers (`verdi computer configure`)",
        )


def can_submit() -> bool:
    """Whether a daemon waits for work."""
    from aiida.engine.daemon.client import get_daemon_client
    from aiida.manage import get_manager

    return get_manager().get_profile().process_control_backend is not None and get_daemon_client().is_daemon_running


def submitted(process: Any, builder: Any) -> Any:
    """The process in the hands of the daemon.

    :raises InputError: no daemon can run it.
    """
    from aiida import engine
    from aiida.common.exceptions import InvalidOperation

    try:
        return engine.submit(builder)
    except (InvalidOperation, AssertionError) as error:
        remedy = "`verdi daemon start`, or leave --submit away"
        raise InputError(
            "nothing was submitted", where=f"{process.process_label}", found=error, remedy=remedy
        ) from None


def run_here(builder: Any) -> Any:
    """The process, run by this command to its end."""
    from aiida import engine

    echo.echo_report("no daemon is running: the workflow runs here")
    return engine.run_get_node(builder)[1]


def follow(process: Any, second: Any) -> None:
    """Wait for its end, with a bar per kind of job; the earlier run tells how many to expect.

    :raises InputError: it did not end well.
    """
    from rich.console import Console

    from aiida_deeph.processes.progress import Stage, jobs_below
    from aiida_deeph.processes.progress import follow as follow_stages

    labels = [job.process_label for job in jobs_below(process)]
    stages = [Stage(label, (label,), labels.count(label)) for label in dict.fromkeys(labels)]
    follow_stages(second, stages, Console(stderr=True))
    finished_process(str(second.pk))


def print_rows(rows: list[Any]) -> None:
    """One line per comparison."""
    from rich.console import Console
    from rich.table import Table

    table = Table("output", "quantity", "difference", "tolerance", "")
    for row in rows:
        value = row.value if isinstance(row.value, str) else f"{row.value:.3g} {row.unit}".strip()
        limit = "" if row.tolerance is None else f"{row.tolerance} {row.unit}".strip()
        table.add_row(row.output, row.quantity, value, limit, "OUTSIDE" if row.outside else "")
    Console().print(table)
