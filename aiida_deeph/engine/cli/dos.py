"""`deeph-engine dos`: density of states on a mesh."""

from __future__ import annotations

from typing import Any

import click

from aiida_deeph.engine.cli.bands import resolve, use_threads
from aiida_deeph.engine.observables.config import DosConfig


@click.command("dos")
@click.argument("target", metavar="DEEPH_DIR|CONFIG")
@click.option("--mesh", type=int, nargs=3, default=None, help="Gamma-centred mesh. [default: 1 1 1]")
@click.option("--spacing", type=float, help="Mesh whose points are at most this far apart, 1/Angstrom (with 2 pi).")
@click.option(
    "--window", type=float, nargs=2, default=None, help="Energies relative to the Fermi level, eV. [default: all]"
)
@click.option("--points", "n_points", type=int, help="Energies at which the DOS is given. [default: 1001]")
@click.option("--broadening", type=float, help="Width of the Gaussians, eV. [default: 0.05]")
@click.option("--method", type=click.Choice(["auto", "exact", "sparse", "kpm"]), help="[default: auto]")
@click.option("--projected/--total", default=None, help="Resolve by element and shell. [default: projected]")
@click.option("--atom", "atoms", type=int, multiple=True, help="Atom (from 0) whose local DOS is wanted; repeatable.")
@click.option("--vectors", "n_vectors", type=int, help="Random vectors of kpm. [default: 16]")
@click.option(
    "--precision", type=click.Choice(["auto", "single", "double"]), help="Of the moments in a window. [default: auto]"
)
@click.option(
    "--electrons", "n_electrons", type=float, help="Valence electrons in the cell, if the folder does not record them."
)
@click.option("--workers", type=int, help="Processes that share k-points or random vectors. [default: 1]")
@click.option("--threads", type=int, help="Threads of the linear algebra.")
@click.option("--progress/--no-progress", "show_progress", default=None, help="Progress bar. [default: on a terminal]")
@click.option("--output", metavar="FILE.json", help="[default: dos.json]")
def command(target: str, show_progress: bool | None, **options: Any) -> None:
    """Density of states of a DeepH folder, or the one that a CONFIG file (JSON or YAML) describes."""
    options["atoms"] = options["atoms"] or None
    config = resolve(DosConfig, target, options)
    use_threads(config.threads)

    from aiida_deeph.engine.observables.dos import run_dos

    click.echo(f"density of states written to {run_dos(config, show_progress=show_progress)}")
