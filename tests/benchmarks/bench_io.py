"""Time the life of a large DeepH folder: neighbours, reorder, write, read, convert. Prints JSON.

python tests/benchmarks/bench_io.py [--pairs 1000000] [--shells 0,0,1,1,2] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.convention import DEEPH_LEGACY
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph


def layers(n_pairs: int, cutoff: float = 6.35) -> Structure:
    """Two graphene sheets with about that many pairs within the cutoff."""
    a = 2.46
    density = 2 / (a * a * np.sqrt(3) / 2)
    n_per_atom = density * np.pi * (cutoff**2 + cutoff**2 - 3.35**2)
    n = max(1, round(np.sqrt(n_pairs / n_per_atom / 4)))
    unit = np.array([[a, 0], [-a / 2, a * np.sqrt(3) / 2]])
    cells = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    plane = (cells + np.array([[0, 0], [1 / 3, 2 / 3]])).reshape(-1, 2) @ unit
    positions = np.concatenate([np.c_[plane, np.full(len(plane), z)] for z in (9.8, 13.15)])
    cell = np.zeros((3, 3))
    cell[:2, :2], cell[2, 2] = n * unit, 23.0
    return Structure(("C",) * len(positions), positions, cell)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--shells", default="0,0,1,1,2")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    basis = OrbitalBasis({"C": tuple(int(l) for l in arguments.shells.split(","))})
    seconds: dict[str, dict[str, float]] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        seconds[name] = {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)}
        return result

    structure = layers(arguments.pairs)
    pairs = timed("neighbours", lambda: pairs_within(structure, 6.35))
    H = BlockSparseMatrix.from_pairs(pairs, basis.orbitals_per_atom(structure.symbols))
    H.entries[:] = np.random.default_rng(0).standard_normal(len(H.entries))
    data = RealSpaceHamiltonian(structure, basis, hamiltonian=H)
    data = timed("reorder", lambda: from_convention(data, DEEPH_LEGACY))
    timed("adjoint", data.hamiltonian.adjoint)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        timed("write", lambda: write_deeph(Path(folder) / "a", data))
        data = timed("read", lambda: read_deeph(Path(folder) / "a"))
        timed("convert", lambda: write_deeph(Path(folder) / "b", read_deeph(Path(folder) / "a")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report = {"atoms": len(structure), "pairs": len(pairs), "entries": len(data.hamiltonian.entries), **seconds}
    print(json.dumps({**report, "peak_rss_gib": round(peak, 2)}, indent=2))


if __name__ == "__main__":
    main()
