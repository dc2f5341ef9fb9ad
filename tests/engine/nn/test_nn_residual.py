"""The two-centre part below DeepH-E3: exact where H is two-centre, equivariant, alike in chunks and after loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.graph.wigner import wigner_d
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.deephe3.config import ResidualDeepHE3Config
from aiida_deeph.engine.nn.deephe3.residual import ResidualDeepHE3
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.chunked import predict_entries
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import predict
from aiida_deeph.engine.training.data import GraphSettings, labelled_graph
from tests.engine.training.toy import BASIS, toy_member

SMALL = {"irreps_embed": "8x0e", "irreps_mid": "8x0e+4x1o+2x2e", "lmax": 2, "n_blocks": 1, "n_gaussians": 16}
CUTOFFS = {"C-C": 3.0, "C-H": 3.0, "H-H": 3.2}


def make(spin: SpinMode = SpinMode.NONE, start: str = "two-centre") -> tuple[ResidualDeepHE3, ModelDescription]:
    torch.manual_seed(5)
    description = describe_network(ResidualDeepHE3Config(**SMALL, start=start), BASIS, spin, CUTOFFS)
    network = build_network(description)
    assert isinstance(network, ResidualDeepHE3)
    return network, description


def fitted(
    spin: SpinMode = SpinMode.NONE, precision: str = "float64", start: str = "two-centre"
) -> tuple[ResidualDeepHE3, ModelDescription]:
    network, description = make(spin, start)
    settings = GraphSettings.of_network(network, precision)
    network.to(settings.dtype)
    settled = network.fit([labelled_graph(toy_member(seed, spin), settings) for seed in range(12)]) or {}
    return network, description.model_copy(update={"architecture": {**description.architecture, **settled}})


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_two_centre_hamiltonian_is_found(spin: SpinMode) -> None:
    """The toy H has constants on the atoms and functions of the distance between them; only its spin part is left."""
    network, _ = fitted(spin)
    settings = GraphSettings.of_network(network, "float64")
    new = [network.prepare(labelled_graph(toy_member(seed, spin), settings)) for seed in (50, 51)]
    base, label, scale = (torch.cat([getattr(graph, name) for graph in new]) for name in ("base", "label", "scale"))
    assert not base.is_complex()
    assert (base - label.real).abs().mean() < 2e-3 * label.real.abs().mean()
    assert (scale > 0).all() and scale.max() < 0.2 * label.real.abs().max()


def test_closed_form_start_leaves_less() -> None:
    """The scale is that of what the closed form leaves, which is less than what two centres leave."""
    left = []
    for start in ("two-centre", "closed-form"):
        network, _ = fitted(start=start)
        settings = GraphSettings.of_network(network, "float64")
        graph = network.prepare(labelled_graph(toy_member(50), settings))
        left.append(float((graph.base - graph.label).abs().mean()))
        assert (graph.scale > 0).all()
    assert left[1] < 0.5 * left[0]


def test_scale_is_the_size_of_what_is_left() -> None:
    """With noise on the blocks between atoms, of the same size everywhere, that is the scale of all their entries."""
    network, _ = make()
    settings = GraphSettings.of_network(network, "float64")
    graphs = [labelled_graph(toy_member(seed), settings) for seed in range(60)]
    torch.manual_seed(1)
    for graph in graphs:
        graph.label += 0.05 * torch.randn(len(graph.label), dtype=torch.float64)
    network.double().fit(graphs)
    scale = torch.cat([network.prepare(graph).scale for graph in graphs])
    assert scale.min() > 0.03 and scale.max() < 0.07


def test_without_fit_it_is_the_plain_network() -> None:
    network, _ = make()
    data = toy_member(0)
    assert data.hamiltonian is not None
    graph = build_model_graph(network, data.structure, data.hamiltonian.atom_pairs)
    assert torch.equal(network(graph), network.network(graph))


def test_equivariance_in_rotation_and_inversion() -> None:
    """H of the turned structure is the turned H: s and p shells, on-site blocks and bonds."""
    network, _ = fitted()
    structure = toy_member(60).structure
    pairs = pairs_within(structure, 3.0)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    rotation = rotation * torch.linalg.det(rotation)
    d1 = wigner_d(rotation[None], 1)[1][0]

    def blocks(turned: Structure) -> torch.Tensor:
        with torch.no_grad():
            return network(build_model_graph(network, turned, pairs, dtype=torch.float64))

    before = blocks(structure)
    for sign in (1, -1):
        matrix = sign * rotation.numpy()
        after = blocks(Structure(structure.symbols, structure.positions @ matrix.T, structure.cell @ matrix.T))
        one = torch.ones(1, 1, dtype=torch.float64)
        transform = {"H": one, "C": torch.block_diag(one, sign * d1)}
        start = 0
        for i, j in pairs[:, 3:]:
            left, right = transform[structure.symbols[i]], transform[structure.symbols[j]]
            size = len(left) * len(right)
            block, new = (x[start : start + size].view(len(left), len(right)) for x in (before, after))
            torch.testing.assert_close(new, left @ block @ right.T, atol=1e-10, rtol=0)
            start += size


@pytest.mark.parametrize("start", ["two-centre", "closed-form"])
@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_chunks_and_loading(spin: SpinMode, start: str, tmp_path: Path) -> None:
    network, description = fitted(spin, "float32", start)
    structure = toy_member(70, spin).structure
    pairs = pairs_within(structure, description.pair_cutoffs)
    with torch.no_grad():
        expected = network(build_model_graph(network, structure, pairs)).numpy()
    save_model(tmp_path, network, description)
    loaded, _ = load_model(tmp_path)
    found = predict_entries(loaded, structure, pairs, description, edges_per_chunk=3)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_predict_command_of_such_a_model(tmp_path: Path) -> None:
    network, description = fitted(SpinMode.NONE, "float32")
    save_model(tmp_path / "model", network, description)
    write_deeph(tmp_path / "target", toy_member(70))
    values = {"model": str(tmp_path / "model"), "structure": str(tmp_path / "target"), "strict": True}
    found = read_deeph(predict(PredictConfig(**values, output=str(tmp_path / "out"), edges_per_chunk=4)))
    assert found.hamiltonian is not None
    with torch.no_grad():
        expected = network(build_model_graph(network, found.structure, found.hamiltonian.atom_pairs)).numpy()
    np.testing.assert_allclose(found.hamiltonian.entries, expected, atol=2e-5)
