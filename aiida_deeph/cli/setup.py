"""`aiida-deeph setup`: codes on a computer, each proved by a tiny job."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options, types
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.engine.dft.base import records

ENGINE = "deeph-engine"


def _program_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Path, label and families of each program that a record names; whether the engine has what it runs itself."""
    for record in reversed(records().values()):
        if record.plugin is not None and not record.programs:
            name = record.name
            help_text = f"Whether the engine's environment has {record.title}."
            option = click.option(f"--{name}/--no-{name}", default=True, show_default=True, help=help_text)
            function = option(function)
        for program in reversed(record.programs):
            name, title = program.name, program.title
            if program.families is not None:
                help_text = f"Families of {title}'s tiny job.  [default: {program.families}]"
                function = click.option(f"--{name}-family", help=help_text)(function)
            help_text = f"Label of {title}'s code."
            function = click.option(f"--{name}-label", default=name, show_default=True, help=help_text)(function)
            what = f"the Python of {title}'s environment" if program.option.endswith("python") else title
            help_text = f"Path of {what} there, for labels by {record.title}; without it, it is not registered."
            function = click.option(program.option, f"{name}_path", type=str, help=help_text)(function)
    return function


@click.group("setup", cls=VerdiCommandGroup)
def command() -> None:
    """Register what the workflows need."""


@command.command("codes")
@options.COMPUTER(type=types.ComputerParamType(), required=True, help="Computer on which the codes run.")
@click.option("--engine-path", type=str, help="Path of deeph-engine there; looked up on its PATH if absent.")
@click.option("--engine-label", default=ENGINE, show_default=True, help="Label of the engine's code.")
@_program_options
@click.option("--family", help="Families of the tiny jobs, where no option of the program says otherwise.")
@options.PREPEND_TEXT(help="Shell lines before each program starts, e.g. `module load` or `source .../activate`.")
@click.option("--test/--no-test", default=True, show_default=True, help="Prove each code with a tiny job.")
@click.option("--timeout", default=30, show_default=True, help="Seconds that the computer has to answer.")
@decorators.with_dbenv()
def setup_codes(
    computer: Any,
    engine_path: str | None,
    engine_label: str,
    family: str | None,
    prepend_text: str | None,
    test: bool,
    timeout: int,
    **of_programs: Any,
) -> None:
    """Register deeph-engine (and DFT programs) on a computer and prove each with a tiny job.

    A code of the same label, path and plugin is used again.
    """
    from aiida_deeph.cli import proofs
    from aiida_deeph.codes.registry import PREFIX, label_class

    check_connection(computer, timeout)
    prepend = prepend_text or ""
    engine = register(computer, engine_label, engine_path or find(computer, ENGINE, prepend), "deeph.train", prepend)
    tell_program(engine)
    if test:
        proofs.prove("bands of a chain of two atoms", proofs.bands_job(engine))
    for record in records().values():
        codes = {}
        for program in record.programs:
            path, label = of_programs[f"{program.name}_path"], of_programs[f"{program.name}_label"]
            if path is not None:
                codes[program.name] = register(computer, label, path, program.plugin, prepend)
                tell_program(codes[program.name])
        if of_programs.get(record.name):
            codes[record.name] = engine
        if test and codes:
            needs = [program for program in record.programs if program.families is not None]
            families = [of_programs[f"{program.name}_family"] or family or program.families for program in needs]
            label_class(f"{PREFIX}{record.name}").prove(codes, next(iter(families), None), proofs.prove)


@command.command("caching")
@click.option("--on/--off", default=True, show_default=True, help="Whether equal jobs are taken from the database.")
@decorators.with_dbenv()
def setup_caching(on: bool) -> None:
    """Let jobs that were done already be taken from the database instead of being run again.

    It is set for the jobs of this package and of the DFT codes, in this profile; `verdi presto` leaves it off.
    """
    from aiida.manage import get_config, get_manager

    from aiida_deeph.quickstart.profile import CACHED

    config, profile = get_config(), get_manager().get_profile()
    assert profile is not None
    known = list(config.get_option("caching.enabled_for", scope=profile.name) or [])
    wanted = [name for name in known if name not in CACHED] + (list(CACHED) if on else [])
    config.set_option("caching.enabled_for", wanted, scope=profile.name)
    config.store()
    echo.echo_success(f"caching of {', '.join(CACHED)} is {'on' if on else 'off'} in the profile {profile.name}")


def check_connection(computer: Any, timeout: int) -> None:
    """Connect once: a job would try for minutes, again and again.

    :param timeout: seconds.
    :raises InputError: no connection within this time.
    """
    from aiida_deeph.engine.errors import InputError

    def stop(*_: Any) -> None:
        raise TimeoutError(f"no answer within {timeout} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(timeout)
    try:
        with computer.get_transport():
            pass
    except Exception as error:  # whatever the plugin of the transport and its libraries raise
        raise InputError(
            "computer cannot be reached",
            where=f"computer {computer.label} ({computer.hostname})",
            found=" ".join(str(error).split()) or type(error).__name__,
            remedy=f"`verdi computer test {computer.label}` tells more; --timeout gives it more time",
        ) from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tell_program(code: Any) -> None:
    """Say which program is behind a code, and keep that in its extras: results are not those of another one."""
    from aiida_deeph.calculations.program import ask_program

    identity = ask_program(code)
    if identity is None:
        echo.echo_warning(
            f"{code.full_label}: no program at {code.filepath_executable}, unless modules of jobs bring it"
        )
    else:
        echo.echo_report(f"{code.full_label}: {identity}")


def find(computer: Any, program: str, prepend: str) -> str:
    """Path of a program on a computer.

    :raises InputError: it is not on the PATH there.
    """
    import sys

    from aiida_deeph.engine.errors import InputError

    local = Path(sys.executable).with_name(program)
    if computer.transport_type == "core.local" and local.is_file():
        return str(local)
    lines = [text for text in (computer.get_prepend_text(), prepend, f"command -v {shlex.quote(program)}") if text]
    with computer.get_transport() as transport:
        status, output, _ = transport.exec_command_wait("\n".join(lines))
    if status or not output.strip():
        raise InputError(
            "program not found",
            where=f"computer {computer.label}",
            found=f"no {program} on PATH",
            remedy="give its path with --engine-path, or make it known with --prepend-text",
        )
    return str(output.strip().splitlines()[-1])


def register(computer: Any, label: str, path: str, plugin: str, prepend: str) -> Any:
    """The code of this label, made unless it is there.

    :raises InputError: a code of this label is another program.
    """
    from aiida import orm
    from aiida.common.exceptions import NotExistent

    from aiida_deeph.calculations.validation import runs_engine
    from aiida_deeph.engine.errors import InputError

    name = f"{label}@{computer.label}"
    try:
        code = orm.load_code(name)
    except NotExistent:
        code = orm.InstalledCode(
            label=label,
            computer=computer,
            filepath_executable=path,
            default_calc_job_plugin=plugin,
            prepend_text=prepend,
            # The engine starts its own processes; for a DFT code the options of each job decide.
            with_mpi=False if runs_engine(plugin) else None,
        ).store()
        echo.echo_success(f"registered {name}<{code.pk}>: {path}")
        return code
    if str(code.filepath_executable) != path or code.default_calc_job_plugin != plugin or code.prepend_text != prepend:
        raise InputError(
            "another code has this label",
            where=name,
            found=f"{code.filepath_executable} (plugin {code.default_calc_job_plugin})",
            expected=f"{path} (plugin {plugin})",
            remedy="choose another label with --engine-label or that of the program",
        )
    echo.echo_success(f"{name}<{code.pk}> is there already: {path}")
    return code
