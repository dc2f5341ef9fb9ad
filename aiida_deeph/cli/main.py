"""Entry point of `aiida-deeph`: groups in verdi's style, each loaded when it is used."""

from __future__ import annotations

import importlib
import sys

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options, types

from aiida_deeph import __version__
from aiida_deeph.engine.errors import as_one_line
from aiida_deeph.engine.observables.registry import OBSERVABLES

# Command -> module below aiida_deeph.cli that holds it under the name `command`, and its help line.
COMMANDS = {
    "data": ("data", "Hamiltonians: list, show, export, import; files of orbitals (pao): install, list, show."),
    "dataset": ("dataset", "What models are trained on: list, show."),
    "inputs": ("explain", "Inputs files: example, fields, schema, check."),
    "launch": ("launch", "Submit a workflow: label, dataset, train, predict, target, bands, full."),
    "model": ("model", "Trained models: list, show, export, import."),
    "protocol": ("protocol", "Named sets of inputs: list, show."),
    "quickstart": ("quickstart", "Polyacetylene from DFT to the soliton's mid-gap state, in one command."),
    "graph": ("graph", "The provenance of a process in one picture."),
    "report": ("report", "A workflow as one HTML page: figures, numbers, warnings, model card, provenance."),
    "results": ("results", "Gap, expected error, warnings, cost of every structure of a workflow or group."),
    "reproduce": ("reproduce", "Run a finished workflow again and compare its results."),
    "train": ("train", "Trainings: status of one that runs."),
    "setup": ("setup", "Register the engine and the DFT codes on a computer, and prove them."),
}


def drawn() -> dict[str, str]:
    """Observables whose curves can be drawn, and what their commands do."""
    return {name: f"{entry.help}: plot, export." for name, entry in OBSERVABLES.items() if entry.drawn}


class LazyGroup(VerdiCommandGroup):
    """Group whose commands are imported when they are called or completed, not before; observables have one each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*COMMANDS, *drawn()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in drawn() and cmd_name not in self.commands:
            self.add_command(importlib.import_module("aiida_deeph.cli.curves").observable_group(cmd_name), cmd_name)
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.add_command(importlib.import_module(f"aiida_deeph.cli.{COMMANDS[cmd_name][0]}").command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            texts = {name: text for name, (_, text) in COMMANDS.items()}
            formatter.write_dl(sorted([*texts.items(), *drawn().items()]))


@click.group("aiida-deeph", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@options.PROFILE(type=types.ProfileParamType(load_profile=True), expose_value=False)
@options.VERBOSITY()
@click.version_option(__version__, prog_name="aiida-deeph")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def command() -> None:
    """Deep-learning DFT Hamiltonians (DeepH-E3) with full provenance."""


def main() -> None:
    """Run `aiida-deeph`; exit 0 on success, 2 on wrong use, 1 on failure."""
    try:
        command()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        line = as_one_line(error)
        click.echo(f"aiida-deeph: {line}", err=True)
        sys.exit(2 if line.exit_status == 2 else 1)


if __name__ == "__main__":
    main()
