"""`aiida-deeph NAME plot|export` of every observable that has arrays: figures and tables of what has been computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.nodes import DFT_BANDS, fermi_level_of, find_output
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.observables.base import Observable
from aiida_deeph.engine.observables.registry import OBSERVABLES, load_observable

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
        from aiida_deeph.engine.observables.export import ase_band_structure, bands_csv

        node = find_output(identifier, (name, *DFT_BANDS), BandsData, member)
        values, level = bands_values(node), fermi_level_of(node)
        path = output or Path(f"{name}-{node.pk}.{'ase.json' if kind == 'ase' else kind}")
        if kind == "csv":
            write_text_atomic(path, bands_csv(values["kpoints"], values["energies"], values.get("spectral_weights")))
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


def parameters_of(node: Any) -> dict[str, Any]:
    """What the job that made a node found out besides."""
    maker = node.creator
    return maker.outputs.output_parameters.get_dict() if maker and "output_parameters" in maker.outputs else {}


def kind_of(node: Any) -> str:
    """What the legend calls bands."""
    from aiida_deeph.calculations.observable import class_name

    maker = node.creator
    ours = maker is not None and maker.process_label in map(class_name, OBSERVABLES)
    return "H(R)" if ours else "DFT"


def aligned(node: Any, other: Any, absolute: bool) -> tuple[np.ndarray, float]:
    """Energies of other bands at the same k-points on the zero of energy of the first, and how far they were moved, eV.

    :raises InputError: other k-points, or nothing tells how they lie to each other.
    """
    from aiida_deeph.engine.observables.compare_bands import compare_bands

    ours, theirs = (np.array(bands_values(each)["energies"]) for each in (node, other))
    if theirs.shape[:2] != ours.shape[:2]:
        raise InputError(
            "bands on other k-points", where="--against", found=theirs.shape[:2], expected=f"{ours.shape[:2]}"
        )
    if absolute or other.uuid == node.uuid:
        return theirs, 0.0
    occupied = parameters_of(node).get("n_occupied") or parameters_of(other).get("n_occupied")
    levels = [fermi_level_of(each) for each in (node, other)]
    if occupied is not None:
        shift = -compare_bands(ours, theirs, tuple(occupied) if isinstance(occupied, list) else int(occupied)).shift
    elif levels[0] is not None and levels[1] is not None:
        shift = levels[0] - levels[1]
    else:
        raise InputError(
            "zero of energy unknown",
            where="--against",
            found="neither occupied bands nor both Fermi levels",
            remedy="--absolute draws energies as they are",
        )
    return theirs + shift, shift


def bands_values(node: Any) -> dict[str, Any]:
    """Plain values of BandsData: energies [spin][k][band] in eV, fractional k-points, labels, cell in Angstrom."""
    energies = np.asarray(node.get_bands())
    arrays = set(node.get_arraynames())
    values = {
        "kpoints": np.asarray(node.get_kpoints()).tolist(),
        "energies": (energies[None] if energies.ndim == 2 else energies).tolist(),
        "labels": [[int(index), str(name)] for index, name in node.labels or []],
        "cell": np.asarray(node.base.attributes.get("cell", np.eye(3).tolist())).tolist(),
    }
    if "weights" in arrays:
        values["weights"] = node.get_array("weights").tolist()
    if "spectral_weights" in arrays:
        values["spectral_weights"] = node.get_array("spectral_weights").reshape(np.shape(values["energies"])).tolist()
    if "ghost_states" in arrays:
        values["ghost_states"] = node.get_array("ghost_states").tolist()
    return values


def curves_of(observable: type[Observable], node: Any) -> dict[str, np.ndarray]:
    """Arrays of an observable by name.

    :raises InputError: it is another kind of array.
    """
    arrays = {name: node.get_array(name) for name in node.get_arraynames()}
    wanted = (observable.ABSCISSA, observable.name)
    if not set(wanted) <= set(arrays):
        raise InputError(
            f"no {observable.title}", where=f"node {node.pk}", found=sorted(arrays), expected=", ".join(wanted)
        )
    return arrays


def parts_of(name: str, arrays: dict[str, np.ndarray], by: str) -> dict[str, np.ndarray]:
    """Curves of one kind of part, `NAME_ELEMENT`, `NAME_ELEMENT_SHELL` or `NAME_atom_N`, as the legend calls them."""
    special = {name, f"{name}_error", f"{name}_by_spin"}
    words = {key: key.removeprefix(f"{name}_").split("_") for key in arrays if key.startswith(f"{name}_")}
    kinds = {
        key: "atom" if found[0] == "atom" else ("element", "shell")[min(len(found), 2) - 1]
        for key, found in words.items()
    }
    chosen = sorted(key for key, kind in kinds.items() if kind == by and key not in special)
    return {" ".join(words[key]): arrays[key] for key in chosen}


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
