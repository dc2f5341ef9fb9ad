"""Entry point of `deeph-engine`: lazy subcommands and one-line errors."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import click

from aiida_deeph import __version__
from aiida_deeph.engine.cli.observable import observable_command, use_threads
from aiida_deeph.engine.errors import InputError, as_one_line
from aiida_deeph.engine.io.paths import check_output
from aiida_deeph.engine.observables.registry import OBSERVABLES
from aiida_deeph.engine.ranks import leave

COMMANDS = {
    "bench": "Measure the network: speed, memory, build time.",
    "check": "Check a DeepH folder: hermiticity, pairs, overlap.",
    "codes": "DFT codes that are read: versions, spins, what was verified.",
    "convert": "Turn raw DFT output into a DeepH folder.",
    "members": "List molecules of a data set, for `preprocess` and for a training with a published split.",
    "cube": "A wavefunction on a grid, for plotting.",
    "evaluate": "Compare a model's predictions with the labels of a dataset.",
    "export-reference": "Write a model as a checkpoint of its reference code.",
    "import-reference": "Turn a checkpoint of DeepH-E3 or QHNet into a model.",
    "overlap": "Overlap S(R) of any structure without a DFT run.",
    "plot": "A figure of bands, a density of states and the like.",
    "predict": "Predict the Hamiltonian H(R) of a structure.",
    "preprocess": "Turn many raw DFT outputs into a gated dataset.",
    "select": "Choose which structures to label next.",
    "structure": "Build twisted bilayers, and cells for a dataset.",
    "tight-binding": "H(R) without overlap for tight-binding programs (Wannier90's files).",
    "train": "Train a network on a dataset.",
}


# Options and arguments of all commands that name what is written.
OUTPUTS = ("output", "output_dir", "json_file")


def of_codes() -> dict[str, str]:
    """Commands of DFT codes that the engine runs itself, and their help."""
    from aiida_deeph.engine.dft.base import records  # loads numpy, which must know its threads by then

    return {name: record.command for name, record in records().items() if record.command is not None}


class LazyGroup(click.Group):
    """A group whose subcommand NAME is `command` in the module `aiida_deeph.engine.cli.NAME`, or in that of a code, or
    is made from the configuration of an observable."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*COMMANDS, *of_codes(), *OBSERVABLES])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in OBSERVABLES:
            use_threads(args[1:])
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        command: click.Command
        if name in OBSERVABLES:
            command = observable_command(name)
        elif name in COMMANDS:
            command = importlib.import_module(f"aiida_deeph.engine.cli.{name.replace('-', '_')}").command
        elif name in of_codes():
            command = importlib.import_module(f"aiida_deeph.engine.dft.{name}.command").command
        else:
            return None
        for one in command.commands.values() if isinstance(command, click.Group) else (command,):
            one.callback = _checking_outputs(one.callback)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            observables = {name: f"{entry.help}." for name, entry in OBSERVABLES.items()}
            formatter.write_dl(sorted((COMMANDS | of_codes() | observables).items()))


def _checking_outputs(callback: Any) -> Any:
    """The function of a command, which first looks at where it will write: better now than after hours."""
    if hasattr(callback, "__wrapped__"):
        return callback

    @functools.wraps(callback)
    def checked(**parameters: Any) -> Any:
        for name in OUTPUTS:
            if parameters.get(name) is not None:
                check_output(Path(parameters[name]))
        return callback(**parameters)

    return checked


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="deeph-engine")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def engine(debug: bool) -> None:
    """Deep-learning DFT Hamiltonians: everything that runs on a compute node."""


def main() -> None:
    """Run `deeph-engine`; exit 0 on success, 2 on wrong use, 1 on failure (3 diverged, 4 interrupted)."""
    try:
        engine()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        line = as_one_line(error)
        # Parsers of jobs tell wrong use from failure by these words.
        kind = "wrong input: " if isinstance(line, InputError) else ""
        click.echo(f"deeph-engine: {kind}{line}", err=True)
        leave(line.exit_status)


if __name__ == "__main__":
    main()
