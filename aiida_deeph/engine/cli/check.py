"""`deeph-engine check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from aiida_deeph.engine.domain.checks import Limits


@click.command("check")
@click.argument("deeph_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--max-hermiticity-error", type=float, default=Limits.max_hermiticity_error, show_default=True, help="eV."
)
@click.option("--min-overlap-eigenvalue", type=float, default=Limits.min_overlap_eigenvalue, show_default=True)
@click.option("--cutoff", type=float, help="Report what a cutoff of so many Angstrom would drop.")
@click.option("--max-dropped", type=float, default=Limits.max_dropped, show_default=True, help="eV.")
@click.option("--max-band-error", type=float, default=Limits.max_band_error, show_default=True, help="eV.")
def command(
    deeph_dir: Path,
    as_json: bool,
    max_hermiticity_error: float,
    min_overlap_eigenvalue: float,
    cutoff: float | None,
    max_dropped: float,
    max_band_error: float,
) -> None:
    """Check a DeepH folder, new or legacy: NaN, pairs, hermiticity, S(k). Exit 1 if a gate fails."""
    from aiida_deeph.engine.domain.checks import run_gates
    from aiida_deeph.engine.domain.cutoff import bands_with_cutoff, within_cutoff
    from aiida_deeph.engine.domain.gate import failures
    from aiida_deeph.engine.errors import InputError
    from aiida_deeph.engine.io.folders import is_legacy
    from aiida_deeph.engine.preprocess.source import read_source

    if cutoff is not None and cutoff <= 0:
        raise InputError("cutoff is wrong", where="--cutoff", found=cutoff, expected="a distance > 0 in Angstrom")
    data = read_source("deeph_legacy" if is_legacy(deeph_dir) else "deeph", deeph_dir)
    gates = run_gates(data, Limits(max_hermiticity_error, min_overlap_eigenvalue, max_dropped))
    if cutoff is not None:
        cut, gate = within_cutoff(data, cutoff, max_dropped)
        bands = bands_with_cutoff(data, cut, max_band_error)
        gates += [gate] if bands is None else [bands, gate]
    failed = bool(failures(gates))
    matrices = {"H": data.hamiltonian, "S": data.overlap}
    summary = {
        "n_atoms": len(data.structure),
        "basis": {symbol: list(ls) for symbol, ls in data.basis.shells.items()},
        "spin": data.spin.value,
        "fermi_energy_eV": data.fermi_energy,
        "n_pairs": {name: len(matrix) for name, matrix in matrices.items() if matrix is not None},
    }
    if as_json:
        result = {"passed": not failed, **summary, "gates": [gate.as_dict() for gate in gates]}
        click.echo(json.dumps(result, indent=2))
    else:
        _print_table(deeph_dir, summary, gates)
    sys.exit(1 if failed else 0)


def _print_table(folder: Path, summary: dict, gates: list) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("gate", "found", "limit", "result", "where", title=Text(str(folder)), title_justify="left")
    for gate in gates:
        result = "ok" if gate.passed else "FAILED" if gate.severity == "error" else "warning"
        found = "" if gate.value is None else f"{gate.value:.3g} {gate.unit}"
        table.add_row(gate.name, found, "" if gate.limit is None else f"{gate.limit:g}", result, Text(gate.detail))
    console = Console()
    console.print(table)
    for name, value in summary.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)
