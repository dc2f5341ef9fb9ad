"""Small random structures and networks for the tests of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.neighbours import pair_cutoffs, pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.config import network_config
from aiida_deeph.engine.nn.network import Network, build_network, describe_network

BASIS = OrbitalBasis({"C": (0, 0, 1), "O": (0, 1, 2)})
SMALL: dict[str, Any] = {
    "irreps_embed": "6x0e",
    "irreps_mid": "6x0e+4x1o+3x2e+2x3o",
    "lmax": 3,
    "n_blocks": 2,
    "n_gaussians": 16,
}
SMALL_OF: dict[str, dict[str, Any]] = {
    "closed-form": {"lmax_environment": 3, "environment_smoothness": 1.0, "site_lmax": 2, "site_smoothness": 1.0},
    "qhnet": {"channels": 4, "bottleneck": 3, "n_layers": 3, "first_pair_layer": 1, "lmax": 4, "n_radial": 8},
}
CUTOFF = 3.2


def small_settings(name: str, **config: Any) -> dict[str, Any]:
    """Settings of a small network of this kind, and of `config` those that it knows."""
    known = network_config(name).model_fields
    chosen = {**SMALL, **SMALL_OF.get(name, {}), **config}
    return {key: value for key, value in chosen.items() if key in known}


def random_structure(seed: int = 0, n_atoms: int = 5) -> Structure:
    """Atoms of both elements at random places of a skew cell, no two closer than 0.9 Angstrom."""
    rng = np.random.default_rng(seed)
    cell = np.diag([4.0, 4.4, 4.8]) + rng.uniform(-0.4, 0.4, (3, 3))
    positions: list[np.ndarray] = []
    while len(positions) < n_atoms:
        new = rng.uniform(0, 1, 3) @ cell
        images = np.array(list(np.ndindex(3, 3, 3))) - 1
        if all(np.linalg.norm(images @ cell + new - old, axis=1).min() > 0.9 for old in positions):
            positions.append(new)
    return Structure(tuple("CO"[n % 2] for n in range(n_atoms)), np.array(positions), cell)


def random_network(
    spin: SpinMode = SpinMode.NONE,
    *,
    basis: OrbitalBasis = BASIS,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    normalization: str = "path",
    name: str = "deephe3",
    **config: Any,
) -> tuple[Network, ModelDescription]:
    """A network with random weights, biases and normalisation weights included."""
    structure = random_structure()
    cutoffs = pair_cutoffs(structure, pairs_within(structure, CUTOFF))
    torch.manual_seed(seed)
    chosen = network_config(name)(**small_settings(name, **config))
    description = describe_network(chosen, basis, spin, cutoffs)
    if name == "deephe3":
        architecture = {**description.architecture, "path_normalization": normalization}
        description = description.model_copy(update={"architecture": architecture})
    network = build_network(description).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad and (parameter == parameter.reshape(-1)[:1]).all():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network, description
