"""Networks that average both directions of every pair, and blocks on the atoms standardised by element."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.nn.deephe3.config import OnSiteDeepHE3Config
from aiida_deeph.engine.nn.hermitian import hermitian_average, partner_entries
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.nn.reference.convert import export_reference
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import predict
from aiida_deeph.engine.training.data import GraphSettings, labelled_graph
from tests.engine.nn.systems import BASIS, CUTOFF, random_network, random_structure
from tests.engine.nn.test_nn_residual import CUTOFFS, SMALL
from tests.engine.training.toy import BASIS as TOY_BASIS
from tests.engine.training.toy import toy_member

SPINS = [SpinMode.NONE, SpinMode.NONCOLLINEAR]
NAMES = ["deephe3", "deephe3-residual", "deephe3-on-site"]


@pytest.mark.parametrize("spin", SPINS)
@pytest.mark.parametrize("name", NAMES)
def test_hermitian_network_gives_the_hermitian_part(name: str, spin: SpinMode) -> None:
    """Of one structure, and of two in a batch whose graphs were prepared or not."""
    network, description = random_network(spin, name=name, hermitian=True)
    plain = {**description.architecture}
    if name == "deephe3":
        plain["hermitian"] = False
    else:
        plain["network"] = {**plain["network"], "hermitian": False}
    free = build_network(description.model_copy(update={"architecture": plain})).double()
    free.load_state_dict(network.state_dict())
    structures = [random_structure(seed) for seed in (0, 1)]
    pairs = [pairs_within(structure, CUTOFF) for structure in structures]
    expected = []
    for structure, own in zip(structures, pairs, strict=True):
        rows = BASIS.orbitals_per_atom(structure.symbols) * spin.multiplicity
        with torch.no_grad():
            raw = free(build_model_graph(free, structure, own, dtype=torch.float64)).numpy()
        matrix = BlockSparseMatrix.from_pairs(own, rows, raw)
        assert matrix.hermiticity_error() > 1e-3
        expected.append(matrix.hermitian_part().entries)

    def graphs() -> list:
        return [
            build_model_graph(network, structure, own, dtype=torch.float64)
            for structure, own in zip(structures, pairs, strict=True)
        ]

    with torch.no_grad():
        np.testing.assert_allclose(network(graphs()[0]).numpy(), expected[0], atol=1e-12)
        for batch in (
            Batch.from_data_list(graphs()),
            Batch.from_data_list([network.prepare(graph) for graph in graphs()]),
        ):
            np.testing.assert_allclose(network(batch).numpy(), np.concatenate(expected), atol=1e-12)


@pytest.mark.parametrize("spin", SPINS)
def test_gradient_of_the_average(spin: SpinMode) -> None:
    network, _ = random_network(spin, hermitian=True)
    structure = random_structure(n_atoms=2)
    graph = build_model_graph(network, structure, pairs_within(structure, 2.0), dtype=torch.float64)
    partner = partner_entries(network.layout, graph)
    assert torch.equal(partner[partner], torch.arange(len(partner)))
    entries = torch.randn(len(partner), dtype=torch.complex128 if spin is not SpinMode.NONE else torch.float64)
    assert torch.autograd.gradcheck(hermitian_average, (entries.requires_grad_(), partner))


def test_pairs_in_one_direction_are_refused() -> None:
    network, _ = random_network(hermitian=True)
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    graph = build_model_graph(network, structure, pairs[pairs[:, 3] <= pairs[:, 4]], dtype=torch.float64)
    with pytest.raises(DataError, match="pair without its reverse"):
        network(graph)


def test_prediction_of_a_hermitian_model(tmp_path: Path) -> None:
    """Strict or not, in chunks: what the network gives. The reference code has no such network."""
    network, description = random_network(hermitian=True, dtype=torch.float32)
    save_model(tmp_path / "model", network, description)
    write_structure(tmp_path / "target.xyz", random_structure())
    values = {"model": str(tmp_path / "model"), "structure": str(tmp_path / "target.xyz"), "edges_per_chunk": 7}
    for strict in (True, False):
        output = str(tmp_path / f"out-{strict}")
        found = read_deeph(predict(PredictConfig(**values, output=output, strict=strict, device="cpu")))
        with torch.no_grad():
            expected = network(build_model_graph(network, found.structure, found.hamiltonian.atom_pairs)).numpy()
        np.testing.assert_allclose(found.hamiltonian.entries, expected, atol=2e-5)
        assert found.hamiltonian.hermiticity_error() == 0
    with pytest.raises(InputError, match="no counterpart in the reference code"):
        export_reference(tmp_path / "model", tmp_path / "reference")


@pytest.mark.parametrize("spin", SPINS)
def test_blocks_on_atoms_are_standardised(spin: SpinMode, tmp_path: Path) -> None:
    """Noise on the atoms' blocks: its spread is the scale, the mean of s-s and the trace of p-p the base."""
    torch.manual_seed(5)
    description = describe_network(OnSiteDeepHE3Config(**SMALL), TOY_BASIS, spin, CUTOFFS)
    network = build_network(description).double()
    settings = GraphSettings.of_network(network, "float64")
    graphs = [labelled_graph(toy_member(seed, spin), settings) for seed in range(40)]
    for graph in graphs:
        graph.label += 0.05 * torch.randn_like(graph.label)
    network.fit(graphs)
    save_model(tmp_path, network, description)
    loaded, _ = load_model(tmp_path, dtype=torch.float64)
    graph = loaded.prepare(labelled_graph(toy_member(50, spin), settings))
    rows = TOY_BASIS.orbitals_per_atom(toy_member(50).structure.symbols) * spin.multiplicity
    base = BlockSparseMatrix.from_pairs(graph.atom_pairs.numpy(), rows, graph.base.numpy())
    scale = BlockSparseMatrix.from_pairs(graph.atom_pairs.numpy(), rows, graph.scale.numpy())
    zero = np.zeros(3, dtype=np.int64)
    on_carbon = np.kron(np.eye(spin.multiplicity), np.diag([-10.0, -4.0, -4.0, -4.0]))
    np.testing.assert_allclose(base.block(zero, 0, 0), on_carbon, atol=0.03)
    np.testing.assert_allclose(base.block(zero, 2, 2), -6.0 * np.eye(spin.multiplicity), atol=0.03)
    # The toy H with spin has further elements of 0.3 eV between p orbitals on carbon.
    assert 0.03 < scale.block(zero, 0, 0)[0, 0] < 0.08 and 0.03 < scale.block(zero, 2, 2)[0, 0] < 0.08
    assert not base.block(zero, 0, 1).any() and (scale.block(zero, 0, 1) == 1).all()
