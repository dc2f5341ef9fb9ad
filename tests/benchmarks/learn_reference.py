"""Training from scratch beside the reference code: the same initial weights, members, order, optimiser and loss.

    python tests/benchmarks/learn_reference.py CHECKOUT_OF_DeepH-E3 FOLDER_OF_DeepH_FOLDERS [--epochs 4] [--train 24]

Both sides run one after the other in this process, Adam at a constant rate of 2e-3, one structure per step. Printed is
the validation loss (mean |difference|^2 over all entries, eV^2) after each epoch and the CPU seconds of training.
Without spin only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_reference import import_reference_code

from aiida_deeph.engine.cli.bench import read_members
from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.domain.neighbours import pair_cutoffs
from aiida_deeph.engine.graph.build import attach_labels
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.config import NetworkConfig
from aiida_deeph.engine.nn.reference import export_reference
from aiida_deeph.engine.nn.reference_files import read_arguments
from aiida_deeph.engine.nn.registry import build_model_graph, build_network, describe_network
from aiida_deeph.engine.nn.storage import save_model

OPENMX = {0: [0], 1: [1, 2, 0], 2: [2, 4, 0, 3, 1], 3: [6, 4, 2, 0, 1, 3, 5]}
"""Place of each m = -l..l in the orbital order of OpenMX, in which the reference gives its blocks."""


def reference_index(layout: EntryLayout, species: np.ndarray, pairs: np.ndarray) -> torch.Tensor:
    """Place of every entry in the reference's output (n_pairs, n_columns), whose targets follow one another."""
    tables = {}
    symbols = layout.basis.elements
    for a in symbols:
        for b in symbols:
            table = np.full((layout.basis.n_orbitals(a), layout.basis.n_orbitals(b)), -1)
            start = 0
            for target in layout.targets:
                rows, columns = OPENMX[target.l1], OPENMX[target.l2]
                if (a, b) in target.shells:
                    i, j = target.shells[a, b]
                    row = sum(2 * l + 1 for l in layout.basis.shells[a][:i])
                    column = sum(2 * l + 1 for l in layout.basis.shells[b][:j])
                    places = start + np.array(rows)[:, None] * len(columns) + np.array(columns)
                    table[row : row + len(rows), column : column + len(columns)] = places
                start += len(rows) * len(columns)
            tables[a, b] = table.ravel()
    n_columns = sum((2 * target.l1 + 1) * (2 * target.l2 + 1) for target in layout.targets)
    index = [k * n_columns + tables[symbols[species[i]], symbols[species[j]]] for k, (*_, i, j) in enumerate(pairs)]
    return torch.from_numpy(np.concatenate(index))


def learn(
    predict: Callable[[Any], torch.Tensor], parameters: list[torch.nn.Parameter], sets: list[list[Any]], epochs: int
) -> tuple[list[float], float]:
    """Validation losses and CPU seconds of training.

    :param sets: training and validation graphs, each with `label`.
    """
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    losses, seconds = [], 0.0
    for _ in range(epochs):
        start = time.process_time()
        for graph in sets[0]:
            optimizer.zero_grad()
            (predict(graph) - graph.label).square().mean().backward()
            optimizer.step()
        seconds += time.process_time() - start
        with torch.no_grad():
            total = [((predict(graph) - graph.label).square().sum(), len(graph.label)) for graph in sets[1]]
        losses.append(float(sum(value for value, _ in total) / sum(n for _, n in total)))
    return losses, seconds


def main() -> None:
    """Print both histories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--train", type=int, default=24)
    parser.add_argument("--validation", type=int, default=6)
    parser.add_argument("--config", type=Path, help="network configuration, default the published one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    members = read_members(arguments.dataset)[: arguments.train + arguments.validation]
    basis = members[0].basis
    cutoffs: dict[str, float] = {}
    for data in members:
        basis = basis.union(data.basis)
        for key, value in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(cutoffs.get(key, 0.0), value)
    config = NetworkConfig() if arguments.config is None else load_config(NetworkConfig, arguments.config)
    description = describe_network(config, basis, members[0].spin, cutoffs)
    # The reference runs with the installed e3nn, whose normalisation is not that of the published models.
    architecture = {**description.architecture, "path_normalization": "element"}
    description = description.model_copy(update={"architecture": architecture})
    torch.manual_seed(0)
    network = build_network(description)
    graphs = [
        attach_labels(build_model_graph(network, m.structure, m.hamiltonian.atom_pairs), m.hamiltonian) for m in members
    ]
    sets = [graphs[: arguments.train], graphs[arguments.train :]]
    with tempfile.TemporaryDirectory() as scratch:
        save_model(Path(scratch) / "ours", network, description)
        export_reference(Path(scratch) / "ours", Path(scratch) / "reference", e3nn="0.5")
        warnings.simplefilter("ignore")
        Net, TensorDecomposition = import_reference_code(arguments.checkout)
        theirs = Net(**read_arguments(Path(scratch) / "reference" / "src" / "build_model.py"))
        state = torch.load(Path(scratch) / "reference" / "best_model.pkl", weights_only=True)["state_dict"]
        theirs.load_state_dict(state)
    blocks = [(target.l1, target.l2) for target in network.layout.targets]
    head = TensorDecomposition(theirs.irreps_out_edge, blocks, default_dtype_torch=torch.float32)
    for graph, data in zip(graphs, members, strict=True):
        pairs = data.hamiltonian.atom_pairs
        vectors = torch.from_numpy(data.structure.pair_vectors(pairs)).float()
        graph.x, graph.batch = graph.species, torch.zeros_like(graph.species)
        graph.theirs = {
            "x": graph.species,
            "batch": torch.zeros_like(graph.species),
            "edge_index": torch.from_numpy(pairs[:, 3:].T.copy()),
            "edge_attr": torch.cat([vectors.norm(dim=1, keepdim=True), vectors], dim=1),
            "index": reference_index(network.layout, graph.species.numpy(), pairs),
        }

    class Graph(dict):  # type: ignore[type-arg]
        __getattr__ = dict.__getitem__

    def reference(graph: Any) -> torch.Tensor:
        inputs = Graph(graph.theirs)
        return head.get_H(theirs(inputs)[1]).reshape(-1)[inputs["index"]]

    results = {
        "ours": learn(network, list(network.parameters()), sets, arguments.epochs),
        "reference": learn(reference, list(theirs.parameters()), sets, arguments.epochs),
    }
    print("| epoch | reference | ours | ratio |\n|---|---|---|---|")
    for epoch, (a, b) in enumerate(zip(results["reference"][0], results["ours"][0], strict=True), 1):
        print(f"| {epoch} | {a:.6g} | {b:.6g} | {b / a:.4f} |")
    a, b = results["reference"][1], results["ours"][1]
    print(f"CPU seconds of training: reference {a:.1f}, ours {b:.1f}, ratio {a / b:.1f}")


if __name__ == "__main__":
    main()
