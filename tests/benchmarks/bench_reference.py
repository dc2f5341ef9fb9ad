"""The reference DeepH-E3 code beside ours: the same network, weights and graphs, one after the other on one machine.

    python tests/benchmarks/bench_reference.py PATH_OF_A_CHECKOUT_OF_DeepH-E3 [--rounds 3]

The checkout is imported as it is; torch_scatter, which it needs only for sums, is replaced by torch's own index_add,
and modules that its network does not use are left out. Both sides run in processes of their own, in turns. The
reference runs with the e3nn that is installed; its weights are exported from ours, so that its predictions can be
compared, too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

CASES = {"32 atoms": (4, 6.5), "8 atoms": (2, 4.45)}
STEPS = 5


def write_models(folder: Path, cells: int, cutoff: float) -> None:
    """A default network with random weights, as our model and as a folder of the reference."""
    from aiida_deeph.engine.cli.bench import graphene
    from aiida_deeph.engine.domain.neighbours import pair_cutoffs
    from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config
    from aiida_deeph.engine.nn.network import build_network, describe_network
    from aiida_deeph.engine.nn.reference.convert import export_reference
    from aiida_deeph.engine.nn.storage import save_model

    data = graphene(cells, cutoff)
    assert data.hamiltonian is not None
    torch.manual_seed(0)
    cutoffs = pair_cutoffs(data.structure, data.hamiltonian.atom_pairs)
    description = describe_network(DeepHE3Config(), data.basis, data.spin, cutoffs)
    save_model(folder / "ours", build_network(description), description)
    export_reference(folder / "ours", folder / "reference", e3nn="0.5")


def import_reference_code(checkout: Path) -> tuple[Any, Any]:
    """The reference's network and its map from outputs to matrices."""

    def scatter(
        src: torch.Tensor, index: torch.Tensor, dim: int = 0, dim_size: int | None = None, reduce: str = "sum", **_: Any
    ):
        shape = list(src.shape)
        shape[dim] = int(index.max()) + 1 if dim_size is None else dim_size
        total = src.new_zeros(shape).index_add_(dim, index, src)
        if reduce == "mean":
            counts = torch.bincount(index, minlength=shape[dim]).clamp(min=1)
            total = total / counts.view([-1 if d == dim else 1 for d in range(src.dim())])
        return total

    sys.modules["torch_scatter"] = types.ModuleType("torch_scatter")
    sys.modules["torch_scatter"].scatter = scatter  # type: ignore[attr-defined]
    package = types.ModuleType("deephe3")
    package.__path__ = [str(checkout / "deephe3")]
    sys.modules["deephe3"] = package
    return importlib.import_module("deephe3.model").Net, importlib.import_module("deephe3.e3modules").e3TensorDecomp


def reference_side(checkout: Path, folder: Path, cells: int, cutoff: float) -> dict[str, float]:
    """Seconds of the reference's training step and inference, its peak memory, and its largest difference from ours."""
    from aiida_deeph.engine.cli.bench import graphene
    from aiida_deeph.engine.nn.reference.files import read_arguments

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    Net, TensorDecomposition = import_reference_code(checkout)
    net = Net(**read_arguments(folder / "reference" / "src" / "build_model.py"))
    state = torch.load(folder / "reference" / "best_model.pkl", weights_only=True)["state_dict"]
    net.load_state_dict(state)
    data = graphene(cells, cutoff)
    assert data.hamiltonian is not None
    shells = data.basis.shells["C"]
    head = TensorDecomposition(
        net.irreps_out_edge, [(a, b) for a in shells for b in shells], default_dtype_torch=torch.float32
    )
    pairs = data.hamiltonian.atom_pairs
    vectors = torch.from_numpy(data.structure.pair_vectors(pairs)).float()

    class Graph(dict):  # type: ignore[type-arg]
        __getattr__ = dict.__getitem__

    graph = Graph(
        x=torch.zeros(len(data.structure), dtype=torch.long),
        batch=torch.zeros(len(data.structure), dtype=torch.long),
        edge_index=torch.from_numpy(pairs[:, 3:].T.copy()),
        edge_attr=torch.cat([vectors.norm(dim=1, keepdim=True), vectors], dim=1),
    )
    n_out = sum(2 * l + 1 for l in shells) ** 2
    label, mask = torch.randn(len(pairs), n_out), torch.ones(len(pairs), n_out, dtype=torch.bool)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    start = peak_rss()

    def infer() -> torch.Tensor:
        with torch.no_grad():
            return head.get_H(net(graph)[1])

    def train() -> None:
        loss = torch.masked_select((head.get_H(net(graph)[1]) - label).abs().square(), mask).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    np.save(folder / "reference.npy", infer().numpy())
    found = {"infer_cpu_s": timed(infer), "train_cpu_s_per_step": timed(train), "peak_rss_gib": peak_rss()}
    return {**found, "start_rss_gib": start}


def timed(function: Callable[[], Any]) -> float:
    """Median CPU seconds of a call after one that is not counted."""
    seconds = []
    for _ in range(STEPS + 1):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return median(seconds[1:])


def peak_rss() -> float:
    """GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def difference(folder: Path, cells: int, cutoff: float) -> float:
    """Largest difference of the two predictions of H, eV; the reference's blocks are in the orbital order of OpenMX."""
    from aiida_deeph.engine.cli.bench import graphene
    from aiida_deeph.engine.nn.storage import load_model
    from aiida_deeph.engine.prediction.chunked import predict_entries

    data = graphene(cells, cutoff)
    assert data.hamiltonian is not None
    network, description = load_model(folder / "ours")
    found = predict_entries(network, data.structure, data.hamiltonian.atom_pairs, description).reshape(
        len(data.hamiltonian), 13, 13
    )
    shells = data.basis.shells["C"]
    first = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells])])
    openmx = {0: [0], 1: [2, 0, 1], 2: [2, 4, 0, 3, 1]}
    order = [[start + n for n in openmx[l]] for l, start in zip(shells, first, strict=False)]
    blocks = [found[:, rows][:, :, columns].reshape(len(found), -1) for rows in order for columns in order]
    return float(np.abs(np.concatenate(blocks, axis=1) - np.load(folder / "reference.npy")).max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", nargs=3, metavar=("FOLDER", "CELLS", "CUTOFF"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        folder, cells, cutoff = arguments.side
        print(json.dumps(reference_side(arguments.checkout, Path(folder), int(cells), float(cutoff))))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    print("| case | quantity | reference | ours | ratio |\n|---|---|---|---|---|")
    for name, (cells, cutoff) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_models(folder, cells, cutoff)
            size = [str(cells), str(cutoff)]
            theirs, ours = [], []
            for _ in range(arguments.rounds):
                command = [sys.executable, __file__, str(arguments.checkout), "--side", scratch, *size]
                output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
                theirs.append(json.loads(output.splitlines()[-1]))
                command = ["deeph-engine", "bench", "--cells", size[0], "--cutoff", size[1], "--steps", "10"]
                subprocess.run(
                    [*command, "--json", str(folder / "ours.json")], env=environment, check=True, capture_output=True
                )
                ours.append(json.loads((folder / "ours.json").read_text()))
            for side in (*theirs, *ours):
                side["steps_rss_gib"] = side["peak_rss_gib"] - side["start_rss_gib"]
            units = {"train_cpu_s_per_step": "CPU s", "infer_cpu_s": "CPU s", "peak_rss_gib": "GiB"}
            for key, unit in {**units, "steps_rss_gib": "GiB"}.items():
                a, b = (median(side[key] for side in sides) for sides in (theirs, ours))
                print(
                    f"| {name}, {ours[0]['edges']} edges | {key} ({unit}) | {a:.3f} | {b:.3f} | {a / b:.1f} |",
                    flush=True,
                )
            print(
                f"| {name} | largest difference of H (eV) | | {difference(folder, cells, cutoff):.1e} | |", flush=True
            )


if __name__ == "__main__":
    main()
