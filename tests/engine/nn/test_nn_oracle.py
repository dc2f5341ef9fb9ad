"""The fast network is the function that e3nn's own modules compute from the same weights."""

from __future__ import annotations

import pytest
import torch

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.nn.deephe3.network import Architecture
from aiida_deeph.engine.nn.network import build_model_graph
from aiida_deeph.engine.nn.reference.convert import reference_arguments
from aiida_deeph.engine.nn.reference.weights import state_dict
from tests.engine.nn.oracle import Oracle, entries_of
from tests.engine.nn.systems import CUTOFF, random_network, random_structure

pytestmark = pytest.mark.filterwarnings("ignore")  # e3nn and torch.jit warn on import

CASES = {
    "e3nn 0.3": ({}, SpinMode.NONE, "0.3"),
    "unnatural": ({"irreps_mid": "5x0e+2x0o+3x1o+4x1e+3x2e+2x2o+2x3o", "lmax": 3}, SpinMode.NONE, "0.5"),
    "unsorted": ({"irreps_mid": "3x1e+5x0e+3x2e+4x1o+2x0o+2x0e", "lmax": 2}, SpinMode.NONE, "0.4"),
    "high l": ({"irreps_mid": "4x0e+2x1o+2x4e+1x5o+1x6e", "lmax": 6, "n_blocks": 1}, SpinMode.NONE, "0.4"),
    "no parity": ({"ignore_parity": True}, SpinMode.NONE, "0.5"),
    "spin": ({"irreps_mid": "5x0e+3x1o+2x2e", "lmax": 2}, SpinMode.NONCOLLINEAR, "0.5"),
    "spin, old signs": ({"irreps_mid": "5x0e+3x1o+2x2e", "lmax": 3}, SpinMode.NONCOLLINEAR, "0.3"),
    "spin, no parity": (
        {"irreps_mid": "5x0e+3x1o+2x2e", "lmax": 2, "ignore_parity": True},
        SpinMode.NONCOLLINEAR,
        "0.4",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_network_is_the_plain_one(case: str) -> None:
    config, spin, version = CASES[case]
    basis = OrbitalBasis({"C": (0, 1), "O": (0, 0, 1, 2)})
    network, description = random_network(
        spin,
        basis=basis,
        normalization="element" if version == "0.4" else "path",
        time_reversal=False,  # the published network learns it from the data
        **config,
    )
    architecture = Architecture.model_validate(description.architecture)
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    graph = build_model_graph(network, structure, pairs, dtype=torch.float64)
    state = state_dict(network, architecture, version, dtype=torch.float64)
    arguments = reference_arguments(network, architecture)
    oracle = Oracle(
        arguments, state, [(t.l1, t.l2) for t in network.layout.targets], spin is not SpinMode.NONE, version
    )
    blocks = oracle.blocks_of_edges(
        graph.species, torch.from_numpy(pairs[:, 3:].T.copy()), torch.from_numpy(structure.pair_vectors(pairs))
    )
    expected = entries_of(blocks, network.layout, structure.symbols, pairs)
    with torch.no_grad():
        found = network(graph)
        single = network.float()(build_model_graph(network, structure, pairs))
    scale = expected.abs().max()
    assert scale > 0.1
    assert (found - expected).abs().max() <= 1e-10 * scale
    assert (single - expected).abs().max() <= 1e-5 * scale


def test_self_loops_have_no_direction() -> None:
    """An edge from an atom to itself sees Y_0 alone: another frame for it changes nothing."""
    network, _ = random_network()
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    graph = build_model_graph(network, structure, pairs, dtype=torch.float64, wigner=False)
    with torch.no_grad():
        expected = network(graph)
        graph.loops = graph.loops[:0]
        assert (network(graph) - expected).abs().max() > 1e-3
