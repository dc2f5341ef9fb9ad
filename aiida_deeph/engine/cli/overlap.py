"""`deeph-engine overlap`: S(R) of a structure without a DFT run."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_deeph.engine.config import load_config, parse_config
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.overlap.basis import spec_forms
from aiida_deeph.engine.overlap.config import OverlapConfig


@click.command()
@click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--basis", metavar="SPEC", help=f"One of {spec_forms()}.")
@click.option(
    "--orbitals",
    metavar="ELEMENT=NAME",
    multiple=True,
    help="Numerical orbitals of an element: C=C6.0-s2p2d1 of .pao, C=LABEL of .ion, C=FILE of .orb.",
)
@click.option("--structure", metavar="FILE", help="Structure file, or a DeepH folder.")
@click.option("--output", metavar="DIR", help="DeepH folder to write.")
@click.option("--cutoff", type=float, help="Keep all pairs up to this distance, Angstrom.")
@click.option("--model", metavar="DIR", help="Keep the pairs that this model knows.")
@click.option("--threshold", type=float, help="Keep pairs whose overlap can exceed this (default 1e-8).")
def command(config: Path | None, orbitals: tuple[str, ...], **options: str | float | None) -> None:
    """Compute the overlap of a structure, from a CONFIG file (JSON or YAML) or from options."""
    given: dict[str, object] = {name: value for name, value in options.items() if value is not None}
    if orbitals:
        given["orbitals"] = _by_element(orbitals)
    if config is not None and given:
        raise InputError("give either a configuration file or options", found=f"{config} and --{next(iter(given))}")
    settings = load_config(OverlapConfig, config) if config else parse_config(OverlapConfig, given, "options")
    from aiida_deeph.engine.overlap.run import run_overlap

    folder = run_overlap(settings, config.parent if config else Path())
    click.echo(f"overlap written to {folder}")


def _by_element(orbitals: tuple[str, ...]) -> dict[str, str]:
    """`C=C6.0-s2p2d1` .. as a mapping.

    :raises InputError: no `=`, or an element twice.
    """
    names: dict[str, str] = {}
    for text in orbitals:
        element, _, name = text.partition("=")
        if not name or element in names:
            raise InputError(
                "orbitals are not understood", where="--orbitals", found=text, expected="ELEMENT=NAME, an element once"
            )
        names[element] = name
    return names
