"""`deeph-engine structure`: twisted bilayers, and small cells for a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from click.shell_completion import CompletionItem

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import InputError

if TYPE_CHECKING:
    from aiida_deeph.engine.domain.structure import Structure

RECORD_FILE = "design.json"
# More files than a folder can hold are a slip of the pen.
MOST_CELLS = 200_000


class LayerType(click.Path):
    """A structure file, or the name of a layer that needs no file."""

    name = "layer"

    def __init__(self) -> None:
        super().__init__(dir_okay=True, path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from aiida_deeph.engine.structures.layers import HONEYCOMBS

        names = [CompletionItem(name) for name in HONEYCOMBS if name.startswith(incomplete)]
        return [*names, *super().shell_complete(ctx, param, incomplete)]


@click.group()
def command() -> None:
    """Build structures: twisted bilayers, cells drawn around a parent."""


@command.command("twist")
@click.argument("layers", nargs=-1, required=True, type=LayerType(), metavar="BILAYER | LOWER UPPER")
@click.option("--angle", type=float, help="Nearest to this twist, degrees.")
@click.option("-m", "m", type=int, help="The commensurate cell (m, r); -m 30 is 1.08 degrees.")
@click.option("-r", "r", type=int, help="With -m (default 1).")
@click.option("--tolerance", type=float, help="Degrees off at most (default: 1 % wanted, 10 % taken).")
@click.option("--max-strain", type=float, help="Of the upper layer, if the layers differ (default 0.005).")
@click.option("--max-atoms", type=int, help="In the common cell (default 20000).")
@click.option("--distance", type=float, help="Between the layers, Angstrom (default: the bilayer's, or 3.35).")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
def twist(layers: Sequence[Path], output: Path, **options: Any) -> None:
    """Turn two hexagonal layers against each other in a common cell.

    A BILAYER file holds both layers; LOWER and UPPER are files of single layers, or names: graphene, BN, MoS2, MoSe2,
    WS2, WSe2. The format of the output follows its name: .xyz, POSCAR, .cif, ...
    """
    from aiida_deeph.engine.io.folders import read_structure
    from aiida_deeph.engine.io.structure import write_structure
    from aiida_deeph.engine.structures.twist import TwistConfig, twisted, twisted_layers

    given = {name: value for name, value in options.items() if value is not None}
    if len(layers) > 2:
        raise InputError("too many layers", found=len(layers), expected="a bilayer, or two layers")
    if len(layers) == 2:
        given.setdefault("distance", 3.35)
    config = parse_config(TwistConfig, given, "options")
    if len(layers) == 1:
        structure, common = twisted(read_structure(layers[0]), config)
    else:
        structure, common = twisted_layers(_layer(layers[0]), _layer(layers[1]), config)
    write_structure(output, structure)
    strain = f", upper layer strained by {100 * common.strain:.3f} %" if common.strain else ""
    click.echo(f"{output}: {len(structure)} atoms, twist {common.angle:.4f} degrees{strain}")


@command.command("draw")
@click.argument("parent", type=click.Path(exists=True, path_type=Path))
@click.option("-n", "n", type=int, help="Number of cells.")
@click.option("--seed", type=int, help="Cell i has its own stream of random numbers (seed, i); default 42.")
@click.option("--supercell", type=int, nargs=3, help="Repetitions of the parent.")
@click.option("--amplitude", type=float, help="Displacement of each coordinate, Angstrom (default 0.05).")
@click.option("--strain", type=float, help="Largest component of a random strain.")
@click.option(
    "--design",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML or JSON: the steps, or all fields (n, seed, supercell, design).",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
def draw_cells(parent: Path, design: Path | None, output: Path, **options: Any) -> None:
    """Draw cells around a PARENT structure: cell_0000.xyz, ... and design.json, which records how.

    Steps of a design: displace, rattle, strain, slide, vacancy, substitute; e.g.
    [{kind: slide}, {kind: displace, amplitude: 0.08}].
    """
    from aiida_deeph.engine.io.files import write_text_atomic
    from aiida_deeph.engine.io.folders import read_structure
    from aiida_deeph.engine.io.structure import write_structure
    from aiida_deeph.engine.structures.design import DesignConfig, draw

    given = {name: value for name, value in options.items() if value is not None}
    config = parse_config(DesignConfig, {**_design(design), **given}, design or "options")
    if config.n > MOST_CELLS:
        raise InputError("too many cells", where="n", found=config.n, expected=f"at most {MOST_CELLS}")
    structure = read_structure(parent)
    for index in range(config.n):
        write_structure(output / f"cell_{index:04d}.xyz", draw(structure, config, index))
    record = {"parent": parent.name, "parent_structure": _plain(structure), **config.model_dump(mode="json")}
    write_text_atomic(output / RECORD_FILE, json.dumps(record, indent=2) + "\n")
    click.echo(f"{output}: {config.n} cells around {parent.name}")


def _layer(path: Path) -> Structure:
    """A structure file, or a named layer."""
    from aiida_deeph.engine.io.folders import read_structure
    from aiida_deeph.engine.structures.layers import honeycomb

    return read_structure(path) if path.exists() else honeycomb(str(path))


def _design(path: Path | None) -> dict[str, Any]:
    """Fields of a design file; a list is the steps alone."""
    if path is None:
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError("design cannot be read", where=path, found=error, expected="YAML or JSON") from None
    if isinstance(values, list):
        return {"design": values}
    if not isinstance(values, dict):
        raise InputError(
            "design is not understood", where=path, found=type(values).__name__, expected="steps or fields"
        )
    return {"design": values} if "kind" in values else values


def _plain(structure: Structure) -> dict[str, Any]:
    """A structure as plain values, lengths in Angstrom."""
    return {
        "symbols": list(structure.symbols),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "pbc": list(structure.pbc),
        "units": "angstrom",
    }
