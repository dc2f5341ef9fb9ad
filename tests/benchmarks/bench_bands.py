"""Cost of a few states around the Fermi level of twisted bilayers against the number of atoms.

    python tests/benchmarks/bench_bands.py [--sizes 5 7 10 14] [--gamma] [--scipy] [--dense]

H and S come from a synthetic rule with the size and sparsity of a real calculation: what is measured is the cost.
One JSON line per case; run it with nothing else on the machine, threads by OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import numpy as np
import scipy.sparse.linalg as spla
from synthetic_bilayer import LAYERS, synthetic_hamiltonian

from aiida_deeph.engine.bands.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.bands.dense import solve_dense
from aiida_deeph.engine.bands.memory import peak_memory_gib
from aiida_deeph.engine.bands.multifrontal import peak_bytes
from aiida_deeph.engine.bands.sparse import SparseSolver
from aiida_deeph.engine.structures.honeycombs import honeycomb
from aiida_deeph.engine.structures.twist import TwistConfig, twisted_layers

K = (1 / 3, 2 / 3, 0.0)
SIGMA = -3.0
NUM_BANDS = 20


class Clock:
    """Wall and CPU seconds of named steps."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._start()

    def _start(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        self.steps[f"{name}_wall_s"] = round(time.perf_counter() - self._wall, 2)
        self.steps[f"{name}_cpu_s"] = round(time.process_time() - self._cpu, 2)
        self._start()


def measure(m: int, k: tuple[float, ...]) -> tuple[dict[str, Any], BlochMatrices, np.ndarray]:
    """20 states at one k-point."""
    layer = honeycomb("graphene")
    structure, _ = twisted_layers(layer, layer, TwistConfig(m=m, distance=LAYERS))
    data = synthetic_hamiltonian(structure)
    clock = Clock()
    matrices = bloch_matrices(data)
    clock.lap("prepare")
    matrices.at(k)
    clock.lap("assemble")
    solver = SparseSolver(matrices)
    expected = peak_bytes(solver.fronts, complex_values=not matrices.is_real_at(k))
    clock.lap("analyse")
    states = solver.around(k, SIGMA, NUM_BANDS)
    clock.lap("solve")
    result = {"atoms": len(structure), "orbitals": matrices.n_rows, "nonzeros": len(matrices.indices)}
    result |= {"k": "Gamma" if not any(k) else "K", "expected_factor_gib": round(expected / 2**30, 2), **clock.steps}
    result |= {"first_band": states.first_band, "peak_memory_gib": round(peak_memory_gib(), 2)}
    return result, matrices, states.energies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 7, 10])
    parser.add_argument("--gamma", action="store_true", help="at Gamma, where everything is real, instead of K")
    parser.add_argument("--scipy", action="store_true", help="compare with scipy.sparse.linalg.eigsh as it comes")
    parser.add_argument("--dense", action="store_true", help="compare with dense diagonalisation")
    options = parser.parse_args()
    k = (0.0, 0.0, 0.0) if options.gamma else K
    for m in options.sizes:
        result, matrices, energies = measure(m, k)
        print(json.dumps(result | {"threads": os.environ.get("OMP_NUM_THREADS")}), flush=True)
        h, s = matrices.at(k)
        for name, wanted in (("scipy_eigsh", options.scipy), ("dense", options.dense)):
            if not wanted:
                continue
            clock = Clock()
            if name == "dense":
                found = solve_dense(h, s).energies[result["first_band"] :][:NUM_BANDS]
            else:
                found = np.sort(spla.eigsh(h.tocsc(), NUM_BANDS, s.tocsc(), SIGMA, return_eigenvectors=False))
            clock.lap(name)
            low, high = max(found[0], energies[0]) - 1e-6, min(found[-1], energies[-1]) + 1e-6
            ours, theirs = (e[(e > low) & (e < high)] for e in (energies, found))
            same = len(ours) == len(theirs)
            difference = float(np.abs(ours - theirs).max()) if same else None
            print(json.dumps({**clock.steps, "largest_difference_eV": difference, "states": len(ours)}), flush=True)


if __name__ == "__main__":
    main()
