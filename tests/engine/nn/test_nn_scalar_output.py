"""A basis of s shells alone: the last edge features then have no vectors at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.graph.build import build_graph
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config
from aiida_deeph.engine.nn.network import build_network, describe_network
from aiida_deeph.engine.prediction.chunked import predict_entries

CHAIN = Structure(
    ("H", "H"), np.array([[0.0, 0, 0], [0.8, 0.1, 0]]), np.diag([2.0, 8.0, 8.0]), pbc=(True, False, False)
)


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
@pytest.mark.parametrize(("irreps_mid", "lmax"), [("8x0e+4x1o", 1), ("8x0e", 0), ("8x0e", 1)])
def test_network_of_s_shells(spin, irreps_mid, lmax):
    config = DeepHE3Config(irreps_embed="8x0e", irreps_mid=irreps_mid, lmax=lmax, n_blocks=2, n_gaussians=8)
    pairs = pairs_within(CHAIN, 4.0)
    description = describe_network(config, OrbitalBasis({"H": (0,)}), spin, {"H-H": 4.0})
    network = build_network(description)
    entries = network(build_graph(CHAIN, pairs, ["H"], lmax=network.lmax))
    assert entries.shape == (len(pairs) * spin.multiplicity**2,)
    (entries.abs() ** 2).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)
    chunked = predict_entries(
        network, CHAIN, pairs, description, edges_per_chunk=3, dtype=torch.float32, device="cpu", progress=False
    )
    assert np.abs(chunked - entries.detach().numpy()).max() < 1e-5
