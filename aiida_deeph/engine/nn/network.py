"""Networks by name: described once from a configuration, built again from the description alone."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.config import NetworkConfig

if TYPE_CHECKING:
    from aiida_deeph.engine.graph.build import HamiltonianGraph


class Network(Protocol):
    """What a class of networks offers; instances map a graph to entries of H, see `DeepHE3.forward`."""

    @staticmethod
    def describe(
        config: NetworkConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """The architecture as JSON types."""

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> nn.Module:
        """Build from an architecture."""


NETWORKS: dict[str, str | type] = {
    "deephe3": "aiida_deeph.engine.nn.deephe3.network",
    "deephe3-set": "aiida_deeph.engine.nn.deephe3.network",
    "deephe3-residual": "aiida_deeph.engine.nn.deephe3.residual",
    "deephe3-on-site": "aiida_deeph.engine.nn.deephe3.residual",
}
"""Name -> class, or the module that registers it."""


def register_network(name: str) -> Callable[[type], type]:
    """Class decorator: make a network known under a name."""

    def register(cls: type) -> type:
        NETWORKS[name] = cls
        return cls

    return register


def get_network(name: str) -> Any:
    """The class of a network.

    :raises InputError: no such network.
    """
    if name not in NETWORKS:
        raise InputError("unknown network", where="network.name", found=name, expected=f"one of {', '.join(NETWORKS)}")
    entry = NETWORKS[name]
    if isinstance(entry, str):
        importlib.import_module(entry)
    return NETWORKS[name]


def describe_network(
    config: NetworkConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
) -> ModelDescription:
    """A new model's description with its architecture resolved to irreps: nothing is derived again when it is loaded.

    :param pair_cutoffs: largest distance of an atom pair in the training data by pair of elements, Angstrom.
    """
    architecture = get_network(config.name).describe(config, basis, spin, pair_cutoffs)
    return ModelDescription(
        network=config.name, architecture=architecture, basis=dict(basis.shells), spin=spin, pair_cutoffs=pair_cutoffs
    )


def build_network(description: ModelDescription) -> nn.Module:
    """The network of a description, with new random weights."""
    network: nn.Module = get_network(description.network).from_architecture(
        description.architecture, description.orbital_basis, description.spin
    )
    return network


def build_model_graph(
    network: nn.Module,
    structure: Structure,
    atom_pairs: NDArray[np.int64],
    *,
    dtype: torch.dtype = torch.float32,
    wigner: bool = True,
) -> HamiltonianGraph:
    """The graph of a structure with everything precomputed that this network needs.

    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    """
    # Imported here: torch-geometric takes seconds and 0.1 GiB, and predictions need no whole graph.
    from aiida_deeph.engine.graph.build import build_graph

    layout: EntryLayout = network.layout
    return build_graph(
        structure, atom_pairs, layout.basis.elements, lmax=network.lmax, dtype=dtype, layout=layout, wigner=wigner
    )
