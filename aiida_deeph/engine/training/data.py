"""Members of a dataset as graphs with labels: built once, in memory as far as they fit, else on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch.utils.data import Dataset

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.channels import separated
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_key
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.graph.build import HamiltonianGraph, attach_labels, build_graph
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.dataset import Member, load_member
from aiida_deeph.engine.io.files import atomic_path
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.system import track

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
    def of_network(cls, network: Network, precision: str) -> GraphSettings:
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
    """Graph on exactly the pairs of H, with H as its label; of a collinear magnet both channels side by side.

    :raises InputError: a collinear magnet without moments.
    :raises DataError: no Hamiltonian, or an element whose shells differ from those of the model.
    """
    basis = settings.layout.basis
    if data.spin is SpinMode.COLLINEAR:
        data = separated(data)
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


def distances_of(graph: HamiltonianGraph, elements: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Distances of the pairs of two atoms by pair of elements, Angstrom.

    :param elements: in the order of the species.
    """
    kinds = graph.species.numpy()[graph.edge_index.numpy()]
    distances = graph.edge_vec.norm(dim=1).numpy()
    kinds[:, graph.loops.numpy()] = -1
    found: dict[str, list[NDArray[np.float64]]] = {}
    for a, first in enumerate(elements):
        for b, second in enumerate(elements):
            own = distances[(kinds[0] == a) & (kinds[1] == b)]
            if len(own):
                found.setdefault(pair_key(first, second), []).append(own)
    return {key: np.concatenate(parts) for key, parts in found.items()}


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


#: Changes whenever the content of a graph changes for the same key.
GRAPH_VERSION = 2


def graph_key(member_files: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Name of a graph: a hash of the member's data and of the settings that shape its graph, never of a name or path.

    :param member_files: file name -> sha256 of the member.
    :param settings: JSON types.
    """
    content = {"version": GRAPH_VERSION, "files": dict(member_files), "settings": dict(settings)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def graph_to_bytes(graph: HamiltonianGraph) -> bytes:
    """Tensors and plain values of a graph: 64 hexadecimal digits of the sha256 of the rest, then safetensors."""
    values = graph.to_dict()
    tensors = {name: value.contiguous() for name, value in values.items() if isinstance(value, torch.Tensor)}
    plain = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    # safetensors knows no complex128: real and imaginary parts are stored.
    is_complex = [name for name, value in tensors.items() if value.is_complex()]
    tensors |= {name: torch.view_as_real(tensors[name]).contiguous() for name in is_complex}
    content = save(tensors, metadata={"plain": json.dumps(plain), "complex": json.dumps(is_complex)})
    return hashlib.sha256(content).hexdigest().encode() + content


def graph_from_bytes(content: bytes) -> HamiltonianGraph | None:
    """The graph of `graph_to_bytes`, or None if a byte has changed."""
    digest, payload = content[:64], content[64:]
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        return None
    try:
        tensors = load(payload)
        header_size = int.from_bytes(payload[:8], "little")
        metadata = json.loads(payload[8 : 8 + header_size])["__metadata__"]
        plain = json.loads(metadata["plain"])
        tensors |= {name: torch.view_as_complex(tensors[name]) for name in json.loads(metadata["complex"])}
    except (SafetensorError, ValueError, KeyError):
        return None
    return HamiltonianGraph.from_dict({**plain, **tensors})


class GraphCache:
    """Folder of graphs.

    :param folder: created when the first graph is written; None keeps nothing on disk.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def path(self, key: str) -> Path | None:
        """File of a graph."""
        return None if self.folder is None else self.folder / f"{key}.graph"

    def read(self, key: str) -> HamiltonianGraph | None:
        """The graph, or None if it is absent or damaged."""
        path = self.path(key)
        if path is None or not path.is_file():
            return None
        return graph_from_bytes(path.read_bytes())

    def write(self, key: str, graph: HamiltonianGraph) -> None:
        """Keep a graph; readers see the whole file or none. A folder that cannot be written keeps nothing."""
        path = self.path(key)
        if path is None:
            return
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(graph_to_bytes(graph))
        except OSError:
            self.folder = None
