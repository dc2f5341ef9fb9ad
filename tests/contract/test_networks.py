"""What every registered network keeps: rotations, inversion, translation, order of atoms and pairs, batches, chunks,
storage, and trainings that learn, can be interrupted and shared by processes. A toy that somebody adds in three places
(a file, a configuration class, a line) is among them.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError, Interrupted
from aiida_deeph.engine.graph.build import HamiltonianGraph
from aiida_deeph.engine.graph.wigner import wigner_d
from aiida_deeph.engine.io.dataset import load_member, read_manifest
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.nn.config import ENTRY_POINTS, NETWORKS, network_config
from aiida_deeph.engine.nn.network import Network, build_model_graph, build_network
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.chunked import predict_entries
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import predict
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.run import train
from tests.contract import toy_network
from tests.engine.nn.systems import BASIS, CUTOFF, random_network, random_structure, small_settings
from tests.engine.training.toy import write_toy_dataset

NAMES = [name for name in NETWORKS if name != "tiny"]  # of the tests of training, which knows no rotations
TRAINED = [name for name in NAMES if name != "deephe3-set"]  # a set is imported
SPINS = [SpinMode.NONE, SpinMode.NONCOLLINEAR]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


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


# -- trainings ---------------------------------------------------------------------------------------------------------


def train_config(name: str, dataset: Path, **changes: Any) -> TrainConfig:
    values = {
        "network": {**small_settings(name), "name": name},
        "learning_rate": 1e-2,
        "device": "cpu",
        "threads": 1,
        "epochs": 3,
    }
    values |= {"split": {"train": 0.67, "validation": 0.33, "test": 0.0}, "precision": "float64", "revert": None}
    return TrainConfig.model_validate({"dataset": str(dataset), **values, **changes})


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in ("epoch", "train_loss", "validation_loss")} for row in rows]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy"), range(3))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_by_heart(name: str, tmp_path: Path) -> None:
    """What is left is a hundredth of <|H|^2>; a network that is fitted in closed form has one epoch, which changes
    nothing."""
    dataset = write_toy_dataset(tmp_path / "dataset", range(2))
    split = {"train": 1.0, "validation": 0.0, "test": 0.0}
    changes = {"epochs": 60, "learning_rate": 0.03, "scheduler": {"name": "cosine"}, "split": split}
    report = train(train_config(name, dataset, **changes), tmp_path, quiet=True)
    network, _ = load_model(tmp_path / "model", dtype=torch.float64)
    assert (report["reason"], report["epochs"]) == (("epochs", 60) if network.trainable else ("fitted", 1))
    data = load_member(dataset, read_manifest(dataset).members[0])
    errors = entries(network, data.structure, data.hamiltonian.atom_pairs) - data.hamiltonian.entries
    assert float((errors**2).mean()) < 0.01 * float((data.hamiltonian.entries**2).mean())


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Folder of a training by one process."""

    @cache
    def trained(name: str, batch_size: int) -> Path:
        folder = tmp_path_factory.mktemp("alone")
        train(train_config(name, dataset, batch_size=batch_size), folder, quiet=True)
        return folder

    return trained


@pytest.mark.parametrize("name", TRAINED)
def test_interrupted_is_uninterrupted(
    name: str, dataset: Path, alone: Callable[[str, int], Path], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"max_seconds": 1e-9}
    for attempt in range(10):
        try:
            train(train_config(name, dataset, **changes), tmp_path, quiet=True)
            break
        except Interrupted:
            changes = {"restart": str(tmp_path / "checkpoint"), **({"max_seconds": 1e-9} if attempt < 2 else {})}
    assert rows_of(tmp_path) == rows_of(alone(name, 1))
    first, second = (load_model(folder / "model")[0].state_dict() for folder in (tmp_path, alone(name, 1)))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.fixture(scope="module")
def together(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder by name: all networks trained by the same two processes, one after the other."""
    folder = tmp_path_factory.mktemp("together")
    for name in TRAINED:
        (folder / name).mkdir()
        train_config(name, dataset).write(folder / name / "config.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, toy_network.__file__, *(str(folder / name) for name in TRAINED)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_learn_what_one_does(name: str, together: Path, alone: Callable[[str, int], Path]) -> None:
    """With a batch of two members: each process has one, also of what is fitted before."""
    assert json.loads((together / name / "train.json").read_text())["world_size"] == 2
    for row, expected in zip(rows_of(together / name), rows_of(alone(name, 2)), strict=True):
        assert row == pytest.approx(expected, rel=1e-6)


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
