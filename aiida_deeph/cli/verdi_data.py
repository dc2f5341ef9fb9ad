"""`verdi data deeph-hamiltonian` and `verdi data deeph-model`: show and export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.commands.cmd_data import verdi_data
from aiida.cmdline.params import arguments, types
from aiida.cmdline.utils import decorators, echo

from aiida_deeph.engine.errors import DeepHError, as_one_line

HAMILTONIAN = types.DataParamType(sub_classes=("aiida.data:deeph.hamiltonian",))
MODEL = types.DataParamType(sub_classes=("aiida.data:deeph.model",))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@verdi_data.group("deeph-hamiltonian")
def hamiltonian() -> None:
    """Real-space Hamiltonians H(R) and overlaps S(R)."""


@hamiltonian.command("show")
@arguments.DATUM(type=HAMILTONIAN)
@AS_JSON
@decorators.with_dbenv()
def hamiltonian_show(datum: Any, as_json: bool) -> None:
    """Show what a Hamiltonian is: size, basis, spin, Fermi level, files."""
    print_values({"node": f"{datum.uuid} ({datum.pk})", **datum.base.attributes.all}, as_json)


@hamiltonian.command("export")
@arguments.DATUM(type=HAMILTONIAN)
@FOLDER
@click.option("--format", "kind", type=click.Choice(["deeph", "wannier90"]), default="deeph", show_default=True)
@click.option(
    "--mesh", type=click.IntRange(min=1), nargs=3, help="k-mesh of the orthogonalised H(R) of --format wannier90."
)
@decorators.with_dbenv()
def hamiltonian_export(datum: Any, folder: Path, kind: str, mesh: tuple[int, int, int] | None) -> None:
    """Write the DeepH folder, which other DeepH tools read, or Wannier90's files without overlap.

    TBmodels, PythTB and sisl read the latter: FOLDER/wannier90_hr.dat, _centres.xyz and .win, orbitals orthogonalised.
    """
    if kind == "deeph":
        if mesh is not None:
            raise click.UsageError("--mesh only with --format wannier90")
        export(datum, folder)
        return
    if mesh is None:
        raise click.UsageError("--format wannier90 needs --mesh N N N")
    from aiida_deeph.engine.observables.export import orthogonalise, write_wannier90

    try:
        data = datum.load()
        channels = orthogonalise(data, mesh, f"node {datum.pk}")
        folder.mkdir(parents=True, exist_ok=True)
        written = write_wannier90(folder / "wannier90", data, channels)
    except (DeepHError, OSError) as error:
        echo.echo_critical(str(as_one_line(error)))
    for path, part in written:
        echo.echo_success(f"{path}: bands differ by {1e3 * part.error:.3g} meV at most half-way between the k-points")


@verdi_data.group("deeph-model")
def model() -> None:
    """Trained DeepH models."""


@model.command("show")
@arguments.DATUM(type=MODEL)
@AS_JSON
@decorators.with_dbenv()
def model_show(datum: Any, as_json: bool) -> None:
    """Show a model: network, basis, pairs, errors, training; with --json the whole of its description."""
    try:
        description = datum.model_description
    except DeepHError as error:
        echo.echo_critical(str(error))
    if as_json:
        print_values(description.model_dump(mode="json"), as_json)
        return
    training = {
        f"training {key}": description.training[key]
        for key in ("epochs", "best_epoch", "parameters", "seconds", "device")
        if key in description.training
    }
    values = {
        "node": f"{datum.uuid} ({datum.pk})",
        "network": description.network,
        "basis": {symbol: list(ls) for symbol, ls in description.basis.items()},
        "spin": description.spin.value,
        "pair cutoffs (Angstrom)": description.pair_cutoffs,
        "gauge": description.gauge,
        "metrics": description.metrics,
        **training,
        "origin": description.origin or "own training",
        "weights sha256": description.weights_sha256,
    }
    print_values(values, as_json)


@model.command("export")
@arguments.DATUM(type=MODEL)
@FOLDER
@decorators.with_dbenv()
def model_export(datum: Any, folder: Path) -> None:
    """Write the model folder, which `deeph-engine predict --model` reads."""
    export(datum, folder)


def export(datum: Any, folder: Path) -> None:
    """Write a node's folder, or say in one line why not."""
    try:
        datum.export(folder.absolute())  # AiiDA's repository takes no other
    except (DeepHError, OSError) as error:
        echo.echo_critical(str(as_one_line(error)))
    echo.echo_success(f"written to {folder}")


def print_values(values: Mapping[str, Any], as_json: bool) -> None:
    """Print JSON, or a line per key and per entry of a table."""
    if as_json:
        echo.echo(json.dumps(values, indent=2))
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        lines = [f"{name}: {item}" for name, item in value.items()] if isinstance(value, Mapping) else [str(value)]
        for n, line in enumerate(lines or ["-"]):
            echo.echo(f"{key if n == 0 else '':<{width}}  {line}")
