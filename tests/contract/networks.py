"""Every registered network with random weights, for the tests of what all of them keep."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.build import HamiltonianGraph
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.config import NETWORKS
from aiida_deeph.engine.nn.network import Network, build_model_graph, build_network
from tests.contract import toy_network  # noqa: F401  (registers itself)
from tests.engine.nn.systems import CUTOFF, random_network, random_structure

NAMES = [name for name in NETWORKS if name != "tiny"]  # of the tests of training, which knows no rotations
TRAINED = [name for name in NAMES if name != "deephe3-set"]  # a set is imported
SPINS = [SpinMode.NONE, SpinMode.NONCOLLINEAR]


def entries(
    network: torch.nn.Module, structure: Structure, pairs: np.ndarray, dtype: torch.dtype = torch.float64
) -> np.ndarray:
    with torch.no_grad():
        return network(build_model_graph(network, structure, pairs, dtype=dtype)).numpy()


def some_network(
    name: str, spin: SpinMode = SpinMode.NONE, dtype: torch.dtype = torch.float64, **config: Any
) -> tuple[Network, ModelDescription]:
    """A network with random weights; what is fitted in closed form is fitted to the output of another one."""
    return copy.deepcopy(_made(name, spin, dtype, tuple(config.items())))


@cache
def _made(
    name: str, spin: SpinMode, dtype: torch.dtype, options: tuple[tuple[str, Any], ...]
) -> tuple[Network, ModelDescription]:
    config = dict(options)
    if name == "deephe3-set":
        return some_set(spin, dtype, **config)
    try:
        network, description = random_network(spin, name=name, dtype=dtype, **config)
    except InputError as error:
        if spin is SpinMode.NONE or "spin" not in str(error):
            raise
        pytest.skip(f"{name}: {error}")
    architecture = network.fit(labelled_graphs(spin, dtype))
    return network, description.model_copy(
        update={"architecture": {**description.architecture, **(architecture or {})}}
    )


def some_set(spin: SpinMode, dtype: torch.dtype, **config: Any) -> tuple[Network, ModelDescription]:
    """Two networks, each for half of the pairs of shells."""
    _, description = random_network(spin, **config)
    targets = description.architecture["targets"]
    halves = [{**description.architecture, "targets": targets[n::2]} for n in range(2)]
    description = description.model_copy(update={"network": "deephe3-set", "architecture": {"networks": halves}})
    torch.manual_seed(2)
    return build_network(description).to(dtype), description


def labelled_graphs(spin: SpinMode, dtype: torch.dtype) -> list[HamiltonianGraph]:
    """Three structures, labelled by a random network."""
    teacher, _ = random_network(spin, seed=7, hermitian=True)
    graphs = []
    for seed in (11, 12, 13):
        structure = random_structure(seed)
        graph = build_model_graph(teacher, structure, pairs_within(structure, CUTOFF), dtype=torch.float64)
        with torch.no_grad():
            graph.label = teacher(graph).to(dtype if spin is SpinMode.NONE else dtype.to_complex())
        graphs.append(graph)
    return graphs
