"""DeepH-E3 keeps its constants in float64 and out of the weights; unknown networks and elements are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.nn.network import Network, build_model_graph, build_network
from aiida_deeph.engine.prediction.chunked import predict_entries
from tests.engine.nn.systems import BASIS, CUTOFF, random_network, random_structure


def entries(network: Network, structure: Structure, pairs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(build_model_graph(network, structure, pairs, dtype=torch.float64)).numpy()


def test_no_constants_among_the_weights() -> None:
    network, _ = random_network()
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_precision_can_be_changed_without_loss() -> None:
    """Constants such as 3j symbols are kept in float64, whatever the network was built or has run in."""
    network, _ = random_network(dtype=torch.float32)
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    first = entries(network.double(), structure, pairs)
    again = entries(network.float().double(), structure, pairs)
    assert np.array_equal(first, again)
    rotation = Rotation.random(random_state=0).as_matrix()
    turned = Structure(structure.symbols, structure.positions @ rotation.T, structure.cell @ rotation.T)
    rows = BASIS.orbitals_per_atom(structure.symbols)
    norms = [BlockSparseMatrix.from_pairs(pairs, rows, entries(network, s, pairs)) for s in (structure, turned)]
    squares = [np.add.reduceat(matrix.entries**2, matrix.chunk_boundaries[:-1]) for matrix in norms]
    assert np.allclose(squares[0], squares[1], rtol=1e-11)


def test_unknown_network_and_elements_are_refused() -> None:
    network, description = random_network()
    with pytest.raises(InputError, match="unknown network"):
        build_network(description.model_copy(update={"network": "transformer"}))
    structure = Structure(("Fe",), np.zeros((1, 3)), np.eye(3) * 5)
    with pytest.raises(InputError, match="Fe"):
        predict_entries(network, structure, np.zeros((1, 5), dtype=np.int64), description)
