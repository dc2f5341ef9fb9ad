"""Prediction of large structures with a part of the edges in memory at a time, exactly as all at once.

Between blocks the network needs from all edges only sums: the messages at each atom and the means of its
normalisation. So each block passes over the edges twice, once for the nodes and once for the edges, and nothing but the
edges' features is kept for all of them, and their rotations where memory allows. Several processes share the edges in
the same way: each works on its own, and after each pass the sums of all are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from aiida_deeph.engine.domain.neighbours import species_of
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.wigner import edge_wigner, wigner_size
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.deephe3.blocks import EdgeUpdate
from aiida_deeph.engine.nn.deephe3.network import DeepHE3, DeepHE3Set
from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.frames import Edges, Frames
from aiida_deeph.engine.nn.equivariant.irreps import Irreps
from aiida_deeph.engine.nn.equivariant.layernorm import Statistics
from aiida_deeph.engine.nn.equivariant.linear import TypeGroups
from aiida_deeph.engine.system_torch import TorchRanks

EDGES_IN_CACHE = 4096
"""Edges whose features stay in a processor's cache: larger chunks are slower on a CPU, smaller ones too."""
LARGEST_ROTATIONS = 2 * 2**30
"""Rotations of all edges are kept if they take no more than so many bytes, else made again in every pass."""


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
    ranks: TorchRanks | None = None,
) -> NDArray[Any]:
    """Entries of H in eV for the given pairs, in the order of BlockSparseMatrix, float32 or float64 or complex.

    :param network: of `description`, on `device`, of type `dtype`.
    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    :param edges_per_chunk: most edges that are worked on at a time; the result depends on it only by rounding.
    :param progress: show a bar on stderr.
    :param ranks: processes that predict this structure together; each gives its own share of the pairs, every pair in
        one share, and gets the entries of that share.
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
            with part.fixed_weights():
                run = _Pass(
                    part, structure, atom_pairs[order], edges_per_chunk, dtype, device, bar, ranks or TorchRanks()
                )
                run.run(entries, order, boundaries)
    return entries


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as bar:
        yield bar


@dataclass
class _Chunk:
    """Some of the edges, `part` of those sorted by source, with the atoms at their ends.

    :param atoms: atoms at the ends of the edges, shape (n_chunk_atoms,); the edges count these.
    :param edges: with rotations only while they are worked on, or always if memory allows.
    """

    part: slice
    atoms: Tensor
    edges: Edges
    vectors: Tensor

    def of_atoms(self, x: Features) -> Features:
        """Features of the chunk's atoms."""
        return [entry.index_select(0, self.atoms) for entry in x]


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
        ranks: TorchRanks,
    ) -> None:
        self.network, self.structure, self.pairs, self.ranks = network, structure, pairs, ranks
        limit = EDGES_IN_CACHE if torch.device(device).type == "cpu" else edges_per_chunk
        self.step, self.dtype, self.device = max(1, min(edges_per_chunk, limit)), dtype, device
        self.bar = bar
        self.names = species_of(structure, network.layout.basis.elements)
        self.species = torch.from_numpy(self.names).to(device)
        itemsize = torch.empty(0, dtype=dtype).element_size()
        self.keep_rotations = len(pairs) * wigner_size(network.lmax) * itemsize <= LARGEST_ROTATIONS
        self.parts = [self._chunk(start) for start in range(0, len(pairs), self.step)]

    def _chunk(self, start: int) -> _Chunk:
        pairs = self.pairs[start : start + self.step]
        vectors = self.structure.pair_vectors(pairs)
        is_loop = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
        short = (np.linalg.norm(vectors, axis=1) < 1e-6) & ~is_loop
        if short.any():
            where = f"pair {pairs[short][0].tolist()}"
            raise DataError("two atoms at one place", where=where, expected="distinct positions")
        atoms, ends = np.unique(pairs[:, 3:].T, return_inverse=True)
        edges = Edges.of(
            torch.from_numpy(self.names[atoms]).to(self.device),
            torch.from_numpy(ends.reshape(2, -1)).to(self.device),
            torch.from_numpy(vectors).to(self.device),
            torch.from_numpy(np.flatnonzero(is_loop)).to(self.device),
            graph=None,
            frames=None,
            n_species=self.network.n_species,
            dtype=self.dtype,
        )
        part = slice(start, start + len(pairs))
        return _Chunk(part, torch.from_numpy(atoms).to(self.device), edges, torch.from_numpy(vectors))

    def chunks(self, what: str) -> Iterator[tuple[_Chunk, Tensor]]:
        """All edges, some at a time, with their Gaussians."""
        network = self.network
        task = self.bar.add_task(what, total=len(self.pairs))
        for chunk in self.parts:
            edges = chunk.edges
            if edges.frames is None:
                wigner = edge_wigner(chunk.vectors.to(self.device), network.lmax, self.dtype)
                edges.frames = Frames(wigner, network.lmax, network.ignore_parity)
            yield chunk, network.radial_basis(edges.distances)
            if not self.keep_rotations:
                edges.frames = None
            self.bar.advance(task, len(edges.source))
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
        e = _EdgeFeatures(network)
        n_blocks = len(network.node_updates)
        for b, (node_update, edge_update) in enumerate(zip(network.node_updates, network.edge_updates, strict=True)):
            total = node_update.conv.layout.zeros(len(x[0]), x[0])
            e.renew(edge_update.irreps_in, self.empty)
            for chunk, gaussians in self.chunks(f"block {b + 1} of {n_blocks}, atoms"):
                own = chunk.of_atoms(x)
                ends = chunk.edges.ends(own, node_update.lin_pre.layout_in)
                messages = node_update.messages(own, ends, e.finish(chunk), chunk.edges, gaussians)
                for sums, part in zip(total, messages, strict=True):
                    sums.index_add_(0, chunk.atoms, part)
            self.ranks.add(total)
            x = node_update.norm(node_update.combine(x, total, groups), node_update.past(x), None, 1)
            e.start(edge_update, self.empty(edge_update.irreps_out))
            for chunk, gaussians in self.chunks(f"block {b + 1} of {n_blocks}, pairs"):
                own = chunk.of_atoms(x)
                ends = chunk.edges.ends(own, node_update.conv.layout)
                e.set_raw(chunk, edge_update.raw(own, ends, e.old(chunk), chunk.edges, gaussians))
            e.end(self.ranks)
        for chunk, _ in self.chunks("Hamiltonian"):
            columns = network.head(e.finish(chunk), chunk.edges.frames).reshape(-1).cpu().numpy()
            pairs = self.pairs[chunk.part]
            index = network.layout.entry_index(self.names, pairs[:, 3:], np.arange(len(pairs)))
            places = order[chunk.part]
            lengths = boundaries[places + 1] - boundaries[places]
            first = np.concatenate([[0], np.cumsum(lengths)])[:-1]
            target = np.arange(len(index)) + np.repeat(boundaries[places] - first, lengths)
            known = index >= 0
            entries[target[known]] = columns[index[known]]


class _EdgeFeatures:
    """Features of all edges: those before an update, and those of the update before its normalisation.

    The first features of all are functions of the distance and made again whenever they are needed.
    """

    def __init__(self, network: DeepHE3) -> None:
        self.network = network
        self.update: EdgeUpdate | None = None
        self.stored: Features | None = None
        self.target: Features | None = None
        self.raw: Features = []
        self.statistics: list[Statistics] = []

    def old(self, chunk: _Chunk) -> Features:
        """Features before the update."""
        if self.stored is None:
            return self.network.embed_edges(chunk.edges.distances)
        return [entry[chunk.part] for entry in self.stored]

    def start(self, update: EdgeUpdate, raw: Features) -> None:
        """Begin an update, whose features before normalisation go to `raw`."""
        self.update, self.raw, self.statistics = update, raw, []
        self.stored, self.target = self.target, None

    def set_raw(self, chunk: _Chunk, z: Features) -> None:
        """Keep a chunk's new features and what they add to the means."""
        self.statistics.append(self.update.norm.statistics(z, chunk.edges.frames))
        for entry, value in zip(self.raw, z, strict=True):
            entry[chunk.part] = value

    def end(self, ranks: TorchRanks) -> None:
        """All new features are there: the means are those over the edges of all processes."""
        total = reduce(add, self.statistics)
        count = torch.tensor([total.n], device=self.raw[0].device)
        ranks.add([count, *total.first, *total.second])
        self.sum = replace(total, n=int(count))

    def renew(self, irreps: Irreps, empty: Callable[[Irreps], Features]) -> None:
        """Before features are finished: they take the place of the old ones if they are of the same kind."""
        if self.update is not None:
            same = self.stored is not None and self.update.irreps_in == irreps
            self.target = self.stored if same else empty(irreps)

    def finish(self, chunk: _Chunk) -> Features:
        """Features after the update; kept, if there is a place for them, instead of the old ones."""
        if self.update is None:
            return self.old(chunk)
        z = [entry[chunk.part] for entry in self.raw]
        result = self.update.norm.normalise(z, self.update.past(self.old(chunk)), self.sum, chunk.edges.frames)
        for entry, value in zip(self.target or [], result, strict=bool(self.target)):
            entry[chunk.part] = value
        return result
