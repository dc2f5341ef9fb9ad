"""`deeph-engine cube`: a wavefunction for plotting."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_deeph.engine.cli.overlap import _by_element
from aiida_deeph.engine.overlap.basis import spec_forms


@click.command("cube")
@click.argument("wavefunctions", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--basis",
    required=True,
    metavar="SPEC",
    help=f"One of {spec_forms()}, as for `overlap`.",
)
@click.option(
    "--orbitals", metavar="ELEMENT=NAME", multiple=True, help="Numerical orbitals of an element, e.g. C=C6.0-s2p2d1."
)
@click.option("--band", type=int, required=True, help="Band, counted from 0; one of those in the file.")
@click.option(
    "--kpoint", "k_index", type=click.IntRange(min=0), default=0, show_default=True, help="Index of the k-point."
)
@click.option("--channel", type=click.IntRange(0, 1), default=0, show_default=True, help="Spin of collinear data.")
@click.option("--part", type=click.Choice(["density", "real", "imaginary"]), default="density", show_default=True)
@click.option(
    "--spacing", type=click.FloatRange(min=0.01), default=0.2, show_default=True, help="Of the grid, Angstrom."
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("state.cube"), show_default=True
)
def command(
    wavefunctions: Path, basis: str, orbitals: tuple[str, ...], output: Path, **options: int | float | str
) -> None:
    """Write a state of WAVEFUNCTIONS (from `deeph-engine bands --wavefunction N`) as a cube file."""
    from aiida_deeph.engine.observables.cube import elements_of, write_cube
    from aiida_deeph.engine.overlap.basis import is_numeric, load_basis, load_numeric

    elements = elements_of(wavefunctions)
    if is_numeric(basis):
        found = load_numeric(basis, _by_element(orbitals), elements, Path())
    else:
        from aiida_deeph.engine.orbitals.gaussian import as_radial

        found = as_radial(load_basis(basis, elements, Path()))
    norm = write_cube(output, wavefunctions, found, **options)
    click.echo(f"{output}: integral of |psi|^2 over the cell {norm:.4f}")
