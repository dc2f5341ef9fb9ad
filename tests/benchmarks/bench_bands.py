"""Cost of the electronic structure of twisted bilayers against the number of atoms.

    python tests/benchmarks/bench_bands.py [--sizes 5 7 10 14] [--work sparse scipy dense kpm] [--gamma]
        [--vectors N] [--precision single] [--json FILE]

`sparse`: 20 states around an energy at one k-point; `scipy`: the same by scipy.sparse.linalg.eigsh as it comes
(SuperLU); `dense`: all states by LAPACK; `kpm`: the whole density of states, and its difference from the exact one for
the smallest cell. H and S come from a synthetic rule with the size and sparsity of a real calculation: what is measured
is the cost. Each case runs in a process of its own, so that its peak memory is its own. One JSON line per case; threads
by OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.linalg as spla
from synthetic_bilayer import LAYERS, synthetic_hamiltonian

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.linalg.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.linalg.kpm import gaussian_sum, level_weights, random_moments
from aiida_deeph.engine.linalg.multifrontal import peak_bytes
from aiida_deeph.engine.linalg.sparse import SparseSolver
from aiida_deeph.engine.observables.fermi import fermi_by_moments
from aiida_deeph.engine.observables.fermi_sparse import fermi_by_inertia
from aiida_deeph.engine.observables.moments import SINGLE_LIMIT, MomentsSettings, pencil_at
from aiida_deeph.engine.observables.projection import projection
from aiida_deeph.engine.structures.layers import honeycomb
from aiida_deeph.engine.structures.twist import TwistConfig, twisted_layers
from aiida_deeph.engine.system import peak_memory_GiB

K = (1 / 3, 2 / 3, 0.0)
GAMMA = (0.0, 0.0, 0.0)
SIGMA = -3.0
NUM_BANDS = 20
BROADENING = 0.2
WINDOW = (-10.0, 5.0)


class Clock:
    """Wall and CPU seconds of named steps, those of worker processes included."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._start()

    def _start(self) -> None:
        self._wall, self._cpu = time.perf_counter(), sum(os.times()[:4])

    def lap(self, name: str) -> None:
        self.steps[f"{name}_wall_s"] = round(time.perf_counter() - self._wall, 2)
        self.steps[f"{name}_cpu_s"] = round(sum(os.times()[:4]) - self._cpu, 2)
        print(f"{name}: {self.steps[f'{name}_wall_s']} s, {peak_memory_GiB():.2f} GiB", file=sys.stderr, flush=True)
        self._start()


def sparse(matrices: BlochMatrices, k: tuple[float, ...], clock: Clock) -> dict[str, Any]:
    """20 states at one k-point by our own factorisation."""
    matrices.at(k)
    clock.lap("assemble")
    solver = SparseSolver(matrices)
    expected = peak_bytes(solver.fronts, complex_values=not matrices.is_real_at(k))
    clock.lap("analyse")
    shifted = solver.shifted(k, SIGMA)
    clock.lap("factorise")
    first = shifted.count - NUM_BANDS // 2
    states = shifted.bands(first, first + NUM_BANDS)
    clock.lap("lanczos")
    return {"expected_factor_gib": round(expected / 2**30, 2), "energies": states.energies.tolist()}


def scipy(matrices: BlochMatrices, k: tuple[float, ...], clock: Clock) -> dict[str, Any]:
    """The 20 states nearest to the energy by scipy with its default factorisation."""
    h, s = matrices.at(k)
    h, s = h.tocsc(), s.tocsc()
    clock.lap("assemble")
    energies = spla.eigsh(h, NUM_BANDS, s, SIGMA, return_eigenvectors=False)
    clock.lap("eigsh")
    return {"energies": np.sort(energies).tolist()}


def dense(matrices: BlochMatrices, k: tuple[float, ...], clock: Clock) -> dict[str, Any]:
    """All states by LAPACK."""
    energies = solve_dense(*matrices.at(k)).energies
    clock.lap("solve")
    nearest = np.sort(energies[np.argsort(np.abs(energies - SIGMA))[:NUM_BANDS]])
    return {"energies": nearest.tolist()}


def kpm(
    matrices: BlochMatrices,
    k: tuple[float, ...],
    clock: Clock,
    data: RealSpaceHamiltonian,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Moments of the density of states resolved by element and shell, and the Fermi level with exact counts."""
    vectors, point = options.vectors, np.array([k])
    electrons = 4.0 * (matrices.n_rows // 13)
    solver = SparseSolver(matrices, options.precision == "single" or None)
    groups = projection(data, shells=True)
    filling = electrons / (2 * matrices.n_rows)
    settings = MomentsSettings(BROADENING, WINDOW[1], filling, vectors, 0, options.precision, options.workers)
    pencil = pencil_at(solver, point[0], 0, settings)
    n, interval = pencil.n_moments, pencil.matrices[3]
    clock.lap("factorise")
    moments = random_moments(
        *pencil.matrices, n, vectors, groups.matrix, atom_of_row=matrices.atom_of_row, workers=options.workers
    )
    clock.lap("moments")
    levels, counts = interval.levels(n), level_weights(moments.total.T)
    memory = peak_memory_GiB()
    del pencil
    estimate = fermi_by_moments([(1.0, levels, counts)], electrons, 2, BROADENING)
    slope = max(estimate["dos_at_level"] / 2, 1.0)
    counted = fermi_by_inertia(
        solver, point, np.ones(1), electrons, 2, options.smearing, start=estimate["level"], slope=slope
    )
    fermi = counted.as_dict() | {"by_moments": estimate["level"], "uncertainty_by_moments": estimate["uncertainty"]}
    clock.lap("fermi")
    single = options.precision == "single" or (options.precision == "auto" and matrices.n_rows > SINGLE_LIMIT)
    scale = 0.5 if single else 1.0
    result = {"factor_gib": round(scale * factors_gib(solver), 2), "precision": "single" if single else "double"}
    result |= {"moments": n, "vectors": vectors, "width_eV": BROADENING}
    result |= {"pole_eV": interval.pole, "peak_before_fermi_gib": round(memory, 2)}
    result |= {"fermi": {name: fermi[name] for name in ("level", "gap", "by_moments", "uncertainty_by_moments")}}
    if matrices.n_rows < 5000:
        exact = solve_dense(*matrices.at(k)).energies
        grid = fermi["level"] + np.linspace(*WINDOW, 2001)
        ours = gaussian_sum(grid, levels, counts, BROADENING)
        theirs = gaussian_sum(grid, exact, np.ones(len(exact)), BROADENING)
        error = ours.std(axis=1, ddof=1) / np.sqrt(vectors)
        difference = np.abs(ours.mean(axis=1) - theirs)
        exact_level = (exact[int(electrons) // 2 - 1] + exact[int(electrons) // 2]) / 2
        result |= {
            "dos_rms_difference": float(np.sqrt((difference**2).mean())),
            "dos_rms_standard_error": float(np.sqrt((error**2).mean())),
            "dos_mean": float(theirs.mean()),
            "share_within_two_errors": float((difference < 2 * error + 1e-3 * theirs.max()).mean()),
            "exact_level": float(exact_level),
        }
    return result


def factors_gib(solver: SparseSolver) -> float:
    """Size of the factor of a real matrix in double precision, GiB."""
    return sum(f.n_own * (len(f.rows) - f.n_own / 2) for f in solver.fronts) * 8 / 2**30


WORK = {"sparse": sparse, "scipy": scipy, "dense": dense, "kpm": kpm}


def run_case(work: str, m: int, options: argparse.Namespace) -> None:
    """One case, in this process."""
    k = GAMMA if options.gamma else K
    layer = honeycomb("graphene")
    structure, _ = twisted_layers(layer, layer, TwistConfig(m=m, distance=LAYERS))
    data = synthetic_hamiltonian(structure)
    clock = Clock()
    matrices = bloch_matrices(data)
    # The matrices live on in the maps.
    data = replace(data, hamiltonian=None, overlap=None)
    clock.lap("prepare")
    result = {"work": work, "atoms": len(structure), "orbitals": matrices.n_rows, "nonzeros": len(matrices.indices)}
    result |= {"k": "Gamma" if options.gamma else "K", "threads": os.environ.get("OMP_NUM_THREADS")}
    found = kpm(matrices, k, clock, data, options) if work == "kpm" else WORK[work](matrices, k, clock)
    total = {
        kind: round(sum(v for name, v in clock.steps.items() if name.endswith(kind)), 1) for kind in ("wall_s", "cpu_s")
    }
    print(
        json.dumps(result | clock.steps | total | {"peak_memory_GiB": round(peak_memory_GiB(), 2)} | found), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 7, 10])
    parser.add_argument("--work", nargs="+", choices=WORK, default=["sparse"])
    parser.add_argument("--gamma", action="store_true", help="at Gamma, where everything is real, instead of K")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the random vectors")
    parser.add_argument("--vectors", type=int, default=8, help="random vectors of kpm")
    parser.add_argument("--precision", choices=("auto", "single", "double"), default="auto", help="of its moments")
    parser.add_argument("--smearing", type=float, default=0.02585, help="of its Fermi level, eV")
    parser.add_argument("--json", type=Path, help="append the lines to this file, too")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for m in options.sizes:
        energies = None
        for work in options.work:
            if options.here:
                run_case(work, m, options)
                continue
            command = [sys.executable, __file__, "--here", "--sizes", str(m), "--work", work]
            for name in ("workers", "vectors", "precision", "smearing"):
                command += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run([*command, *["--gamma"] * options.gamma], stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(json.dumps({"work": work, "m": m, "failed": done.returncode}), flush=True)
                continue
            result = json.loads(done.stdout)
            found = result.pop("energies", None)
            if found is not None and energies is not None:
                # Both take the states around the same energy, but not as many on each side: compare the common ones.
                low, high = max(found[0], energies[0]) - 1e-6, min(found[-1], energies[-1]) + 1e-6
                common = [e for e in found if low < e < high]
                result["largest_difference_eV"] = max(min(abs(e - x) for x in energies) for e in common)
            energies = energies or found
            print(json.dumps(result), flush=True)
            if options.json is not None:
                with options.json.open("a") as lines:
                    lines.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
