"""`aiida-deeph data gth`: pseudopotentials and orbitals for labels by Quantum ESPRESSO."""

from __future__ import annotations

import click
from aiida.cmdline.utils import decorators, echo


@click.command("gth")
@click.argument("elements", nargs=-1, required=True)
@click.option("--label", default="gth-pbe", show_default=True, help="Of both families; the protocols take this one.")
@click.option("--basis", "bases", multiple=True, help="Basis of PySCF; may be repeated. Default: two of MOLOPT-SR.")
@click.option("--radius", default=10.0, show_default=True, help="Where the tables of the Gaussians end, Bohr.")
@decorators.with_dbenv()
def data_gth(elements: tuple[str, ...], label: str, bases: tuple[str, ...], radius: float) -> None:
    """Make GTH pseudopotentials (UPF) and Gaussian bases (tables) of ELEMENTS as families: a matched pair.

    Both are known in closed form, and PySCF has them; nothing is downloaded.
    """
    from aiida_deeph.data.gth import BASES, install_gth

    count, left_out = install_gth(elements, label, bases or BASES, radius)
    for name, reason in left_out.items():
        echo.echo_warning(f"{name} is left out: {reason}")
    echo.echo_success(f"families {label}: {len(set(elements))} pseudopotentials, {count} files of orbitals")
