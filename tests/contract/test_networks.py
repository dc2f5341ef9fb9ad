"""What every registered network keeps: rotations, inversion, translation, order of atoms and pairs, batches, chunks,
storage; their trainings have a file of their own. A toy that somebody adds in three places (a file, a configuration
class, a line) is among them.
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch

import aiida_deeph
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.wigner import wigner_d
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.nn.config import DEFAULT, ENTRY_POINTS, NETWORKS, located, network_config
from aiida_deeph.engine.nn.network import build_model_graph, build_network
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.chunked import predict_entries
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import predict
from aiida_deeph.engine.training.config import TrainConfig
from tests.contract import toy_network
from tests.contract.networks import NAMES, SPINS, TRAINED, entries, some_network
from tests.engine.nn.systems import BASIS, CUTOFF, random_structure

ROOT = Path(aiida_deeph.__file__).parent
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def spin_rotation(rotation: np.ndarray) -> np.ndarray:
    """The matrix of SU(2) of a rotation, basis up and down."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([[w - 1j * z, -y - 1j * x], [y - 1j * x, w + 1j * z]])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("inversion", [1, -1])
@pytest.mark.parametrize("spin", SPINS)
@pytest.mark.parametrize("name", NAMES)
def test_hamiltonian_turns_with_the_structure(name: str, spin: SpinMode, inversion: int, dtype: torch.dtype) -> None:
    network, _ = some_network(name, spin, dtype=dtype, irreps_mid="6x0e+3x0o+4x1o+3x1e+3x2e+2x3o")
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


@pytest.mark.parametrize("name", NAMES)
def test_order_of_atoms_and_pairs_does_not_matter(name: str) -> None:
    network, _ = some_network(name)
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


@pytest.mark.parametrize("name", NAMES)
def test_supercell_repeats_the_cell(name: str) -> None:
    """Means over the structure are those of the cell, so that a larger cell of the same crystal has the same blocks."""
    network, _ = some_network(name)
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
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_graphs(name: str, spin: SpinMode) -> None:
    network, _ = some_network(name, spin)
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
@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_exact(name: str, spin: SpinMode, edges_per_chunk: int) -> None:
    network, description = some_network(name, spin)
    structure = random_structure(1, 6)
    pairs = np.random.default_rng(0).permutation(pairs_within(structure, CUTOFF))
    expected = entries(network, structure, pairs)
    rows = BASIS.orbitals_per_atom(structure.symbols) * spin.multiplicity
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        found = predict_entries(
            network.to(dtype), structure, pairs, description, edges_per_chunk=edges_per_chunk, dtype=dtype
        )
        assert found.dtype == torch.empty(0, dtype=dtype if spin is SpinMode.NONE else dtype.to_complex()).numpy().dtype
        if network.hermitian:  # each direction is predicted by itself, the average is that of all predictions
            found = BlockSparseMatrix.from_pairs(pairs, rows, found).hermitian_part().aligned_to(pairs, rows).entries
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("spin", SPINS)
@pytest.mark.parametrize("name", NAMES)
def test_graph_may_lack_what_is_precomputed(name: str, spin: SpinMode) -> None:
    network, _ = some_network(name, spin)
    structure = random_structure()
    graph = build_model_graph(
        network, structure, np.random.default_rng(0).permutation(pairs_within(structure, CUTOFF)), dtype=torch.float64
    )
    with torch.no_grad():
        expected = network(graph)
        del graph.wigner, graph.entry_index
        assert torch.equal(network(graph), expected)


@pytest.mark.parametrize("name", NAMES)
def test_saved_models_come_back(name: str, tmp_path: Path) -> None:
    network, description = some_network(name, dtype=torch.float32)
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
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match="weights do not belong"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("name", NAMES)
def test_architecture_alone_makes_the_network_again(name: str) -> None:
    """As it stands in model.json: JSON types."""
    network, description = some_network(name)
    again = ModelDescription.model_validate_json(description.model_dump_json())
    copy = build_network(again).double()
    copy.load_state_dict(network.state_dict())
    structure = random_structure(2)
    pairs = pairs_within(structure, CUTOFF)
    assert np.array_equal(entries(copy, structure, pairs), entries(network, structure, pairs))


@pytest.mark.parametrize("name", TRAINED)
def test_configuration_is_found_by_name(name: str) -> None:
    config = TrainConfig.model_validate({"dataset": "-", "network": {"name": name}})
    assert type(config.network) is network_config(name)
    assert config.model_dump(mode="json")["network"] == config.network.model_dump(mode="json")
    with pytest.raises(InputError, match=r"network\..*no_such_field"):
        parse_config(TrainConfig, {"dataset": "-", "network": {"name": name, "no_such_field": 1}})


def test_networks_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point is enough: nothing of theirs is imported before its name is asked for."""
    own = EntryPoint("theirs", f"{toy_network.__name__}:ToyConfig", ENTRY_POINTS)
    monkeypatch.setattr(
        "aiida_deeph.engine.nn.config.entry_points", lambda group, name: {own.name: [own]}.get(name, [])
    )
    assert network_config("theirs") is toy_network.ToyConfig
    with pytest.raises(InputError, match=r"unknown network.*found ours; expected one of deephe3"):
        network_config("ours")


def test_a_network_is_named_in_its_folder_alone() -> None:
    """Whoever adds one edits `nn` and nothing else, there its folder and a line of the registry: at most three places.

    Checkpoints of the published codes are of chosen networks, and so is what the quickstart trains.
    """
    chosen = {"engine/cli/export_reference.py", "engine/nn/reference/convert.py", "engine/nn/reference/qhnet.py"}
    # The last stands on one that is fitted.
    chosen |= {"quickstart/settings.py", "quickstart/molecules.py", "engine/nn/deephe3/residual.py"}
    sources = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in ROOT.rglob("*.py")}
    asks = re.compile(r"(isinstance|hasattr|getattr)\((self\.)?_?network\b")
    assert {place for place, text in sources.items() if asks.search(text)} <= {
        f"engine/nn/reference/{name}.py" for name in ("convert", "qhnet", "qhnet_weights")
    }
    for name, entry in NETWORKS.items():
        if name == DEFAULT or not isinstance(entry, str):
            continue  # the default is named wherever one is chosen; toys are no product
        folder = located(entry).__module__.removeprefix("aiida_deeph.").rpartition(".")[0].replace(".", "/")
        places = {place for place, text in sources.items() if re.search(rf"[\"']{re.escape(name)}[\"']", text)}
        assert "engine/nn/config.py" in places
        assert {p for p in places if not p.startswith(f"{folder}/")} - chosen - {"engine/nn/deephe3/config.py"} == {
            "engine/nn/config.py"
        }


# -- what the seam makes possible ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deephe3", "deephe3-residual", toy_network.ToyConfig().name])
def test_messages_have_a_range_of_their_own(name: str) -> None:
    """An atom beyond the range of messages changes its own pairs, not those of the others; all pairs get entries."""
    network, description = some_network(name, message_cutoff=1.8)
    structure = random_structure(1, 6)
    pairs = pairs_within(structure, CUTOFF)
    whole = entries(network, structure, pairs)
    found = predict_entries(network, structure, pairs, description, edges_per_chunk=7, dtype=torch.float64)
    assert np.abs(found - whole).max() <= 1e-11 * np.abs(whole).max()
    graphs = [build_model_graph(network, s, pairs_within(s, CUTOFF), dtype=torch.float64) for s in (structure,) * 2]
    prepared = [network.prepare(graph) for graph in graphs]
    with torch.no_grad():
        both = network(Batch.from_data_list(prepared)).numpy()
    assert np.abs(both - np.tile(whole, 2)).max() <= 1e-11 * np.abs(whole).max()
    unlimited, _ = some_network(name)
    unlimited.load_state_dict(network.state_dict())
    assert np.abs(entries(unlimited, structure, pairs) - whole).max() > 1e-3 * np.abs(whole).max()


def test_all_pairs_of_a_molecule(tmp_path: Path) -> None:
    """However far apart, while messages keep their range; a periodic structure has no such pairs."""
    network, description = some_network("toy", dtype=torch.float32, message_cutoff=1.8, all_pairs=True)
    save_model(tmp_path / "model", network, description)
    cell = random_structure(0, 6)
    far = np.concatenate([cell.positions, cell.positions + np.array([20.0, 0, 0])])
    molecule = Structure(cell.symbols * 2, far, 60 * np.eye(3), (False, False, False))
    write_structure(tmp_path / "molecule.xyz", molecule)
    config = {"model": str(tmp_path / "model"), "structure": str(tmp_path / "molecule.xyz"), "device": "cpu"}
    folder = predict(PredictConfig(**config, output=str(tmp_path / "out"), edges_per_chunk=5))
    found = read_deeph(folder)
    assert len(found.hamiltonian) == len(molecule) ** 2
    assert (found.hamiltonian.atom_pairs[:, :3] == 0).all()
    pairs, atoms = found.hamiltonian.atom_pairs, found.structure  # in the order of the folder
    rows = BASIS.orbitals_per_atom(atoms.symbols)
    expected = BlockSparseMatrix.from_pairs(pairs, rows, entries(network, atoms, pairs, torch.float32))
    np.testing.assert_allclose(found.hamiltonian.entries, expected.hermitian_part().entries, atol=1e-5)
    with pytest.raises(InputError, match="periodic structure for a network of all pairs"):
        network.pairs(cell, description.pair_cutoffs)
