"""Entry point of `aiida-deeph`: groups in verdi's style, each loaded when it is used."""

from __future__ import annotations

import importlib
import sys

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options, types

from aiida_deeph import __version__
from aiida_deeph.engine.errors import DeepHError

# Command -> module below aiida_deeph.cli that holds it under the name `command`, and its help line.
COMMANDS = {
    "bands": ("bands", "Band structures: plot, export."),
    "data": ("data", "Hamiltonians: show, export, import; files of orbitals (pao): install, list, show."),
    "dos": ("dos", "Densities of states: plot, export."),
    "launch": ("launch", "Submit a workflow: label, dataset, train, predict, bands, full."),
    "model": ("model", "Trained models: show, export, import."),
    "protocol": ("protocol", "Named sets of inputs: list, show."),
    "quickstart": ("quickstart", "Polyacetylene from DFT to the soliton's mid-gap state, in one command."),
    "reproduce": ("reproduce", "Run a finished workflow again and compare its results."),
    "train": ("train", "Trainings: status of one that runs."),
    "setup": ("setup", "Register the engine and the DFT codes on a computer, and prove them."),
}


class LazyGroup(VerdiCommandGroup):
    """Group whose commands are imported when they are called or completed, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.add_command(importlib.import_module(f"aiida_deeph.cli.{COMMANDS[cmd_name][0]}").command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])


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
    except DeepHError as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"aiida-deeph: {error}", err=True)
        sys.exit(2 if error.exit_status == 2 else 1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        message = f"unexpected {type(error).__name__}: {error} (`aiida-deeph --debug ...` shows the traceback)"
        click.echo(f"aiida-deeph: {message}".replace("\n", " "), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
