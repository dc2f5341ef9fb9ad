"""`deeph-engine plot`: figures of what the commands of observables have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aiida_deeph.engine.errors import InputError


@click.command("plot")
@click.argument("result", metavar="RESULT", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Other bands, in grey.")
@click.option("--absolute", is_flag=True, help="Energies as they are instead of from the Fermi level.")
@click.option("--window", type=float, nargs=2, metavar="LOW HIGH", help="Energies shown, eV. [default: all]")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Figure.  [default: RESULT.png]")
def command(
    result: Path, against: Path | None, absolute: bool, window: tuple[float, float] | None, output: Path | None
) -> None:
    """Draw bands, or the curve of a density of states and the like, from the RESULT (JSON) of their command."""
    from aiida_deeph.engine.io.files import atomic_path
    from aiida_deeph.engine.observables.figures import draw_bands, draw_curve, draw_reference, new_figure

    values = _read(result)
    zero = None if absolute else values.get("fermi_level")
    figure = new_figure(6.0, 4.5)
    axes = figure.add_subplot()
    if {"energies", "kpoints", "distances"} <= set(values):
        if against is not None:
            other = _read(against)
            if other.get("kpoints") != values["kpoints"]:
                raise InputError("bands on other k-points", where=against, expected=f"those of {result}")
            level = None if absolute else other.get("fermi_level")
            reference = [[[e - (level or 0.0) for e in k] for k in channel] for channel in other["energies"]]
            draw_reference(axes, values["distances"], reference, against.stem)
        keys = {"weights": values.get("spectral_weights"), "ghosts": values.get("ghost_states")}
        legend = result.stem if against is not None else None
        labels = values.get("labels") or ()
        draw_bands(
            axes,
            values["distances"],
            values["energies"],
            labels=labels,
            zero=zero,
            window=window or None,
            legend=legend,
            **keys,
        )
    else:
        name, parts = _curve(result, values)
        quantity = name.replace("_", " ")
        draw_curve(
            axes, values["energies"], values[name], parts=parts, zero=zero, window=window or None, quantity=quantity
        )
    path = output or result.with_suffix(".png")
    kind = path.suffix.removeprefix(".")
    if kind not in figure.canvas.get_supported_filetypes():
        raise InputError("unknown format of figures", where=path, found=kind or "no suffix", expected="png, svg or pdf")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind)
    click.echo(f"figure written to {path}")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError("result cannot be read", where=path, found=error, expected="JSON of an observable") from None
    if not isinstance(values, dict):
        raise InputError("result cannot be read", where=path, expected="JSON of an observable")
    return values


def _curve(path: Path, values: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Name of the curve over energy in a result, and its parts by element."""
    from aiida_deeph.engine.observables.registry import OBSERVABLES

    for name in OBSERVABLES:
        if "energies" in values and isinstance(values.get(name), list):
            return name, values.get(f"{name}_by_element")
    raise InputError("nothing to draw", where=path, expected=f"the result of one of {', '.join(OBSERVABLES)}")
