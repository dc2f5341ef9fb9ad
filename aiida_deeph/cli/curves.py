"""`aiida-deeph NAME plot|export` of every observable that has arrays: figures and tables of what has been computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.nodes import DFT_BANDS, find_output
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.observables.base import Observable
from aiida_deeph.engine.observables.registry import OBSERVABLES, load_observable
from aiida_deeph.report.curves import (
    aligned,
    bands_table,
    bands_values,
    curves_of,
    fermi_level_of,
    kind_of,
    parameters_of,
    parts_of,
)

PK = click.argument("identifier", metavar="PK")
MEMBER = click.option("--of", "member", metavar="NAME", help="Which structure's, if PK is a workflow of several.")
ABSOLUTE = click.option("--absolute", is_flag=True, help="Energies as they are instead of from the Fermi level.")
WINDOW = click.option("--window", type=float, nargs=2, metavar="LOW HIGH", help="Energies shown, eV. [default: all]")
FIGURE = click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Figure: png, pdf or svg.")


def observable_group(name: str) -> click.Group:
    """The commands of one observable."""
    observable = load_observable(name)
    group = VerdiCommandGroup(name, help=f"{OBSERVABLES[name].help}: plot, export.")
    for command in bands_commands(observable) if observable.IS_BANDS else curve_commands(observable):
        group.add_command(command)
    return group


def bands_commands(observable: type[Observable]) -> tuple[click.Command, ...]:
    """Plot and export of energies at k-points; those of DFT runs are taken, too."""
    name = observable.name

    @click.command("plot")
    @PK
    @MEMBER
    @click.option(
        "--against", metavar="PK", help="Bands on the same k-points, of DFT if PK has them, drawn beside them."
    )
    @ABSOLUTE
    @WINDOW
    @FIGURE
    @decorators.with_dbenv()
    def plot(
        identifier: str,
        member: str | None,
        against: str | None,
        absolute: bool,
        window: tuple[float, float] | None,
        output: Path | None,
    ) -> None:
        """Draw bands along their path; unfolded ones by their spectral weights, ghost states circled.

        Those that they are drawn against are moved rigidly: occupied bands coincide on average, or the Fermi levels.
        """
        from aiida.orm import BandsData

        from aiida_deeph.engine.observables.figures import draw_bands, draw_reference, new_figure, path_distances

        node = find_output(identifier, (name, *DFT_BANDS), BandsData, member)
        values = bands_values(node)
        zero = None if absolute else fermi_level_of(node)
        distances = path_distances(values["kpoints"], values["cell"], values["labels"])
        figure = new_figure(4.5, 4.5)
        axes = figure.add_subplot()
        if against is not None:
            other = find_output(against, (*DFT_BANDS, name), BandsData, member)
            reference, shift = aligned(node, other, absolute)
            label = kind_of(other) + (f", moved by {shift:+.2f} eV" if abs(shift) >= 0.005 else "")
            draw_reference(axes, distances, reference - (zero or 0.0), label)
        draw_bands(
            axes,
            distances,
            values["energies"],
            labels=values["labels"],
            zero=zero,
            weights=values.get("spectral_weights"),
            ghosts=values.get("ghost_states"),
            window=window or None,
            legend=kind_of(node) if against is not None else None,
        )
        save(figure, output or Path(f"{name}-{node.pk}.png"))

    @click.command("export")
    @PK
    @MEMBER
    @click.option("--format", "kind", type=click.Choice(["json", "csv", "ase"]), default="json", show_default=True)
    @click.option(
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"File. [default: {name}-PK.json, .csv, or {name}-PK.ase.json]",
    )
    @decorators.with_dbenv()
    def export(identifier: str, member: str | None, kind: str, output: Path | None) -> None:
        """Write bands as JSON, as CSV, or as ase's band structure (JSON that `ase band-structure` reads)."""
        from aiida.orm import BandsData

        from aiida_deeph.engine.io.files import atomic_path, write_text_atomic
        from aiida_deeph.engine.observables.export import ase_band_structure

        node = find_output(identifier, (name, *DFT_BANDS), BandsData, member)
        values, level = bands_values(node), fermi_level_of(node)
        path = output or Path(f"{name}-{node.pk}.{'ase.json' if kind == 'ase' else kind}")
        if kind == "csv":
            write_text_atomic(path, bands_table(values, level))
        elif kind == "json":
            kept = {key: value for key, value in parameters_of(node).items() if key in ("fermi", "n_electrons")}
            kept |= {"fermi_level": level, "energy_units": "eV", "cell_units": "angstrom"}
            write_text_atomic(path, json.dumps({**values, **kept}) + "\n")
        else:
            found = ase_band_structure(
                values["kpoints"], values["energies"], values["cell"], values["labels"], level or 0.0
            )
            with atomic_path(path) as temporary:
                found.write(temporary)
        echo.echo_success(f"{observable.title} written to {path}")

    return plot, export


def curve_commands(observable: type[Observable]) -> tuple[click.Command, ...]:
    """Plot and export of curves over energy."""
    name = observable.name

    @click.command("plot")
    @PK
    @MEMBER
    @click.option(
        "--by", type=click.Choice(["element", "shell", "atom", "nothing"]), default="element", show_default=True
    )
    @ABSOLUTE
    @WINDOW
    @FIGURE
    @decorators.with_dbenv()
    def plot(
        identifier: str,
        member: str | None,
        by: str,
        absolute: bool,
        window: tuple[float, float] | None,
        output: Path | None,
    ) -> None:
        """Draw the curve, with its parts and, where it has one, its standard error."""
        from aiida.orm import ArrayData

        from aiida_deeph.engine.observables.figures import draw_curve, new_figure

        node = find_output(identifier, (name,), ArrayData, member)
        arrays = curves_of(observable, node)
        figure = new_figure(6.0, 3.5)
        draw_curve(
            figure.add_subplot(),
            arrays[observable.ABSCISSA],
            arrays[name],
            parts=parts_of(name, arrays, by),
            spins=arrays.get(f"{name}_by_spin"),
            error=arrays.get(f"{name}_error"),
            zero=None if absolute else fermi_level_of(node),
            window=window or None,
            quantity=f"{observable.title} ({observable.ARRAYS[name]})",
        )
        save(figure, output or Path(f"{name}-{node.pk}.png"))

    @click.command("export")
    @PK
    @MEMBER
    @click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help=f"File. [default: {name}-PK.csv]")
    @decorators.with_dbenv()
    def export(identifier: str, member: str | None, output: Path | None) -> None:
        """Write the curves as CSV: energy_eV and one column per curve."""
        from aiida.orm import ArrayData

        from aiida_deeph.engine.io.files import write_text_atomic

        node = find_output(identifier, (name,), ArrayData, member)
        arrays = curves_of(observable, node)
        spins = arrays.pop(f"{name}_by_spin", None)
        if spins is not None:
            arrays |= {f"{name}_up": spins[0], f"{name}_down": spins[1]}
        names = [observable.ABSCISSA, *sorted(key for key in arrays if key != observable.ABSCISSA)]
        rows = [",".join(["energy_eV", *names[1:]])]
        rows += [",".join(repr(float(x)) for x in row) for row in zip(*(arrays[key] for key in names), strict=True)]
        path = output or Path(f"{name}-{node.pk}.csv")
        write_text_atomic(path, "\n".join(rows) + "\n")
        echo.echo_success(f"{observable.title} written to {path}")

    return plot, export


def save(figure: Any, path: Path) -> None:
    """Write a figure.

    :raises InputError: the suffix is no format of matplotlib's.
    """
    from aiida_deeph.engine.io.files import atomic_path

    formats = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".")
    if kind not in formats:
        raise InputError("unknown format of figures", where=path, found=kind or "no suffix", expected="png, pdf or svg")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind)
    echo.echo_success(f"figure written to {path}")
