"""`aiida-deeph quickstart`: the whole pipeline on polyacetylene, on this machine, with nothing to set up."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.dft.record import BASIS_FILE, BASIS_LIBRARY

# Codes for which no files of a basis have to be installed; first the one that needs no other program.
LABELS = [record for record in records().values() if record.plugin and record.basis in (BASIS_LIBRARY, BASIS_FILE)]
ENGINES = [record.name for record in sorted(LABELS, key=lambda record: len(record.programs))]


@click.command("quickstart")
@click.option(
    "-p", "--profile", "profile_name", default="deeph-quickstart", show_default=True, help="Profile, made if absent."
)
@click.option(
    "--workdir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("deeph-quickstart"),
    show_default=True,
    help="Where report.html and summary.json go.",
)
@click.option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True, help="DFT code of the labels."
)
@click.option(
    "--molecules", is_flag=True, help="Molecules instead: levels of unseen ones, and SCFs that start from them."
)
@click.option("--reduced", is_flag=True, hidden=True, help="Few cells and a small network: proves the plumbing only.")
def command(profile_name: str, workdir: Path, engine: str, molecules: bool, reduced: bool) -> None:
    """Fit a model to small cells of polyacetylene and predict a chain of 402 atoms that holds a soliton.

    Makes its own AiiDA profile (SQLite, no services) and codes on this machine. Run again, it reuses them, and finished
    DFT runs cost nothing. Ctrl-C stops it; the same command goes on where it stopped. With --molecules the same on
    water and formaldehyde, with all electrons, in a few minutes.
    """
    if molecules and engine != ENGINES[0]:
        raise click.UsageError(f"--molecules are labelled by {ENGINES[0]} alone")
    from rich.console import Console

    from aiida_deeph.quickstart import profile

    console = Console(stderr=True, highlight=False)
    new = profile.load_or_create(profile_name)
    console.print(f"profile {profile_name} {'made' if new else 'reused'}")

    from aiida_deeph.quickstart import molecules as of_molecules
    from aiida_deeph.quickstart import run, settings

    try:
        if molecules:
            summary = of_molecules.run(engine, 8 if reduced else 32, profile_name, workdir, console)
        else:
            chosen = settings.reduced(engine) if reduced else settings.full(engine)
            summary = run.run(engine, chosen, profile_name, workdir, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on where this one stopped")
        raise click.Abort from None
    told = ("hamiltonian_uHartree", "levels_mae_meV", "scf_cycles", "ratio_of_cycles")
    for key in ("n_labels", *(told if molecules else ("test_mae_meV", "band_mae_meV", "n_atoms_predicted"))):
        click.echo(f"{key}: {summary[key]}")
    click.echo(f"total: {summary['wall_s']['total'] / 60:.1f} min")
    if not molecules:
        click.echo(f"report: {workdir / 'report.html'}")
    click.echo(f"summary: {workdir / 'summary.json'}")
