"""`deeph-engine convert`."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_deeph.engine.dft.base import records


@click.command("convert")
@click.option(
    "--code",
    required=True,
    type=click.Choice([*records(), "deeph", "deeph_legacy"]),
    help="Who wrote SOURCE_DIR: a DFT code, or a DeepH folder, new or legacy.",
)
@click.option(
    "--to",
    "target",
    default="deeph",
    show_default=True,
    type=click.Choice(["deeph", "deeph_legacy"]),
    help="Layout of OUTPUT_DIR.",
)
@click.argument("source_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(file_okay=False, path_type=Path))
def command(code: str, target: str, source_dir: Path, output_dir: Path) -> None:
    """Turn raw DFT output into a DeepH folder: H(R) and S(R) in eV, orbitals m = -l..l, atoms grouped by element.

    SOURCE_DIR is a folder, an archive of one, or, of a data set of molecules, FILE/N: molecule N, counted from 0.
    """
    from aiida_deeph.engine.domain.checks import run_gates
    from aiida_deeph.engine.domain.gate import failures
    from aiida_deeph.engine.errors import DataError
    from aiida_deeph.engine.io.deeph import write_deeph
    from aiida_deeph.engine.io.deeph_legacy import write_legacy
    from aiida_deeph.engine.preprocess.source import read_source

    data = read_source(code, source_dir)
    failed = failures(run_gates(data, overlap_eigenvalue=False))
    if failed:
        raise DataError("gate failed", where=source_dir, found=" and ".join(map(str, failed)))
    if target == "deeph":
        write_deeph(output_dir, data)
    else:
        write_legacy(output_dir, data)
    matrix = data.hamiltonian or data.overlap
    n_pairs = 0 if matrix is None else len(matrix)
    click.echo(f"{output_dir}: {len(data.structure)} atoms, {n_pairs} atom pairs, spin {data.spin.value}")
