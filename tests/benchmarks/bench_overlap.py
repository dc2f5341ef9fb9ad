"""Time of S(R) against the number of atoms: `python tests/benchmarks/bench_overlap.py [--basis SPEC] [--atoms N]`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.overlap.basis import load_basis
from aiida_deeph.engine.overlap.gaussian import overlap_gaussian, overlap_ranges


def graphene(n_atoms: int) -> Structure:
    """A ribbon-like rectangular supercell with small random displacements."""
    nx, ny, a = max(n_atoms // 40, 1), 10, 2.46
    motif = np.array([[0, 0], [0, 1 / 3], [0.5, 0.5], [0.5, 5 / 6]])
    cells = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    flat = (cells + motif).reshape(-1, 2) * [a, a * np.sqrt(3)]
    positions = np.column_stack([flat, np.zeros(len(flat))])
    positions += np.random.default_rng(0).normal(0, 0.03, positions.shape)
    return Structure(
        ("C",) * len(positions), positions, np.diag([nx * a, ny * a * np.sqrt(3), 20.0]), (True, True, False)
    )


def main() -> None:
    """Print one line per size; CPU seconds of this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--basis", default="pyscf:gth-dzvp")
    parser.add_argument("--atoms", type=int, nargs="+", default=[200, 500, 1000, 2000, 4000])
    parser.add_argument("--threshold", type=float, default=1e-8)
    arguments = parser.parse_args()
    basis = load_basis(arguments.basis, ("C",), Path())
    print(f"basis {arguments.basis}, shells {basis.orbital_basis.shells['C']}, threshold {arguments.threshold}")
    for n_atoms in arguments.atoms:
        structure = graphene(n_atoms)
        start = time.process_time()
        pairs = pairs_within(structure, overlap_ranges(basis, arguments.threshold))
        middle = time.process_time()
        overlap_gaussian(structure, basis, pairs)
        end = time.process_time()
        print(
            f"{len(structure):6d} atoms {len(pairs):8d} pairs  neighbours {middle - start:6.2f} s  "
            f"integrals {end - middle:6.2f} s  {1e6 * (end - middle) / len(pairs):6.1f} us per pair"
        )


if __name__ == "__main__":
    main()
