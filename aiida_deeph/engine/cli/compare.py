"""`deeph-engine compare`: a predicted Hamiltonian against a reference."""

from __future__ import annotations

import json
from typing import Any

import click

from aiida_deeph.engine.cli.bands import use_threads
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.observables.config import CompareConfig


@click.command("compare")
@click.argument("folder", metavar="DEEPH_DIR")
@click.argument("reference", metavar="REFERENCE_DIR")
@click.option("--kpath", metavar="G-K-M-G", help="Path through special points of the lattice.")
@click.option("--mesh", type=int, nargs=3, default=None, help="Gamma-centred mesh.")
@click.option("--spacing", type=float, help="Mesh whose points are at most this far apart, 1/Angstrom (with 2 pi).")
@click.option("--window", type=float, nargs=2, default=None, help="Energies from the Fermi level, eV. [default: -6 3]")
@click.option("--align", type=click.Choice(["gauge", "none"]), help="[default: gauge]")
@click.option("--electrons", "n_electrons", type=float, help="Valence electrons, if not in the reference.")
@click.option("--threads", type=int, help="Threads of the linear algebra.")
@click.option("--progress/--no-progress", "show_progress", default=None, help="Progress bar. [default: on a terminal]")
@click.option("--output", metavar="FILE.json", help="[default: compare.json]")
def command(folder: str, reference: str, show_progress: bool | None, **options: Any) -> None:
    """Errors of H, bands and velocities of DEEPH_DIR, judged by REFERENCE_DIR, and whether H explains the others."""
    given = {name: value for name, value in options.items() if value is not None}
    if not {"kpath", "mesh", "spacing"} & set(given):
        given["mesh"] = (1, 1, 1)
    config = parse_config(CompareConfig, {"folder": folder, "reference": reference, **given}, "command line")
    use_threads(config.threads)

    from aiida_deeph.engine.observables.compare import run_compare

    path = run_compare(config, show_progress=show_progress)
    found = json.loads(path.read_text(encoding="utf-8"))
    verdict = "explained" if found["perturbation"]["explained"] else "NOT explained"
    click.echo(
        f"H {1e3 * found['matrix']['mean']:.3g} meV, bands {1e3 * found['bands']['mean']:.3g} meV (largest "
        f"{1e3 * found['bands']['max']:.3g}), {verdict} by perturbation theory; written to {path}"
    )
