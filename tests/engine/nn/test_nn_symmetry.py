"""Every registered network: rotations, inversion, translation, order of atoms and pairs, batches, chunks, storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.wigner import wigner_d
from aiida_deeph.engine.nn.network import build_model_graph, build_network
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.chunked import predict_entries
from tests.engine.nn.systems import BASIS, CUTOFF, random_network, random_structure

TRAINED = ["deephe3"]
SPINS = [SpinMode.NONE, SpinMode.NONCOLLINEAR]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def entries(
    network: torch.nn.Module, structure: Structure, pairs: np.ndarray, dtype: torch.dtype = torch.float64
) -> np.ndarray:
    with torch.no_grad():
        return network(build_model_graph(network, structure, pairs, dtype=dtype)).numpy()


def spin_rotation(rotation: np.ndarray) -> np.ndarray:
    """The matrix of SU(2) of a rotation, basis up and down."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([[w - 1j * z, -y - 1j * x], [y - 1j * x, w + 1j * z]])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("inversion", [1, -1])
@pytest.mark.parametrize("spin", SPINS)
@pytest.mark.parametrize("name", TRAINED)
def test_hamiltonian_turns_with_the_structure(name: str, spin: SpinMode, inversion: int, dtype: torch.dtype) -> None:
    network, _ = random_network(spin, name=name, dtype=dtype, irreps_mid="6x0e+3x0o+4x1o+3x1e+3x2e+2x3o")
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    rotation = Rotation.random(random_state=3).as_matrix()
    turn = inversion * rotation
    turned = Structure(structure.symbols, structure.positions @ turn.T + 0.7, structure.cell @ turn.T)
    rows = BASIS.orbitals_per_atom(structure.symbols) * spin.multiplicity
    first = BlockSparseMatrix.from_pairs(pairs, rows, entries(network, structure, pairs, dtype).astype(spin.dtype))
    second = BlockSparseMatrix.from_pairs(pairs, rows, entries(network, turned, pairs, dtype).astype(spin.dtype))
    d = [matrix[0].numpy() * inversion**l for l, matrix in enumerate(wigner_d(torch.from_numpy(rotation)[None], 2))]
    on_atom = {}
    for symbol, shells in BASIS.shells.items():
        spatial = scipy.linalg.block_diag(*[d[l] for l in shells])
        on_atom[symbol] = spatial if spin is SpinMode.NONE else np.kron(spin_rotation(rotation), spatial)
    scale = np.abs(first.entries).max()
    for *cell, i, j in pairs:
        u, v = on_atom[structure.symbols[i]], on_atom[structure.symbols[j]]
        difference = u @ first.block(cell, i, j) @ v.conj().T - second.block(cell, i, j)
        assert np.abs(difference).max() <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize("name", TRAINED)
def test_order_of_atoms_and_pairs_does_not_matter(name: str) -> None:
    network, _ = random_network(name=name)
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(structure))
    moved = pairs.copy()
    moved[:, 3:] = np.argsort(order)[pairs[:, 3:]]
    shuffle = rng.permutation(len(pairs))
    rows = BASIS.orbitals_per_atom(structure.symbols)
    expected = BlockSparseMatrix.from_pairs(pairs, rows, entries(network, structure, pairs)).selected(shuffle)
    found = entries(network, structure.permuted(order), moved[shuffle])
    assert np.abs(found - expected.entries).max() <= 1e-12 * np.abs(found).max()


@pytest.mark.parametrize("name", TRAINED)
def test_supercell_repeats_the_cell(name: str) -> None:
    """Means over the structure are those of the cell, so that a larger cell of the same crystal has the same blocks."""
    network, _ = random_network(name=name)
    structure = random_structure()
    n = len(structure)
    double = Structure(
        structure.symbols * 2,
        np.concatenate([structure.positions, structure.positions + structure.cell[0]]),
        structure.cell * [[2], [1], [1]],
    )
    small, large = pairs_within(structure, CUTOFF), pairs_within(double, CUTOFF)
    rows = BASIS.orbitals_per_atom(structure.symbols)
    cell = BlockSparseMatrix.from_pairs(small, rows, entries(network, structure, small))
    found = BlockSparseMatrix.from_pairs(large, np.tile(rows, 2), entries(network, double, large))
    for (a, b, c, i, j), start, stop in zip(large, found.chunk_boundaries, found.chunk_boundaries[1:], strict=False):
        expected = cell.block((2 * a + j // n - i // n, b, c), i % n, j % n)
        assert np.allclose(found.entries[start:stop], expected.ravel(), atol=1e-11)


@pytest.mark.parametrize("spin", SPINS)
@pytest.mark.parametrize("name", TRAINED)
def test_a_batch_is_its_graphs(name: str, spin: SpinMode) -> None:
    network, _ = random_network(spin, name=name)
    graphs = []
    for seed, n_atoms in enumerate((4, 6, 3)):
        structure = random_structure(seed, n_atoms)
        graphs.append(build_model_graph(network, structure, pairs_within(structure, CUTOFF), dtype=torch.float64))
    with torch.no_grad():
        expected = torch.cat([network(graph) for graph in graphs])
        found = network(Batch.from_data_list(graphs))
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("edges_per_chunk", [1, 13, 100_000])
@pytest.mark.parametrize("spin", SPINS)
@pytest.mark.parametrize("name", TRAINED)
def test_chunks_are_exact(name: str, spin: SpinMode, edges_per_chunk: int) -> None:
    network, description = random_network(spin, name=name)
    structure = random_structure(1, 6)
    pairs = np.random.default_rng(0).permutation(pairs_within(structure, CUTOFF))
    expected = entries(network, structure, pairs)
    found = predict_entries(
        network, structure, pairs, description, edges_per_chunk=edges_per_chunk, dtype=torch.float64
    )
    assert np.abs(found - expected).max() <= 1e-11 * np.abs(expected).max()
    single = predict_entries(network.float(), structure, pairs, description, edges_per_chunk=edges_per_chunk)
    assert np.abs(single - expected).max() <= 1e-5 * np.abs(expected).max()
    assert single.dtype == (np.float32 if spin is SpinMode.NONE else np.complex64)


@pytest.mark.parametrize("spin", SPINS)
@pytest.mark.parametrize("name", TRAINED)
def test_graph_may_lack_what_is_precomputed(name: str, spin: SpinMode) -> None:
    network, _ = random_network(spin, name=name)
    structure = random_structure()
    graph = build_model_graph(
        network, structure, np.random.default_rng(0).permutation(pairs_within(structure, CUTOFF)), dtype=torch.float64
    )
    with torch.no_grad():
        expected = network(graph)
        del graph.wigner, graph.entry_index
        assert torch.equal(network(graph), expected)


@pytest.mark.parametrize("name", TRAINED)
def test_saved_models_come_back(name: str, tmp_path: Path) -> None:
    network, description = random_network(name=name, dtype=torch.float32)
    saved = save_model(tmp_path / "model", network, description)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "weights.safetensors"]
    loaded, found = load_model(tmp_path / "model")
    assert found == saved
    assert not loaded.training
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    assert np.array_equal(
        entries(loaded, structure, pairs, torch.float32), entries(network, structure, pairs, torch.float32)
    )
    assert set(loaded.state_dict()) == {name for name, _ in loaded.named_parameters()}  # no constants among the weights
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match="weights do not belong"):
        load_model(tmp_path / "model")


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
