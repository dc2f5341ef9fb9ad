"""`deeph-engine bands`: eigenvalues along a path, on a mesh or at listed k-points."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from aiida_deeph.engine.config import load_config, parse_config
from aiida_deeph.engine.observables.config import BandsConfig


def use_threads(threads: int | None) -> None:
    """Tell the linear algebra libraries, which read this once when they are loaded."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


def resolve(cls: type[Any], target: str, options: dict[str, Any]) -> Any:
    """A configuration from a file, or from a DeepH folder and options; options win over the file."""
    given = {name: value for name, value in options.items() if value is not None}
    if Path(target).is_file():
        config = load_config(cls, Path(target))
        return parse_config(cls, {**config.model_dump(), **given}, target) if given else config
    return parse_config(cls, {"folder": target, **given}, "command line")


@click.command("bands")
@click.argument("target", metavar="DEEPH_DIR|CONFIG")
@click.option(
    "--kpoints",
    "kpoints_file",
    type=click.Path(dir_okay=False),
    help="File of fractional k-points (JSON or rows of text).",
)
@click.option("--kpath", metavar="G-K-M-G", help="Path through special points of the lattice.")
@click.option("--points", "points_per_segment", type=int, help="k-points per segment of the path. [default: 40]")
@click.option("--mesh", type=int, nargs=3, default=None, help="Gamma-centred mesh.")
@click.option("--spacing", type=float, help="Mesh whose points are at most this far apart, 1/Angstrom (with 2 pi).")
@click.option("--num-bands", type=int, help="Bands around the given energy instead of all.")
@click.option("--around", metavar="fermi|E", help="Their centre: the Fermi level or an energy in eV. [default: fermi]")
@click.option(
    "--electrons", "n_electrons", type=float, help="Valence electrons in the cell, if the folder does not record them."
)
@click.option("--solver", type=click.Choice(["auto", "dense", "sparse"]), help="[default: auto]")
@click.option("--unfold", metavar="STRUCTURE", help="Primitive cell (file or DeepH folder) to unfold a supercell onto.")
@click.option(
    "--wavefunction",
    "wavefunctions",
    type=int,
    multiple=True,
    metavar="N",
    help="State whose coefficients are written to wavefunctions.h5: 0 highest occupied, 1 lowest empty; repeatable.",
)
@click.option("--workers", type=int, help="Processes, each with one k-point at a time. [default: 1]")
@click.option("--threads", type=int, help="Threads of the linear algebra.")
@click.option("--progress/--no-progress", "show_progress", default=None, help="Progress bar. [default: on a terminal]")
@click.option("--output", metavar="FILE.json", help="[default: bands.json]")
def command(
    target: str, kpoints_file: str | None, show_progress: bool | None, around: str | None, **options: Any
) -> None:
    """Eigenvalues of a DeepH folder, or those that a CONFIG file (JSON or YAML) describes.

    Several ranks, started by mpirun, srun or torchrun, share the k-points.
    """
    if around is not None:
        options["around"] = around if around == "fermi" else _number(around)
    options["wavefunctions"] = options["wavefunctions"] or None
    if kpoints_file is not None:
        from aiida_deeph.engine.domain.kpoints import read_kpoints

        use_threads(options["threads"])
        points = read_kpoints(Path(kpoints_file))
        options["kpoints"] = points.fractional.tolist()
        options["labels"] = points.labels or None
    config = resolve(BandsConfig, target, options)
    use_threads(config.threads)

    from aiida_deeph.engine.observables.bands import run_bands

    click.echo(f"bands written to {run_bands(config, show_progress=show_progress)}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither `fermi` nor an energy in eV", param_hint="--around") from None
