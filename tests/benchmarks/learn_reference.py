"""Training from scratch beside the reference code: the same initial weights, members, order, optimiser and loss.

    python tests/benchmarks/learn_reference.py CHECKOUT_OF_DeepH-E3 FOLDER_OF_DeepH_FOLDERS [--epochs 60] [--seeds 3]

Both sides run in this process in turns, an epoch each, so that whatever else the machine does strikes both: Adam, one
structure per step, a cosine down to a hundredth of the rate after five epochs of warm-up. Weights and order follow from
the seed; the split is that of the first seed. Printed are, for each seed, the validation loss (mean |difference|^2 over
all entries, eV^2) at the end, and the CPU seconds of training until both sides have reached the larger of their best
losses. Without spin only.
"""

from __future__ import annotations

import argparse
import json
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
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.nn.reference.convert import export_reference
from aiida_deeph.engine.nn.reference.files import read_arguments
from aiida_deeph.engine.nn.storage import save_model
from aiida_deeph.engine.training.config import CosineConfig
from aiida_deeph.engine.training.schedule import build_schedule

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


class Side:
    """One of the two programs in training.

    :param predict: entries of a graph.
    :param options: of Adam; each program has its own form of it.
    """

    def __init__(
        self, predict: Callable[[Any], torch.Tensor], parameters: list[torch.nn.Parameter], **options: Any
    ) -> None:
        self.predict, self.optimizer = predict, torch.optim.Adam(parameters, **options)
        self.losses: list[float] = []
        self.seconds: list[float] = [0.0]

    def epoch(self, train: list[Any], validation: list[Any], rate: float) -> None:
        """Train on the graphs in order; take the validation loss and the CPU seconds of training."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        start = time.process_time()
        for graph in train:
            self.optimizer.zero_grad()
            (self.predict(graph) - graph.label).square().mean().backward()
            self.optimizer.step()
        self.seconds.append(self.seconds[-1] + time.process_time() - start)
        with torch.no_grad():
            total = [((self.predict(graph) - graph.label).square().sum(), len(graph.label)) for graph in validation]
        self.losses.append(float(sum(value for value, _ in total) / sum(n for _, n in total)))

    def time_to(self, loss: float) -> float:
        """CPU seconds after which the loss was first reached."""
        return self.seconds[1 + next(n for n, value in enumerate(self.losses) if value <= loss)]


def read_all(folder: Path) -> list[Any]:
    """DeepH folders at a path, below it, or in `members/` of a dataset."""
    return read_members(folder / "members" if (folder / "members").is_dir() else folder)


def one_seed(arguments: argparse.Namespace, members: list[Any], seed: int) -> dict[str, Side]:
    """Train both sides from the same weights."""
    basis = members[0].basis
    cutoffs: dict[str, float] = {}
    for data in members:
        basis = basis.union(data.basis)
        for key, value in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(cutoffs.get(key, 0.0), value)
    config = DeepHE3Config() if arguments.config is None else load_config(NetworkConfig, arguments.config)
    description = describe_network(config, basis, members[0].spin, cutoffs)
    # The reference runs with the installed e3nn, whose normalisation is not that of the published models.
    architecture = {**description.architecture, "path_normalization": "element"}
    description = description.model_copy(update={"architecture": architecture})
    torch.manual_seed(seed)
    network = build_network(description)
    graphs = [
        attach_labels(build_model_graph(network, m.structure, m.hamiltonian.atom_pairs), m.hamiltonian) for m in members
    ]
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

    with torch.no_grad():
        largest = float((network(graphs[0]) - reference(graphs[0])).abs().max())
    print(f"seed {seed}: largest difference of the untrained networks {largest:.1e} eV", flush=True)
    sides = {
        "reference": Side(reference, list(theirs.parameters())),
        "ours": Side(network, list(network.parameters()), fused=True),
    }
    train, validation = graphs[: arguments.train], graphs[arguments.train :]
    rng = np.random.default_rng(seed)
    schedule = build_schedule(CosineConfig(warmup_epochs=5), arguments.rate, arguments.epochs)
    for epoch in range(arguments.epochs):
        order = rng.permutation(len(train))
        for side in sides.values():
            side.epoch([train[n] for n in order], validation, schedule.rate(epoch))
    return sides


def main() -> None:
    """Print a row for each seed, and their geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--train", type=int, default=16)
    parser.add_argument("--validation", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--config", type=Path, help="network configuration, default the published one")
    parser.add_argument("--json", type=Path, help="write all losses and seconds there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    members = read_all(arguments.dataset)
    chosen = np.random.default_rng(0).permutation(len(members))[: arguments.train + arguments.validation]
    members = [members[n] for n in chosen]
    found: list[tuple[float, ...]] = []
    record: list[dict[str, Any]] = []
    header = (
        "| seed | loss, reference | ours | ratio | CPU s, reference | ours | ratio | to the same loss | ours | ratio |"
    )
    rows = [header, "|" + "---|" * 10]
    for seed in range(arguments.seeds):
        sides = one_seed(arguments, members, seed)
        theirs, ours = sides["reference"], sides["ours"]
        target = max(min(theirs.losses), min(ours.losses))
        values = (theirs.losses[-1], ours.losses[-1], theirs.seconds[-1], ours.seconds[-1])
        values += (theirs.time_to(target), ours.time_to(target))
        found.append(values)
        rows.append(row(str(seed), values))
        record.append({name: {"losses": side.losses, "seconds": side.seconds} for name, side in sides.items()})
        print(rows[-1], flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(record), encoding="utf-8")
    rows.append(row("mean", tuple(np.exp(np.log(found).mean(axis=0)))))
    print("\n".join(rows))


def row(name: str, values: tuple[float, ...]) -> str:
    """Losses, all seconds, seconds to the same loss: reference, ours, and their ratio."""
    a, b, c, d, e, f = values
    parts = [f"{a:.4g} | {b:.4g} | {b / a:.3f}", *(f"{x:.1f} | {y:.1f} | {x / y:.1f}" for x, y in ((c, d), (e, f)))]
    return f"| {name} | {' | '.join(parts)} |"


if __name__ == "__main__":
    main()
