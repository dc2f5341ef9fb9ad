"""`aiida-deeph setup`: codes on a computer, each proved by a tiny job."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options, types
from aiida.cmdline.utils import decorators, echo

ENGINE = "deeph-engine"


@dataclass(frozen=True)
class Program:
    """A DFT program that can be registered.

    :param title: as its authors write it.
    :param plugin: entry point of the jobs that run it.
    :param proof: function of `proofs` that makes its tiny job, of the code and, if it needs some, of families.
    :param family: label of its families of orbitals and pseudopotentials; None if it needs none.
    """

    title: str
    plugin: str
    proof: str
    family: str | None = None


PROGRAMS = {
    "cp2k": Program("CP2K", "cp2k", "cp2k_job"),
    "openmx": Program("OpenMX", "deeph.openmx", "numeric_job", "openmx-2019"),
    "siesta": Program("SIESTA", "deeph.siesta", "numeric_job", "PseudoDojo/0.4/PBE/SR/standard/psml"),
    "abacus": Program("ABACUS", "deeph.abacus", "numeric_job", "abacus-sg15"),
}


def _program_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--NAME-path, --NAME-label and --NAME-family of each program."""
    for name, program in reversed(PROGRAMS.items()):
        if program.family is not None:
            # `--family` was OpenMX's alone once.
            names = (f"--{name}-family", *(["--family"] if name == "openmx" else []), f"{name}_family")
            help_text = f"Families of {program.title}'s tiny job."
            function = click.option(*names, default=program.family, show_default=True, help=help_text)(function)
        help_text = f"Label of {program.title}'s code."
        function = click.option(f"--{name}-label", default=name, show_default=True, help=help_text)(function)
        help_text = f"Path of {name} there; {program.title} is registered only if this is given."
        function = click.option(f"--{name}-path", type=str, help=help_text)(function)
    return function


@click.group("setup", cls=VerdiCommandGroup)
def command() -> None:
    """Register what the workflows need."""


@command.command("codes")
@options.COMPUTER(type=types.ComputerParamType(), required=True, help="Computer on which the codes run.")
@click.option("--engine-path", type=str, help="Path of deeph-engine there; looked up on its PATH if absent.")
@click.option("--engine-label", default=ENGINE, show_default=True, help="Label of the engine's code.")
@_program_options
@click.option("--pw-path", type=str, help="Path of pw.x there; Quantum ESPRESSO is registered only if this is given.")
@click.option("--pw2bgw-path", type=str, help="Path of pw2bgw.x there, without which pw.x makes no labels.")
@click.option("--hpro-python", type=str, help="Path of the Python there in whose environment HPRO and mpi4py are.")
@options.PREPEND_TEXT(help="Shell lines before each program starts, e.g. `module load` or `source .../activate`.")
@click.option("--test/--no-test", default=True, show_default=True, help="Prove each code with a tiny job.")
@click.option("--pyscf/--no-pyscf", default=True, show_default=True, help="Whether the engine's environment has PySCF.")
@decorators.with_dbenv()
def setup_codes(
    computer: Any,
    engine_path: str | None,
    engine_label: str,
    pw_path: str | None,
    pw2bgw_path: str | None,
    hpro_python: str | None,
    prepend_text: str | None,
    test: bool,
    pyscf: bool,
    **of_programs: str | None,
) -> None:
    """Register deeph-engine (and DFT programs) on a computer and prove each with a tiny job.

    A code of the same label, path and plugin is used again.
    """
    from aiida_deeph.cli import proofs

    prepend = prepend_text or ""
    engine = register(computer, engine_label, engine_path or find(computer, ENGINE, prepend), "deeph.train", prepend)
    if test:
        proofs.prove("bands of a chain of two atoms", proofs.bands_job(engine))
        if pyscf:
            proofs.prove("PySCF run of a helium atom", proofs.pyscf_job(engine))
    for name, program in PROGRAMS.items():
        path, label = of_programs[f"{name}_path"], of_programs[f"{name}_label"]
        if path is None or label is None:
            continue
        code = register(computer, label, path, program.plugin, prepend)
        if test:
            families = [] if program.family is None else [of_programs[f"{name}_family"]]
            job = getattr(proofs, program.proof)(code, *families)
            proofs.prove(f"{program.title} run of a hydrogen molecule", job)
    paths = {"pw": pw_path, "pw2bgw": pw2bgw_path, "hpro": hpro_python}
    plugins = {"pw": "deeph.pw", "pw2bgw": "deeph.pw", "hpro": "deeph.hpro"}
    codes = {n: register(computer, n, path, plugins[n], prepend) for n, path in paths.items() if path is not None}
    if test and codes:
        proofs.prove_quantum_espresso(codes)


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

    from aiida_deeph.calculations.validation import OTHER_PROGRAMS
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
            with_mpi=False if plugin.startswith("deeph.") and plugin not in OTHER_PROGRAMS else None,
        ).store()
        echo.echo_success(f"registered {name}<{code.pk}>: {path}")
        return code
    if str(code.filepath_executable) != path or code.default_calc_job_plugin != plugin or code.prepend_text != prepend:
        raise InputError(
            "another code has this label",
            where=name,
            found=f"{code.filepath_executable} (plugin {code.default_calc_job_plugin})",
            expected=f"{path} (plugin {plugin})",
            remedy="choose another label with --engine-label, --cp2k-label, ..",
        )
    echo.echo_success(f"{name}<{code.pk}> is there already: {path}")
    return code
