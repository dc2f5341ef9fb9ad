"""Prediction of large structures with a part of the edges in memory at a time, exactly as all at once.

Between blocks the network needs from all edges only sums: the messages at each atom and the means of its normalisation.
So each block passes over the edges twice, once for the nodes and once for the edges, and nothing but the edges' features
is kept for all of them. Rotations and radial functions are made again in every pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.build import species_of
from aiida_deeph.engine.graph.wigner import edge_wigner
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.blocks import EdgeUpdate
from aiida_deeph.engine.nn.deephe3 import DeepHE3, DeepHE3Set
from aiida_deeph.engine.nn.features import FeatureLayout, Features
from aiida_deeph.engine.nn.frames import Edges, Frames
from aiida_deeph.engine.nn.irreps import Irreps
from aiida_deeph.engine.nn.layernorm import Statistics
from aiida_deeph.engine.nn.linear import TypeGroups


def predict_entries(
    network: nn.Module,
    structure: Structure,
    atom_pairs: NDArray[np.int64],
    description: ModelDescription,
    *,
    edges_per_chunk: int = 20_000,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> NDArray[Any]:
    """Entries of H in eV for the given pairs, in the order of BlockSparseMatrix, float32 or float64 or complex.

    :param network: of `description`, on `device`, of type `dtype`.
    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    :param edges_per_chunk: edges in memory at a time; the result depends on it only by rounding.
    :param progress: show a bar on stderr.
    :raises InputError: an element is unknown to the model, or the network cannot be evaluated in chunks.
    :raises DataError: two atoms lie at one place.
    """
    description.require_elements(structure.symbols)
    parts: list[nn.Module] = list(network.networks) if isinstance(network, DeepHE3Set) else [network]
    if not all(isinstance(part, DeepHE3) for part in parts):
        raise InputError(
            "network cannot be evaluated in chunks", where="model", found=type(network).__name__, expected="deephe3"
        )
    atom_pairs = np.ascontiguousarray(atom_pairs, dtype=np.int64)
    order = np.argsort(atom_pairs[:, 3], kind="stable")
    rows = description.orbital_basis.orbitals_per_atom(structure.symbols) * description.spin.multiplicity
    sizes = rows[atom_pairs[:, 3]] * rows[atom_pairs[:, 4]]
    boundaries = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    kind = torch.empty(0, dtype=dtype if description.spin.multiplicity == 1 else dtype.to_complex()).numpy().dtype
    entries = np.zeros(boundaries[-1], dtype=kind)
    with torch.inference_mode(), _progress(progress) as bar:
        for part in parts:
            _Pass(part, structure, atom_pairs[order], edges_per_chunk, dtype, device, bar).run(
                entries, order, boundaries
            )
    return entries


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as bar:
        yield bar


@dataclass
class _Chunk:
    """Some of the edges, `start` to `stop` of those sorted by source."""

    start: int
    stop: int
    edges: Edges
    gaussians: Tensor


class _Pass:
    """One network on one structure."""

    def __init__(
        self,
        network: DeepHE3,
        structure: Structure,
        pairs: NDArray[np.int64],
        edges_per_chunk: int,
        dtype: torch.dtype,
        device: torch.device | str,
        bar: Progress,
    ) -> None:
        self.network, self.structure, self.pairs = network, structure, pairs
        self.step, self.dtype, self.device = max(1, edges_per_chunk), dtype, device
        self.bar = bar
        self.names = species_of(structure, network.layout.basis.elements)
        self.species = torch.from_numpy(self.names).to(device)

    def chunks(self, what: str) -> Iterator[_Chunk]:
        """All edges, some at a time."""
        network, n = self.network, len(self.pairs)
        task = self.bar.add_task(what, total=n)
        for start in range(0, n, self.step):
            pairs = self.pairs[start : start + self.step]
            vectors = torch.from_numpy(self.structure.pair_vectors(pairs)).to(self.device)
            is_loop = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
            short = (np.linalg.norm(self.structure.pair_vectors(pairs), axis=1) < 1e-6) & ~is_loop
            if short.any():
                raise DataError(
                    "two atoms at one place", where=f"pair {pairs[short][0].tolist()}", expected="distinct positions"
                )
            edges = Edges.of(
                self.species,
                torch.from_numpy(np.ascontiguousarray(pairs[:, 3:].T)).to(self.device),
                vectors,
                torch.from_numpy(np.flatnonzero(is_loop)).to(self.device),
                graph=None,
                frames=Frames(edge_wigner(vectors, network.lmax, self.dtype), network.lmax, network.ignore_parity),
                n_species=network.n_species,
                dtype=self.dtype,
            )
            yield _Chunk(start, start + len(pairs), edges, network.radial_basis(edges.distances))
            self.bar.advance(task, len(pairs))
        self.bar.remove_task(task)

    def empty(self, irreps: Irreps) -> Features:
        """Storage for features of all edges."""
        return FeatureLayout(irreps).zeros(len(self.pairs), torch.empty(0, dtype=self.dtype, device=self.device))

    def run(self, entries: NDArray[Any], order: NDArray[np.int64], boundaries: NDArray[np.int64]) -> None:
        """Fill in the entries that this network gives.

        :param order: place of each sorted pair among the pairs as given.
        :param boundaries: first entry of each pair as given.
        """
        network = self.network
        groups = TypeGroups(self.species, network.n_species) if network.n_species > 1 else None
        x = network.embed_nodes(self.species)
        old: Features | None = None  # edge features before the last update
        raw: Features | None = None  # the same update before normalisation
        before: tuple[EdgeUpdate, Statistics] | None = None

        def edge_features(chunk: _Chunk) -> Features:
            """Features of a chunk after the last update; they take the place of the old ones in memory."""
            if before is None:
                return network.embed_edges(chunk.edges.distances)
            update, statistics = before
            part = slice(chunk.start, chunk.stop)
            past = network.embed_edges(chunk.edges.distances) if old is None else [entry[part] for entry in old]
            z = [entry[part] for entry in raw]
            return update.norm.normalise(z, update.past(past), statistics, chunk.edges.frames)

        n_blocks = len(network.node_updates)
        for b, (node_update, edge_update) in enumerate(zip(network.node_updates, network.edge_updates, strict=True)):
            sums: Features | None = None
            # The first features of the edges are made again when they are needed; later ones take the place of the old.
            current: Features | None = None
            if before is not None:
                current = (
                    old
                    if old is not None and edge_update.irreps_in == before[0].irreps_in
                    else self.empty(edge_update.irreps_in)
                )
            for chunk in self.chunks(f"block {b + 1} of {n_blocks}, atoms"):
                e = edge_features(chunk)
                if current is not None:
                    for target, value in zip(current, e, strict=True):
                        target[chunk.start : chunk.stop] = value
                ends = chunk.edges.ends(x, node_update.lin_pre.layout_in)
                messages = node_update.messages(x, ends, e, chunk.edges, chunk.gaussians)
                sums = (
                    messages if sums is None else [total.add_(part) for total, part in zip(sums, messages, strict=True)]
                )
            x = node_update.norm(node_update.combine(x, sums, groups), node_update.past(x), None, 1)
            old, raw, before = current, None, None
            raw = self.empty(edge_update.irreps_out)
            statistics = []
            for chunk in self.chunks(f"block {b + 1} of {n_blocks}, pairs"):
                part = slice(chunk.start, chunk.stop)
                e = network.embed_edges(chunk.edges.distances) if old is None else [entry[part] for entry in old]
                ends = chunk.edges.ends(x, node_update.conv.layout)
                z = edge_update.raw(x, ends, e, chunk.edges, chunk.gaussians)
                statistics.append(edge_update.norm.statistics(z, chunk.edges.frames))
                for target, value in zip(raw, z, strict=True):
                    target[part] = value
            before = (edge_update, reduce(add, statistics))
        layout = network.layout
        for chunk in self.chunks("Hamiltonian"):
            columns = network.head(edge_features(chunk), chunk.edges.frames).reshape(-1).cpu().numpy()
            pairs = self.pairs[chunk.start : chunk.stop]
            index = layout.entry_index(self.names, pairs[:, 3:], np.arange(len(pairs)))
            places = order[chunk.start : chunk.stop]
            lengths = boundaries[places + 1] - boundaries[places]
            first = np.concatenate([[0], np.cumsum(lengths)])[:-1]
            target = np.arange(len(index)) + np.repeat(boundaries[places] - first, lengths)
            known = index >= 0
            entries[target[known]] = columns[index[known]]
