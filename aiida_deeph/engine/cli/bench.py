"""`deeph-engine bench`: how fast the network is on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from aiida_deeph.engine.system import peak_memory_GiB

if TYPE_CHECKING:
    import torch

    from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian


@click.command(name="bench")
@click.option(
    "--dataset",
    type=click.Path(exists=True, path_type=Path),
    help="A DeepH folder, new or legacy, or a folder of them.",
)
@click.option(
    "--cells", type=click.IntRange(min=1), default=4, show_default=True, help="Built-in graphene: N x N cells."
)
@click.option(
    "--cutoff", type=click.FloatRange(min=0, min_open=True), default=6.5, show_default=True, help="Its pairs, Angstrom."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of torch.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="Measured steps of each kind.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Structures per step.")
@click.option("--config", type=click.Path(exists=True, path_type=Path), help="Network configuration (JSON or YAML).")
@click.option("--infer-only", is_flag=True, help="Leave the training steps out.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the numbers there.")
def command(
    dataset: Path | None,
    cells: int,
    cutoff: float,
    threads: int,
    device: str,
    steps: int,
    batch: int,
    config: Path | None,
    infer_only: bool,
    json_file: Path | None,
) -> None:
    """Measure building, training and evaluating the network: medians over the steps, float32.

    Without --dataset: graphene with shells s2 p2 d1, by default 32 atoms with pairs up to 6.5 Angstrom.
    """
    import torch

    from aiida_deeph.engine.config import load_config
    from aiida_deeph.engine.errors import InputError
    from aiida_deeph.engine.nn.config import NetworkConfig
    from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device", where="--device", remedy="use --device cpu")
    torch.set_num_threads(threads)
    members = [graphene(cells, cutoff)] if dataset is None else read_members(dataset)
    network_config = DeepHE3Config() if config is None else load_config(NetworkConfig, config)
    result = measure(members, network_config, torch.device(device), steps, batch, train=not infer_only)
    result |= {"device": device_name(device), "threads": threads, "commit": commit()}
    for key, value in result.items():
        click.echo(f"{key:24s} {value:.6g}" if isinstance(value, float) else f"{key:24s} {value}")
    if json_file is not None:
        from aiida_deeph.engine.io.files import write_text_atomic

        write_text_atomic(json_file, json.dumps(result, indent=2) + "\n")


def measure(
    members: list[RealSpaceHamiltonian], config: Any, device: torch.device, steps: int, batch: int, *, train: bool
) -> dict[str, Any]:
    """Medians over `steps` steps.

    :param members: the batch holds the first `batch` of them, again from the first if there are fewer.
    :param config: of the network.
    """
    import torch
    from torch_geometric.data import Batch

    from aiida_deeph.engine.domain.neighbours import pair_cutoffs
    from aiida_deeph.engine.graph.build import attach_labels
    from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network

    torch.manual_seed(0)
    members = [members[n % len(members)] for n in range(batch)]
    basis, spin = members[0].basis, members[0].spin
    cutoffs: dict[str, float] = {}
    for data in members:
        basis = basis.union(data.basis)
        for key, value in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(cutoffs.get(key, 0.0), value)
    network = build_network(describe_network(config, basis, spin, cutoffs))
    started = time.perf_counter()
    graphs = [
        attach_labels(build_model_graph(network, data.structure, data.hamiltonian.atom_pairs), data.hamiltonian)
        for data in members
    ]
    build_s = (time.perf_counter() - started) / len(graphs)
    graph = (Batch.from_data_list(graphs) if len(graphs) > 1 else graphs[0]).to(device)
    network.to(device)
    # What the libraries, the network and its graph take: the rest of the peak is that of the steps.
    result: dict[str, Any] = {"build_s": build_s, "start_rss_gib": peak_memory_GiB()}
    n_atoms, n_edges = int(graph.num_nodes), int(graph.edge_index.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, fused=True)

    def training_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        difference = network(graph) - graph.label
        loss = (difference * difference.conj()).real.mean()
        loss.backward()
        optimizer.step()

    def inference() -> None:
        with torch.inference_mode():
            network(graph)

    if train:
        wall, cpu = timed(training_step, steps, device)
        result |= {"train_s_per_step": wall, "train_cpu_s_per_step": cpu}
        result |= {"train_atoms_per_s": n_atoms / wall, "train_edges_per_s": n_edges / wall}
    wall, cpu = timed(inference, steps, device)
    result |= {"infer_s": wall, "infer_cpu_s": cpu}
    result |= {"infer_atoms_per_s": n_atoms / wall, "infer_edges_per_s": n_edges / wall}
    result |= {"atoms": n_atoms, "edges": n_edges, "structures": len(members)}
    result["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    result["peak_rss_gib"] = peak_memory_GiB()
    if device.type == "cuda":
        result["peak_device_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return result


def timed(step: Callable[[], None], steps: int, device: torch.device) -> tuple[float, float]:
    """Median wall and CPU seconds of a step, after two that are not counted; CUDA events measure the wall time."""
    import torch

    wall, cpu = [], []
    for n in range(steps + 2):
        start, start_cpu = time.perf_counter(), time.process_time()
        if device.type == "cuda":
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            step()
            last.record()
            torch.cuda.synchronize()
            seconds = first.elapsed_time(last) / 1000
        else:
            step()
            seconds = time.perf_counter() - start
        if n >= 2:
            wall.append(seconds)
            cpu.append(time.process_time() - start_cpu)
    return median(wall), median(cpu)


def graphene(n: int = 4, cutoff: float = 6.5) -> RealSpaceHamiltonian:
    """Graphene, n x n cells slightly displaced, shells s2 p2 d1, with a Hamiltonian of random numbers, eV."""
    import numpy as np

    from aiida_deeph.engine.domain.basis import OrbitalBasis
    from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
    from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
    from aiida_deeph.engine.domain.neighbours import pairs_within
    from aiida_deeph.engine.domain.structure import Structure

    rng = np.random.default_rng(0)
    a = 2.46
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 20]])
    sites = np.array([[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]]) @ cell
    shifts = np.array([[i, j, 0] for i in range(n) for j in range(n)]) @ cell
    positions = (shifts[:, None] + sites).reshape(-1, 3)
    positions += rng.normal(scale=0.02, size=positions.shape)
    structure = Structure(("C",) * len(positions), positions, cell * [[n], [n], [1]])
    basis = OrbitalBasis({"C": (0, 0, 1, 1, 2)})
    pairs = pairs_within(structure, cutoff)
    matrix = BlockSparseMatrix.from_pairs(pairs, basis.orbitals_per_atom(structure.symbols))
    matrix = matrix.with_entries(rng.normal(size=matrix.entries.shape)).hermitian_part()
    return RealSpaceHamiltonian(structure=structure, basis=basis, hamiltonian=matrix)


def read_members(folder: Path) -> list[RealSpaceHamiltonian]:
    """All DeepH folders, new or legacy, at a path or directly below it.

    :raises InputError: there is none.
    """
    from aiida_deeph.engine.errors import InputError
    from aiida_deeph.engine.io.deeph import read_deeph
    from aiida_deeph.engine.io.deeph_legacy import read_legacy

    members = []
    for path in (folder, *sorted(folder.glob("*"))):
        if (path / "element.dat").is_file():
            members.append(read_legacy(path))
        elif (path / "info.json").is_file() and (path / "POSCAR").is_file():
            members.append(read_deeph(path))
    members = [data for data in members if data.hamiltonian is not None]
    if not members:
        raise InputError(
            "no DeepH folder with a Hamiltonian", where=folder, expected="hamiltonian.h5 in it or in folders below it"
        )
    return members


def device_name(device: str) -> str:
    """`cpu`, or the name of the GPU."""
    import torch

    return device if device == "cpu" else f"cuda: {torch.cuda.get_device_name()}"


def commit() -> str:
    """Commit of the source tree, `unknown` outside of one."""
    try:
        output = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("AIIDA_DEEPH_COMMIT", "unknown")
    return output.stdout.strip()
