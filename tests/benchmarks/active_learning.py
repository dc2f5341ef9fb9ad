"""Labels that active learning needs for a test error, against labels drawn by chance.

    OMP_NUM_THREADS=1 python tests/benchmarks/active_learning.py [water] [bilayer] [--seeds 5] [--rules coverage]

water: a pool of which four fifths lie near equilibrium and one fifth far from it (drawn here by PySCF), error on far
molecules that are not in the pool. bilayer: a pool drawn from one recipe. Labels are there already; every round fits
the closed form anew. Data lie in ../shared/fixtures; the results of one run stand in active_learning.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from closed_form import fitted, folders, from_pyscf, molecules

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_cutoffs
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig
from aiida_deeph.engine.nn.network import describe_network
from aiida_deeph.engine.prediction.select import choose

Labels = Sequence[RealSpaceHamiltonian]


def far_waters(n: int, seed: int = 5) -> list[RealSpaceHamiltonian]:
    """PBE/def2-SVP of stretched and bent molecules, as fixtures/qhnet/water_pbe: O-H 0.8 to 1.6 Angstrom, 70 to 150
    degrees, randomly rotated."""
    from pyscf import dft, gto
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    positions, focks = [], []
    while len(positions) < n:
        lengths, angle = rng.uniform(0.8, 1.6, 2), np.radians(rng.uniform(70, 150))
        ends = [[lengths[0], 0, 0], [lengths[1] * np.cos(angle), lengths[1] * np.sin(angle), 0]]
        place = Rotation.random(random_state=rng).apply([[0, 0, 0], *ends])
        atoms = list(zip("OHH", place, strict=True))
        run = dft.RKS(gto.M(atom=atoms, basis="def2-svp", verbose=0), xc="pbe").run(conv_tol=1e-10)
        if run.converged:
            positions.append(place)
            focks.append(run.get_fock())
    values = {"atomic_numbers": [8, 1, 1], "positions_angstrom": positions, "fock_hartree": focks}
    return from_pyscf(values)


def curve(pool: Labels, test: Labels, rule: str, seed: int, first: int, batch: int, budget: int, **config: Any):
    """Labels and test error (MAE, eV) of each round; expected and true error of each test structure at the end."""
    rng = np.random.default_rng(seed)
    known = [int(n) for n in rng.permutation(len(pool))[:first]]
    counts, errors, seconds = [], [], 0.0
    while True:
        labels = [pool[n] for n in known]
        network, graph_of, _ = fitted(labels, **config)
        graphs = [graph_of(one) for one in test]
        wrong = [float((network(graph) - graph.label).abs().mean()) for graph in graphs]
        counts.append(len(known))
        errors.append(float(np.mean(wrong)))
        if len(known) >= budget:
            return counts, errors, seconds
        cutoffs: dict[str, float] = {}
        for one in labels:
            for key, value in pair_cutoffs(one.structure, one.hamiltonian.atom_pairs).items():
                cutoffs[key] = max(value, cutoffs.get(key, 0.0))
        description = describe_network(ClosedFormConfig(**config), pool[0].basis, pool[0].spin, cutoffs)
        start = time.process_time()
        found = choose(
            network,
            description,
            {str(n): one.structure for n, one in enumerate(pool)},
            {},
            rule=rule,
            count=min(batch, budget - len(known)),
            seed=1000 * seed + len(known),
            known=tuple(str(n) for n in known),
        )
        seconds = max(seconds, time.process_time() - start)
        known += [int(name) for name in found["selected"]]


def needed(counts: Sequence[int], errors: Sequence[float], level: float) -> float:
    """Labels at which an error falls below a level for the first time, between rounds by the logarithm; inf: never."""
    for n, error in enumerate(errors):
        if error <= level:
            if n == 0:
                return float(counts[0])
            a, b = np.log(errors[n - 1]), np.log(error)
            return float(counts[n - 1] + (counts[n] - counts[n - 1]) * (a - np.log(level)) / (a - b))
    return float("inf")


def main() -> None:
    """Print a table for each pool."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pools", nargs="*", default=["water", "bilayer"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rules", nargs="*", default=["coverage"])
    given = parser.parse_args()
    for name in given.pools:
        curves: dict[str, list[tuple[list[int], list[float]]]] = {}
        if name == "water":
            far = far_waters(40)
            near = molecules("water_pbe.npz")[:80]
        for rule in ("random", *given.rules):
            for seed in range(given.seeds):
                if name == "water":
                    pool, test, sizes = [*near, *far[:20]], far[20:], (4, 4, 40 if rule != "random" else 80)
                    counts, errors, seconds = curve(pool, test, rule, seed, *sizes, body_order=3)
                else:
                    order = 100 + np.random.default_rng(seed).permutation(36)
                    pool, test = folders("bilayer-graphene", order[:30]), folders("bilayer-graphene", order[30:])
                    counts, errors, seconds = curve(pool, test, rule, seed, 2, 2, 12, detail="smooth")
                curves.setdefault(rule, []).append((counts, errors))
                text = " ".join(f"{n}:{1e3 * error:.2f}" for n, error in zip(counts, errors, strict=True))
                print(
                    f"{name} {rule} seed {seed}, choice at most {seconds:.1f} CPU s, labels:MAE meV {text}", flush=True
                )
        mean = np.exp(np.mean([np.log(errors) for _, errors in curves["random"]], axis=0))
        counts = curves["random"][0][0]
        print(
            f"\n| {name}: labels by chance | MAE meV | " + " | ".join(f"{rule}, labels (share)" for rule in given.rules)
        )
        for n, level in list(zip(counts, mean, strict=True))[1:]:
            cells = []
            for rule in given.rules:
                own = np.exp(np.mean([np.log(errors) for _, errors in curves[rule]], axis=0))
                labels = needed(curves[rule][0][0], own, level)
                cells.append(f"{labels:.1f} ({labels / n:.2f})")
            print(f"| {n} | {1e3 * level:.2f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
