"""`aiida-deeph bands` and `aiida-deeph dos`: figures and tables of what has been computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.cli.nodes import load
from aiida_deeph.engine.errors import InputError

WINDOW = click.option("--window", type=float, nargs=2, metavar="LOW HIGH", help="Energies shown, eV. [default: all]")
FIGURE = click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Figure: png, pdf or svg.")


@click.group("bands", cls=VerdiCommandGroup)
def bands() -> None:
    """Band structures: plot, export."""


@click.group("dos", cls=VerdiCommandGroup)
def dos() -> None:
    """Densities of states: plot, export."""


def find(identifier: str, output: str, kind: type) -> tuple[Any, dict[str, Any]]:
    """Results by their own identifier or that of the process that made them, and what else that process found out.

    :raises InputError: there are none.
    """
    from aiida import orm

    node = load(identifier, (kind, orm.ProcessNode), "argument")
    if isinstance(node, orm.ProcessNode):
        if output not in node.outputs:
            raise InputError("process has no such output", where=f"{node.process_label}<{node.pk}>", expected=output)
        node = node.outputs[output]
    maker = node.creator
    parameters = maker.outputs.output_parameters.get_dict() if maker and "output_parameters" in maker.outputs else {}
    return node, parameters


def axis_zero(parameters: dict[str, Any], absolute: bool) -> float | None:
    """The Fermi level, unless energies are wanted as they are."""
    return None if absolute else parameters.get("fermi_level")


@bands.command("plot")
@click.argument("identifier", metavar="PK")
@click.option("--against", metavar="PK", help="Other bands on the same k-points, e.g. of DFT, drawn beside them.")
@click.option("--absolute", is_flag=True, help="Energies as they are instead of from the Fermi level.")
@WINDOW
@FIGURE
@decorators.with_dbenv()
def bands_plot(
    identifier: str, against: str | None, absolute: bool, window: tuple[float, float] | None, output: Path | None
) -> None:
    """Draw bands along their path; unfolded ones by their spectral weights, ghost states circled."""
    from aiida.orm import BandsData

    from aiida_deeph.engine.observables.figures import draw_bands, new_figure, path_distances

    node, parameters = find(identifier, "bands", BandsData)
    values = bands_values(node)
    distances = path_distances(values["kpoints"], values["cell"], values["labels"])
    figure = new_figure(4.5, 4.5)
    axes = figure.add_subplot()
    if against is not None:
        other, others = find(against, "bands", BandsData)
        reference = np.array(bands_values(other)["energies"])
        if reference.shape[:2] != np.shape(values["energies"])[:2]:
            raise InputError(
                "bands on other k-points", where=f"--against {against}", found=reference.shape, expected=distances.shape
            )
        reference = reference - (axis_zero(others, absolute) or 0.0)
        for channel in reference:
            axes.plot(distances, channel, color="0.6", linewidth=2.0, zorder=0)
    draw_bands(
        axes,
        distances,
        values["energies"],
        labels=values["labels"],
        zero=axis_zero(parameters, absolute),
        weights=values.get("spectral_weights"),
        ghosts=values.get("ghost_states"),
        window=window or None,
    )
    save(figure, output or Path(f"bands-{node.pk}.png"))


@bands.command("export")
@click.argument("identifier", metavar="PK")
@click.option("--format", "kind", type=click.Choice(["json", "csv", "ase"]), default="json", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File. [default: bands-PK.SUFFIX]")
@decorators.with_dbenv()
def bands_export(identifier: str, kind: str, output: Path | None) -> None:
    """Write bands as JSON, as CSV, or as ase's band structure (JSON that `ase band-structure` reads)."""
    from aiida.orm import BandsData

    from aiida_deeph.engine.io.files import write_text_atomic
    from aiida_deeph.engine.observables.export import ase_band_structure, bands_csv

    node, parameters = find(identifier, "bands", BandsData)
    values = bands_values(node)
    path = output or Path(f"bands-{node.pk}.{'csv' if kind == 'csv' else 'json'}")
    if kind == "csv":
        write_text_atomic(path, bands_csv(values["kpoints"], values["energies"], values.get("spectral_weights")))
    elif kind == "json":
        kept = {key: parameters[key] for key in ("fermi_level", "fermi", "n_electrons") if key in parameters}
        write_text_atomic(path, json.dumps({**values, **kept, "energy_units": "eV", "cell_units": "angstrom"}) + "\n")
    else:
        level = parameters.get("fermi_level") or 0.0
        found = ase_band_structure(values["kpoints"], values["energies"], values["cell"], values["labels"], level)
        found.write(path)
    echo.echo_success(f"bands written to {path}")


@dos.command("plot")
@click.argument("identifier", metavar="PK")
@click.option("--by", type=click.Choice(["element", "shell", "atom", "nothing"]), default="element", show_default=True)
@click.option("--absolute", is_flag=True, help="Energies as they are instead of from the Fermi level.")
@WINDOW
@FIGURE
@decorators.with_dbenv()
def dos_plot(identifier: str, by: str, absolute: bool, window: tuple[float, float] | None, output: Path | None) -> None:
    """Draw a density of states, with its parts and, by the kernel polynomial method, its standard error."""
    from aiida.orm import ArrayData

    from aiida_deeph.engine.observables.figures import draw_dos, new_figure

    node, parameters = find(identifier, "dos", ArrayData)
    arrays = dos_arrays(node)
    figure = new_figure(6.0, 3.5)
    draw_dos(
        figure.add_subplot(),
        arrays["energies"],
        arrays["dos"],
        parts=dos_parts(arrays, by),
        spins=arrays.get("dos_by_spin"),
        error=arrays.get("dos_error"),
        zero=axis_zero(parameters, absolute),
        window=window or None,
    )
    save(figure, output or Path(f"dos-{node.pk}.png"))


@dos.command("export")
@click.argument("identifier", metavar="PK")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File. [default: dos-PK.csv]")
@decorators.with_dbenv()
def dos_export(identifier: str, output: Path | None) -> None:
    """Write a density of states as CSV: energy_eV and one column per curve, states/eV/cell."""
    from aiida.orm import ArrayData

    from aiida_deeph.engine.io.files import write_text_atomic

    node, _ = find(identifier, "dos", ArrayData)
    arrays = dos_arrays(node)
    spins = arrays.pop("dos_by_spin", None)
    if spins is not None:
        arrays |= {"dos_up": spins[0], "dos_down": spins[1]}
    names = ["energies", *sorted(name for name in arrays if name != "energies")]
    rows = [",".join(["energy_eV", *names[1:]])]
    rows += [",".join(repr(float(x)) for x in row) for row in zip(*(arrays[name] for name in names), strict=True)]
    path = output or Path(f"dos-{node.pk}.csv")
    write_text_atomic(path, "\n".join(rows) + "\n")
    echo.echo_success(f"density of states written to {path}")


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


def dos_arrays(node: Any) -> dict[str, np.ndarray]:
    """Arrays of a density of states by name.

    :raises InputError: it is another kind of array.
    """
    arrays = {name: node.get_array(name) for name in node.get_arraynames()}
    if not {"energies", "dos"} <= set(arrays):
        raise InputError(
            "no density of states", where=f"node {node.pk}", found=sorted(arrays), expected="energies, dos"
        )
    return arrays


def dos_parts(arrays: dict[str, np.ndarray], by: str) -> dict[str, np.ndarray]:
    """Curves of one kind of part by the name that the legend shows."""
    special = {"dos", "dos_error", "dos_by_spin"}
    names = {name: name.removeprefix("dos_").split("_") for name in arrays if name.startswith("dos_")}
    kinds = {
        name: "atom" if words[0] == "atom" else ("element", "shell")[len(words) - 1] for name, words in names.items()
    }
    chosen = sorted(name for name, kind in kinds.items() if kind == by and name not in special)
    return {" ".join(names[name]): arrays[name] for name in chosen}


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
