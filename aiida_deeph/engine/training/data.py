"""Members of a dataset as graphs with labels: built once, in memory as far as they fit, else on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.graph.build import HamiltonianGraph, attach_labels, build_graph
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.dataset import Member, load_member
from aiida_deeph.engine.progress import track
from aiida_deeph.engine.training.cache import GraphCache, graph_key

#: Graphs beyond this many bytes stay on disk and are read when needed.
MEMORY_LIMIT = 8 * 2**30


@dataclass(frozen=True)
class GraphSettings:
    """What shapes a graph besides its member.

    :param layout: of the model's output over the blocks of H.
    :param lmax: largest l of the stored rotations.
    :param precision: `float32` or `float64`, of rotations and labels.
    """

    layout: EntryLayout
    lmax: int
    precision: str

    @classmethod
    def of_network(cls, network: nn.Module, precision: str) -> GraphSettings:
        """Settings that a network of the registry needs."""
        return cls(network.layout, network.lmax, precision)

    @property
    def dtype(self) -> torch.dtype:
        """Torch's name of the precision."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON types whose order is that of the species."""
        return {
            "basis": [[symbol, list(shells)] for symbol, shells in self.layout.basis.shells.items()],
            "spin": self.layout.spin.value,
            "targets": [target.as_json() for target in self.layout.targets],
            "lmax": self.lmax,
            "precision": self.precision,
        }


def labelled_graph(data: RealSpaceHamiltonian, settings: GraphSettings) -> HamiltonianGraph:
    """Graph on exactly the pairs of H, with H as its label.

    :raises DataError: no Hamiltonian, or an element whose shells differ from those of the model.
    """
    basis = settings.layout.basis
    if data.hamiltonian is None:
        raise DataError("member without Hamiltonian", remedy="preprocess labelled structures")
    for symbol in data.structure.elements:
        if data.basis.shells_of(symbol) != basis.shells_of(symbol):
            raise DataError(
                "basis differs from that of the model",
                where=symbol,
                found=list(data.basis.shells_of(symbol)),
                expected=list(basis.shells_of(symbol)),
            )
    matrix = data.hamiltonian.sorted()
    graph = build_graph(
        data.structure,
        matrix.atom_pairs,
        basis.elements,
        lmax=settings.lmax,
        dtype=settings.dtype,
        layout=settings.layout,
    )
    return attach_labels(graph, matrix, dtype=settings.dtype)


class GraphSet(Dataset[HamiltonianGraph]):
    """Graphs of some members, by index.

    :param folder: of the dataset.
    :param members: in the order of the indices.
    :param show_progress: None shows a bar when stderr is a terminal.
    :param memory_limit: bytes of graphs to keep in memory.
    """

    def __init__(
        self,
        folder: Path,
        members: Sequence[Member],
        settings: GraphSettings,
        cache: GraphCache,
        *,
        show_progress: bool | None = False,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.members = tuple(members)
        self._folder, self._settings, self._cache = folder, settings, cache
        self._kept: dict[int, HamiltonianGraph] = {}
        self._prepare: Callable[[HamiltonianGraph], HamiltonianGraph] = lambda graph: graph
        edges, entries, used = [], [], 0
        for index in track(range(len(self.members)), "graphs", show=show_progress):
            graph = self._load(index)
            edges.append(graph.edge_index.shape[1])
            entries.append(len(graph.label))
            size = sum(value.nbytes for value in graph.to_dict().values() if isinstance(value, torch.Tensor))
            if used + size <= memory_limit or cache.folder is None:
                self._kept[index] = graph
                used += size
        self.n_edges: NDArray[np.int64] = np.array(edges, dtype=np.int64)
        self.n_entries: NDArray[np.int64] = np.array(entries, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> HamiltonianGraph:
        graph = self._kept.get(index)
        return self._prepare(self._load(index)) if graph is None else graph

    def prepare(self, function: Callable[[HamiltonianGraph], HamiltonianGraph]) -> None:
        """Complete every graph by a function of the graph, after those given before; what it adds is never cached."""
        before = self._prepare
        self._prepare = lambda graph: function(before(graph))
        for graph in self._kept.values():
            function(graph)

    def _load(self, index: int) -> HamiltonianGraph:
        member = self.members[index]
        key = graph_key(member.sha256, self._settings.as_json())
        graph = self._cache.read(key)
        if graph is None:
            graph = labelled_graph(load_member(self._folder, member), self._settings)
            self._cache.write(key, graph)
        return graph
