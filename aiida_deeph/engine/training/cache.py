"""Graphs on disk, found by the hash of all they depend on; a damaged file is never used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from aiida_deeph.engine.graph.build import HamiltonianGraph
from aiida_deeph.engine.io.structure import atomic_path

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
