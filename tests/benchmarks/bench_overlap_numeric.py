"""Time and memory of `deeph-engine overlap` with numerical orbitals, up to the written folder, against the size.

python tests/benchmarks/bench_overlap_numeric.py FOLDER [--code siesta] [--structure POSCAR] [--repeats 8 16 ..]

Bilayer graphene of 4 n^2 atoms for each of the repeats, and a structure file if one is given. Each size is a run of the
command in a process of its own, from its start to the last file. Prints rows of a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.io.structure import write_structure


def bilayer(n: int, a: float = 2.46, distance: float = 3.35) -> Structure:
    """AB-stacked graphene with small random displacements, 4 n^2 atoms."""
    cell = np.array([[a, 0.0, 0.0], [-a / 2, a * np.sqrt(3) / 2, 0.0], [0.0, 0.0, 23.0]])
    motif = np.array([[0, 0, 0], [1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, distance / 23], [2 / 3, 1 / 3, distance / 23]])
    cells = np.stack(np.meshgrid(np.arange(n), np.arange(n), [0], indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = (cells + motif).reshape(-1, 3) @ cell
    positions += np.random.default_rng(0).normal(0, 0.02, positions.shape)
    return Structure(("C",) * len(positions), positions, cell * [[n], [n], [1]])


def measured(structure: Path, basis: str, orbitals: str, output: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak memory in GiB of one run of the command."""
    program = Path(sys.executable).with_name("deeph-engine")
    options = {"--basis": basis, "--structure": structure, "--output": output}
    if orbitals:
        options["--orbitals"] = orbitals
    start = time.perf_counter()
    process = subprocess.Popen([program, "overlap", *(str(word) for pair in options.items() for word in pair)])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"the command failed with status {status}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with C6.0.pao, C.ion.xml or C_*.orb")
    parser.add_argument("--code", default="openmx", choices=["openmx", "siesta", "abacus"])
    parser.add_argument("--structure", type=Path)
    parser.add_argument("--orbitals", help="default: C=C6.0-s2p2d1 for OpenMX, the only file otherwise")
    parser.add_argument("--repeats", type=int, nargs="*", default=[6, 13, 26, 53])
    arguments = parser.parse_args()
    basis = f"{arguments.code}:{arguments.folder.resolve()}"
    orbitals = arguments.orbitals or ("C=C6.0-s2p2d1" if arguments.code == "openmx" else "")
    print("| atoms | pairs | wall s | CPU s | CPU us per pair | peak GiB | overlap.h5 GB |", flush=True)
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for n in arguments.repeats:
            files.append(Path(scratch) / f"{n}.xyz")
            write_structure(files[-1], bilayer(n))
        for file in [*files, *([arguments.structure] if arguments.structure else [])]:
            output = Path(scratch) / "output"
            seconds, cpu, memory = measured(file, basis, orbitals, output)
            size = (output / "overlap.h5").stat().st_size
            with h5py.File(output / "overlap.h5") as matrix:
                pairs, atoms = len(matrix["atom_pairs"]), int(matrix["atom_pairs"][:, 3].max()) + 1
            print(
                f"| {atoms} | {pairs} | {seconds:.1f} | {cpu:.1f} | {1e6 * cpu / pairs:.1f} | {memory:.2f} "
                f"| {size / 1e9:.3f} |",
                flush=True,
            )
            for path in output.iterdir():
                path.unlink()


if __name__ == "__main__":
    main()
