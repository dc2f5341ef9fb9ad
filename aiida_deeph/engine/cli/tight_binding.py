"""`deeph-engine tight-binding`: H(R) without overlap for tight-binding programs."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_deeph.engine.cli.observable import use_threads
from aiida_deeph.engine.errors import InputError


@click.command("tight-binding")
@click.argument("folder", metavar="DEEPH_DIR")
@click.option("--mesh", type=click.IntRange(min=1), nargs=3, required=True, help="Gamma-centred mesh: larger, better.")
@click.option("--threads", type=int, help="Threads of the linear algebra.")
@click.option("--progress/--no-progress", "show_progress", default=None, help="Progress bar. [default: on a terminal]")
@click.option(
    "--output", metavar="PREFIX", default="wannier90", show_default=True, help="PREFIX_hr.dat, PREFIX.win, ..."
)
def command(
    folder: str, mesh: tuple[int, int, int], threads: int | None, show_progress: bool | None, output: str
) -> None:
    """Write H of a DeepH folder in an orthogonal basis as Wannier90's files, which TBmodels, PythTB and sisl read.

    They know no overlap, so that the orbitals are orthogonalised (Loewdin); between the points of the mesh bands are
    interpolated, with the error that is printed.
    """
    use_threads(["--threads", str(threads or "")])
    from aiida_deeph.engine.io.folders import read_hamiltonian
    from aiida_deeph.engine.observables.export import orthogonalise, write_wannier90

    prefix = Path(output)
    if not prefix.parent.is_dir():
        raise InputError("no such folder", where=prefix.parent)
    data = read_hamiltonian(Path(folder))
    for path, part in write_wannier90(prefix, data, orthogonalise(data, mesh, folder, show_progress=show_progress)):
        click.echo(
            f"{path}: {part.matrices.shape[1]} orbitals, {len(part.cells)} cells; half-way between the k-points bands "
            f"differ by {1e3 * part.error:.3g} meV at most, the lower half of them by {1e3 * part.error_below:.3g} meV"
        )
