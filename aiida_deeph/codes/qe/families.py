"""Matched families of GTH pseudopotentials and Gaussian bases, made from the library of Gaussian integrals."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import click
from aiida.cmdline.utils import decorators, echo
from aiida.plugins import DataFactory, GroupFactory

from aiida_deeph.data.pao import PaoData, PaoFamily
from aiida_deeph.engine.dft.qe.gth import gaussian_table, gth_potential, gth_upf
from aiida_deeph.engine.errors import InputError

LABEL = "gth-pbe"
BASES = ("gth-szv-molopt-sr", "gth-dzvp-molopt-sr")
# Where the tables of the Gaussians end, Bohr.
RADIUS = 10.0


def install_gth(
    elements: Iterable[str], label: str = LABEL, bases: Sequence[str] = BASES, radius: float = RADIUS
) -> tuple[int, dict[str, str]]:
    """Families of both kinds under one label, for the labels by Quantum ESPRESSO; elements join those that are there.

    :param elements: symbols; each needs a pseudopotential `gth-pbe`, and at least one of the bases.
    :param bases: as the library calls them.
    :param radius: where the tables of the Gaussians end, Bohr.
    :raises InputError: the library is missing, or an element has no pseudopotential or none of the bases.
    :return: number of files of orbitals, and the bases left out with the reason.
    """
    upf_class, family_class = DataFactory("pseudo.upf"), GroupFactory("pseudo.family")
    pseudos, orbitals, left_out = [], [], {}
    for symbol in dict.fromkeys(elements):
        potential = gth_potential(symbol)
        name = f"{symbol}.{potential.name}-q{potential.valence}.upf"
        pseudos.append(upf_class.get_or_create(io.BytesIO(gth_upf(potential).encode()), filename=name))
        known = len(orbitals)
        for basis in bases:
            try:
                text = gaussian_table(symbol, basis, radius)
            except InputError as error:
                left_out[f"{symbol} {basis}"] = str(error)
                continue
            orbitals.append(PaoData(io.BytesIO(text.encode()), filename=f"{symbol}_{basis}_{radius:g}au.orb"))
        if len(orbitals) == known:
            raise InputError(
                "element without basis", where="bases", found=symbol, expected=f"one of {', '.join(bases)}"
            )
    pseudo_family = family_class.collection.get_or_create(label=label)[0]
    orbital_family = PaoFamily.collection.get_or_create(label=label)[0]
    present = set(pseudo_family.elements)
    pseudo_family.add_nodes(
        [node if node.is_stored else node.store() for node in pseudos if node.element not in present]
    )
    names = set(orbital_family.orbitals)
    orbital_family.add_nodes([node.store() for node in orbitals if node.name not in names])
    return len(orbitals), left_out


@click.command("gth")
@click.argument("elements", nargs=-1, required=True)
@click.option("--label", default=LABEL, show_default=True, help="Of both families; the protocols take this one.")
@click.option("--basis", "bases", multiple=True, help="Gaussian basis; may be repeated. Default: two of MOLOPT-SR.")
@click.option("--radius", default=RADIUS, show_default=True, help="Where the tables of the Gaussians end, Bohr.")
@decorators.with_dbenv()
def command(elements: tuple[str, ...], label: str, bases: tuple[str, ...], radius: float) -> None:
    """Make GTH pseudopotentials (UPF) and Gaussian bases (tables) of ELEMENTS as families: a matched pair.

    Both are known in closed form, and come with the engine; nothing is downloaded.
    """
    count, left_out = install_gth(elements, label, bases or BASES, radius)
    for name, reason in left_out.items():
        echo.echo_warning(f"{name} is left out: {reason}")
    echo.echo_success(f"families {label}: {len(set(elements))} pseudopotentials, {count} files of orbitals")
