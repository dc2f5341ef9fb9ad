"""The closed-form Hamiltonian measured: fit, errors on unseen cells, what it expects of itself, cost by elements.

    OMP_NUM_THREADS=1 python tests/benchmarks/closed_form.py [bilayer] [bismuthene] [water] [formaldehyde] [elements]

Data lie in ../shared/fixtures; the results of one run stand in closed_form.md.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_cutoffs, pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.graph.build import HamiltonianGraph, attach_labels
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig
from aiida_deeph.engine.nn.closed_form.fit import label_columns
from aiida_deeph.engine.nn.closed_form.network import ClosedForm
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.units import HARTREE_TO_EV

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
SYMBOLS = {1: "H", 6: "C", 8: "O"}
SHELLS = {"H": (0, 0, 1), "C": (0, 0, 0, 1, 1, 2), "O": (0, 0, 0, 1, 1, 2)}  # def2-SVP
HEADER = (
    "| data | fit, CPU s | MAE meV | expected | RMS | largest | on site | bonds | < 1 sigma | < 2 sigma | outside |"
)


def folders(name: str, numbers: Sequence[int]) -> list[RealSpaceHamiltonian]:
    """Members of a fixture of DeepH folders."""
    return [read_deeph(FIXTURES / name / f"{n:04d}") for n in numbers]


def molecules(file: str) -> list[RealSpaceHamiltonian]:
    """Molecules of fixtures/qhnet: from PySCF's order (p as x, y, z) to m = -l..l, Hartree to eV."""
    return from_pyscf(np.load(FIXTURES / "qhnet" / file))


def from_pyscf(data: Mapping[str, Any]) -> list[RealSpaceHamiltonian]:
    """The same of `atomic_numbers`, `positions_angstrom`, `fock_hartree`."""
    symbols = tuple(SYMBOLS[int(n)] for n in data["atomic_numbers"])
    basis = OrbitalBasis({symbol: SHELLS[symbol] for symbol in sorted(set(symbols))})
    order: list[int] = []
    for symbol in symbols:
        for l in SHELLS[symbol]:
            order += [len(order) + m for m in ([1, 2, 0] if l == 1 else range(2 * l + 1))]
    n, rows = len(symbols), basis.orbitals_per_atom(symbols)
    pairs = np.array([[0, 0, 0, i, j] for i in range(n) for j in range(n)])
    first = np.concatenate([[0], np.cumsum(rows)])
    result = []
    for positions, fock in zip(data["positions_angstrom"], data["fock_hartree"], strict=True):
        matrix = HARTREE_TO_EV * fock[np.ix_(order, order)]
        blocks = [matrix[first[i] : first[i + 1], first[j] : first[j + 1]].ravel() for i in range(n) for j in range(n)]
        structure = Structure(symbols, positions, np.eye(3) * 30, (False,) * 3)
        hamiltonian = BlockSparseMatrix.from_pairs(pairs, rows, np.concatenate(blocks))
        result.append(RealSpaceHamiltonian(structure, basis, SpinMode.NONE, hamiltonian, None))
    return result


def fitted(
    data: Sequence[RealSpaceHamiltonian], **config: Any
) -> tuple[ClosedForm, Callable[[RealSpaceHamiltonian], HamiltonianGraph], float]:
    """A model of some structures, what makes graphs for it, and the CPU seconds of its fit."""
    cutoffs: dict[str, float] = {}
    for one in data:
        for key, value in pair_cutoffs(one.structure, one.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(value, cutoffs.get(key, 0.0))
    description = describe_network(ClosedFormConfig(**config), data[0].basis, data[0].spin, cutoffs)
    network = build_network(description).double()
    assert isinstance(network, ClosedForm)

    def graph_of(one: RealSpaceHamiltonian) -> HamiltonianGraph:
        matrix = one.hamiltonian.sorted()
        graph = build_model_graph(network, one.structure, matrix.atom_pairs, dtype=torch.float64, wigner=False)
        return attach_labels(graph, matrix, torch.float64)

    graphs = [graph_of(one) for one in data]
    start = time.process_time()
    network.fit(graphs)
    return network, graph_of, time.process_time() - start


def row(name: str, network: ClosedForm, graphs: Sequence[HamiltonianGraph], seconds: float | None = None) -> str:
    """A line of the table."""
    errors: dict[str, list[torch.Tensor]] = {key: [] for key in ("site", "bonds", "z", "expected", "outside")}
    model = network.model
    for graph in graphs:
        geometry = model.geometry(graph)
        around = model.around(graph, *geometry)
        labels = label_columns(model, graph)
        mask = torch.zeros(labels.numel(), dtype=torch.bool)
        mask[graph.entry_index] = True
        mask = mask.view(labels.shape)
        error = (model.columns(graph, *geometry, around) - labels).abs()
        leverage, variance = network.posterior.of_edges(model, graph, *geometry, around)
        deviation = torch.empty_like(error)
        for n in range(variance.shape[1]):
            deviation[:, model.targets.columns_of(n)] = variance[:, n : n + 1].sqrt()
        site = torch.zeros(len(error), dtype=torch.bool)
        site[graph.loops] = True
        expected = network.posterior.expected_error(model, graph, variance)
        errors["site"].append(error[site][mask[site]])
        errors["bonds"].append(error[~site][mask[~site]])
        errors["z"].append((error / deviation)[mask])
        errors["expected"].append(expected.repeat_interleave(mask.sum(dim=1)))
        errors["outside"].append((leverage > 1).double())
    joined = {key: torch.cat(parts) for key, parts in errors.items()}
    everything = torch.cat([joined["site"], joined["bonds"]])
    values = [
        "" if seconds is None else f"{seconds:.1f}",
        f"{1e3 * everything.mean():.3f}",
        f"{1e3 * joined['expected'].mean():.3f}",
        f"{1e3 * everything.square().mean().sqrt():.2f}",
        f"{1e3 * everything.max():.0f}",
        f"{1e3 * joined['site'].mean():.2f}",
        f"{1e3 * joined['bonds'].mean():.3f}",
        f"{100 * (joined['z'] < 1).double().mean():.0f} %",
        f"{100 * (joined['z'] < 2).double().mean():.0f} %",
        f"{100 * joined['outside'].mean():.1f} %",
    ]
    return f"| {name} | " + " | ".join(values) + " |"


def bilayer() -> Iterator[str]:
    """Cells, twisted bilayers and strained ones, from 6 and 24 cells."""
    data = folders("bilayer-graphene", range(100, 136))
    twisted = read_deeph(FIXTURES / "bilayer-graphene" / "twisted_28")
    far = folders("bilayer-far", range(600, 603))
    for n in (6, 24):
        network, graph_of, seconds = fitted(data[:n])
        yield row(f"bilayer graphene, {n} cells -> 12 unseen", network, [graph_of(d) for d in data[24:]], seconds)
        yield row("the same -> twisted, 28 atoms", network, [graph_of(twisted)])
        yield row("the same -> strained (bilayer-far)", network, [graph_of(d) for d in far])


def bismuthene() -> Iterator[str]:
    """Spin-orbit coupling: two-atom cells, then eight atoms that move independently."""
    data = folders("openmx-bi-soc", range(300, 322))
    network, graph_of, seconds = fitted(data[:18])
    yield row("bismuthene, SOC, 18 cells -> 4 unseen", network, [graph_of(d) for d in data[18:]], seconds)
    large = read_deeph(FIXTURES / "openmx-bi-soc" / "2x2_0390")
    yield row("the same -> 2 x 2 cell", network, [graph_of(large)])


def water() -> Iterator[str]:
    """Learning curve of water PBE; 1 meV is 36.75e-6 Hartree."""
    yield from _curve("water PBE", molecules("water_pbe.npz"), (4, 8, 16, 30, 60), 60)


def formaldehyde() -> Iterator[str]:
    """Learning curve of formaldehyde B3LYP."""
    yield from _curve("formaldehyde B3LYP", molecules("formaldehyde_b3lyp.npz"), (4, 8, 16, 30), 30)


def _curve(name: str, data: Sequence[RealSpaceHamiltonian], sizes: Sequence[int], first_test: int) -> Iterator[str]:
    for n in sizes:
        network, graph_of, seconds = fitted(data[:n])
        yield row(
            f"{name}, {n} -> {len(data) - first_test}", network, [graph_of(d) for d in data[first_test:]], seconds
        )


def elements() -> Iterator[str]:
    """CPU seconds and memory of a fit to random alloys, whose labels are noise: cost alone, errors mean nothing."""
    yield "| elements | features, m = 0 | l | normal equations, MiB | fit, CPU s | memory of the process, GiB |"
    yield "|---|---|---|---|---|---|"
    names = ("C", "N", "O", "F", "Si", "P", "S", "Cl")
    for count in (1, 2, 4, 8):
        rng = np.random.default_rng(count)
        basis = OrbitalBasis({symbol: (0, 0, 1, 1, 2) for symbol in names[:count]})
        data = []
        for _ in range(16):
            grid = np.array(list(np.ndindex(2, 2, 4))) * np.array([2.4, 2.4, 2.4])
            positions = grid + rng.uniform(-0.3, 0.3, grid.shape)
            symbols = tuple(names[n % count] for n in rng.permutation(16))
            structure = Structure(symbols, positions, np.diag([4.8, 4.8, 9.6]))
            pairs = pairs_within(structure, 5.0)
            rows = basis.orbitals_per_atom(symbols)
            matrix = BlockSparseMatrix.from_pairs(pairs, rows)
            noise = matrix.with_entries(rng.normal(size=len(matrix.entries)))
            data.append(RealSpaceHamiltonian(structure, basis, SpinMode.NONE, noise.hermitian_part(), None))
        network, _, seconds = fitted(data)
        model = network.model
        sizes = [model.n_bond_features(*key) for _, key in model.bond_systems()]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        mebibytes = sum(8 * n * n for n in sizes) / 2**20
        lmax = model.architecture.lmax_environment
        yield f"| {count} | {max(sizes)} | {lmax} | {mebibytes:.0f} | {seconds:.1f} | {memory:.1f} |"


TABLES = {"bilayer": bilayer, "bismuthene": bismuthene, "water": water, "formaldehyde": formaldehyde}


def main(names: Sequence[str]) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    chosen = [TABLES[name] for name in names if name in TABLES] if names else list(TABLES.values())
    if chosen:
        print(HEADER + "\n" + "|---" * 11 + "|")
    for table in chosen:
        for line in table():
            print(line, flush=True)
    if not names or "elements" in names:
        for line in elements():
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
