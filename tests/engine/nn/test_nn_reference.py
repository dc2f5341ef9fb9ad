"""Checkpoints of the reference code: parity with its own predictions, round trip, and refusal of anything odd."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import match_pairs
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy
from aiida_deeph.engine.io.model import read_description
from aiida_deeph.engine.nn.deephe3.network import Architecture, DeepHE3
from aiida_deeph.engine.nn.network import build_model_graph
from aiida_deeph.engine.nn.reference.conventions import FLIPPED, detect_versions
from aiida_deeph.engine.nn.reference.convert import export_reference, import_reference, reference_arguments
from aiida_deeph.engine.nn.reference.files import read_arguments, read_reference, write_reference
from aiida_deeph.engine.nn.reference.weights import state_dict
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.chunked import predict_entries
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import predict
from tests.engine.nn.oracle import Oracle, entries_of
from tests.engine.nn.systems import random_network, random_structure

FIXTURES = {"water_small_e3nn035": "0.3", "mote2_small_e3nn060": "0.5", "bnsoc_small_e3nn060": "0.5"}


def prediction_of_reference(folder: Path, name: str, scratch: Path) -> RealSpaceHamiltonian:
    """The reference's prediction beside the structure that it is for."""
    target = scratch / name
    target.mkdir()
    for file in (folder / "dataset" / name).iterdir():
        if file.suffix != ".h5":
            shutil.copyfile(file, target / file.name)
    shutil.copyfile(folder / "pred" / name / "hamiltonians_pred.h5", target / "hamiltonians_pred.h5")
    return read_legacy(target, hamiltonian_file="hamiltonians_pred.h5")


@pytest.mark.parametrize("fixture", FIXTURES)
def test_predictions_are_those_of_the_reference(fixture: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "fixtures" / "deeph-e3-reference" / fixture
    description = import_reference([folder / "model"], tmp_path / "model")
    assert description.origin["e3nn"] == FIXTURES[fixture]
    network, description = load_model(tmp_path / "model")
    for path in sorted((folder / "dataset").iterdir()):
        expected = prediction_of_reference(folder, path.name, tmp_path)
        matrix = expected.hamiltonian
        assert matrix is not None
        found = predict_entries(network, expected.structure, matrix.atom_pairs, description)
        assert np.abs(found - matrix.entries).max() <= 2e-5
        assert np.abs(matrix.entries).max() > 1


def test_predict_command_takes_the_pairs_of_the_structure(shared: Path, tmp_path: Path) -> None:
    folder = shared / "fixtures" / "deeph-e3-reference" / "bnsoc_small_e3nn060"
    import_reference([folder / "model"], tmp_path / "model")
    config = PredictConfig(
        model=str(tmp_path / "model"),
        structure=str(folder / "dataset" / "000"),
        output=str(tmp_path / "prediction"),
        strict=True,
        threads=1,
    )
    found = read_deeph(predict(config, show_progress=False)).hamiltonian
    expected = prediction_of_reference(folder, "000", tmp_path).grouped()[0].hamiltonian
    assert found is not None
    assert expected is not None
    assert len(found) == len(expected)
    rows = match_pairs(found.atom_pairs, expected.atom_pairs)
    assert np.abs(found.selected(rows).entries - expected.entries).max() <= 2e-5
    bare = config.model_copy(update={"structure": str(tmp_path / "prediction" / "POSCAR")})
    with pytest.raises(InputError, match="range of the model is not known"):
        predict(bare, show_progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fixture", FIXTURES)
def test_float64_is_the_plain_network(fixture: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "fixtures" / "deeph-e3-reference" / fixture
    import_reference([folder / "model"], tmp_path / "model")
    network, description = load_model(tmp_path / "model", dtype=torch.float64)
    data = read_legacy(min((folder / "dataset").iterdir()))
    assert data.hamiltonian is not None
    pairs = data.hamiltonian.atom_pairs
    graph = build_model_graph(network, data.structure, pairs, dtype=torch.float64)
    model = read_reference(folder / "model")
    blocks = [(target.l1, target.l2) for target in network.layout.targets]
    spinful = model.spin is not SpinMode.NONE
    oracle = Oracle(model.arguments, model.state, blocks, spinful, FIXTURES[fixture])
    vectors = torch.from_numpy(data.structure.pair_vectors(pairs))
    values = oracle.blocks_of_edges(graph.species, torch.from_numpy(pairs[:, 3:].T.copy()), vectors)
    expected = entries_of(values, network.layout, data.structure.symbols, pairs)
    with torch.no_grad():
        assert (network(graph) - expected).abs().max() <= 1e-6
    assert description.network == "deephe3"


@pytest.mark.parametrize("fixture", FIXTURES)
def test_export_holds_the_same_tensors(fixture: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "fixtures" / "deeph-e3-reference" / fixture / "model"
    import_reference([folder], tmp_path / "model")
    export_reference(tmp_path / "model", tmp_path / "export")
    original = torch.load(folder / "best_model.pkl", weights_only=True)["state_dict"]
    exported = torch.load(tmp_path / "export" / "best_model.pkl", weights_only=True)["state_dict"]
    assert set(original) == set(exported)
    for name, value in original.items():
        assert value.shape == exported[name].shape, name
        if not name.startswith("lin_node"):  # trained by no loss, used by nobody
            assert torch.allclose(value, exported[name], rtol=1e-6, atol=2e-7), name
    ours, theirs = (read_arguments(path / "src" / "build_model.py") for path in (tmp_path / "export", folder))
    assert {**theirs, **ours} == {**ours, **theirs}


@pytest.mark.parametrize("version", ["0.3", "0.4", "0.5"])
def test_round_trip_through_another_convention(version: str, tmp_path: Path) -> None:
    network, description = random_network(
        SpinMode.NONCOLLINEAR, dtype=torch.float32, normalization="element", n_blocks=1
    )
    save_model(tmp_path / "model", network, description)
    export_reference(tmp_path / "model", tmp_path / "export", e3nn=version)
    again = import_reference([tmp_path / "export"], tmp_path / "again")
    assert again.origin["e3nn"] == version
    assert again.architecture["path_normalization"] == ("path" if version == "0.3" else "element")
    structure = random_structure()
    pairs = np.array([[0, 0, 0, i, j] for i in range(5) for j in range(5)])
    results = []
    for folder in ("model", "again"):
        loaded, found = load_model(tmp_path / folder, dtype=torch.float64)
        results.append(predict_entries(loaded, structure, pairs, found, dtype=torch.float64))
    assert np.abs(results[0] - results[1]).max() <= 1e-5 * np.abs(results[0]).max()


def write_small(folder: Path, **change: Any) -> tuple[DeepHE3, dict[str, torch.Tensor]]:
    """A small model as a folder of the reference."""
    network, description = random_network(dtype=torch.float32, n_blocks=1)
    architecture = Architecture.model_validate(description.architecture)
    state = state_dict(network, architecture, "0.3")
    arguments = {**reference_arguments(network, architecture), **change}
    write_reference(folder, arguments, description.orbital_basis, description.spin, architecture.targets, state)
    return network, state


def test_disjoint_targets_merge(tmp_path: Path) -> None:
    whole, description = random_network(dtype=torch.float64, n_blocks=1)
    layout: EntryLayout = whole.layout
    structure = random_structure()
    pairs = np.array([[0, 0, 0, i, j] for i in range(5) for j in range(5)])
    parts = {
        "a": [n for n in range(len(layout.targets)) if n % 3 == 0],
        "b": [n for n in range(len(layout.targets)) if n % 3],
    }
    expected = None
    for name, chosen in parts.items():
        targets = tuple(layout.targets[n].as_json() for n in chosen)
        architecture = Architecture.model_validate({**description.architecture, "targets": targets})
        torch.manual_seed(len(chosen))
        network = DeepHE3(architecture, EntryLayout.of(layout.basis, layout.spin, targets))
        state = state_dict(network, architecture, "0.3")
        arguments = reference_arguments(network, architecture)
        write_reference(tmp_path / name, arguments, layout.basis, layout.spin, architecture.targets, state)
        values = predict_entries(network.double(), structure, pairs, description, dtype=torch.float64)
        expected = values if expected is None else expected + values  # entries of other targets are zero
    with pytest.raises(DataError, match="does not predict all of the Hamiltonian"):
        import_reference([tmp_path / "a"], tmp_path / "model")
    with pytest.raises(DataError, match="two targets"):
        import_reference([tmp_path / "a", tmp_path / "a"], tmp_path / "model")
    import_reference([tmp_path / "a", tmp_path / "b"], tmp_path / "model")
    merged, description = load_model(tmp_path / "model", dtype=torch.float64)
    assert description.network == "deephe3-set"
    found = predict_entries(merged, structure, pairs, description, dtype=torch.float64)
    with torch.no_grad():
        direct = merged(build_model_graph(merged, structure, pairs, dtype=torch.float64))
    assert np.abs(found - expected).max() <= 1e-6
    assert np.abs(direct.numpy() - found).max() <= 1e-12
    folders = export_reference(tmp_path / "model", tmp_path / "export")
    assert [path.name for path in folders] == ["part-0", "part-1"]


class Payload:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("the payload ran",))


@pytest.mark.parametrize(
    "damage",
    [
        "pickle",
        "truncated",
        "no state",
        "code",
        "syntax",
        "positional",
        "option",
        "json",
        "missing tensor",
        "shape",
        "targets",
        "empty",
    ],
)
def test_hostile_or_broken_folders_are_refused_in_one_line(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "source"
    _, state = write_small(folder, **({"use_sbf": True} if damage == "option" else {}))
    checkpoint, source = folder / "best_model.pkl", folder / "src" / "build_model.py"
    text = source.read_text()
    if damage == "pickle":
        torch.save({"state_dict": state, "evil": Payload()}, checkpoint)
    elif damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    elif damage == "no state":
        checkpoint.write_bytes(pickle.dumps({"weights": 1}))
    elif damage == "code":
        source.write_text(text.replace("num_species=2", "num_species=print('the payload ran')"))
    elif damage == "syntax":
        source.write_text(text + "\n)")
    elif damage == "positional":
        source.write_text("net = Net(2)\n")
    elif damage == "json":
        (folder / "src" / "dataset_info.json").write_text("{")
    elif damage == "missing tensor":
        torch.save({"state_dict": {k: v for k, v in state.items() if k != "lin_edge.weight"}}, checkpoint)
    elif damage == "shape":
        torch.save({"state_dict": {**state, "lin_edge.weight": torch.zeros(7)}}, checkpoint)
    elif damage == "targets":
        (folder / "src" / "target_blocks.json").write_text(json.dumps([{"6 6": [0, 9]}]))
    elif damage == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    with pytest.raises(DeepHError) as error:
        import_reference([folder], tmp_path / "model")
    assert "\n" not in str(error.value)
    assert "the payload ran" not in capsys.readouterr().out
    assert not (tmp_path / "model").exists()


def test_version_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    _, state = write_small(tmp_path / "source")
    bare = {name: value for name, value in state.items() if "_w3j_" not in name}
    with pytest.raises(InputError, match="--e3nn"):
        detect_versions(bare, "here")
    natural = {
        name: value
        for name, value in state.items()
        if not name.endswith(tuple("_".join(map(str, ls)) for ls in FLIPPED))
    }
    assert detect_versions(natural, "here") == ("0.3",)
    renamed = {
        name.replace("_compiled_main_out", "_compiled_main_left_right"): v
        for name, v in natural.items()
        if "main_right" not in name
    }
    assert detect_versions(renamed, "here") == ("0.4", "0.5")
    torch.save({"state_dict": bare}, tmp_path / "source" / "best_model.pkl")
    import_reference([tmp_path / "source"], tmp_path / "model", e3nn="0.3")
    assert read_description(tmp_path / "model").origin["e3nn"] == "0.3"


def test_checkpoint_may_hold_numpy_numbers(tmp_path: Path) -> None:
    _, state = write_small(tmp_path / "source")
    checkpoint = {
        "epoch": 7,
        "val_loss": np.float64(0.25),
        "state_dict": state,
        "scheduler_state_dict": {"best": np.float32(1)},
    }
    torch.save(checkpoint, tmp_path / "source" / "best_model.pkl")
    description = import_reference([tmp_path / "source"], tmp_path / "model")
    assert description.metrics == {"validation_loss": 0.25}
    assert description.origin["epochs"] == [7]


def test_commands(tmp_path: Path) -> None:
    write_small(tmp_path / "source")
    arguments = ["import-reference", str(tmp_path / "source"), str(tmp_path / "model"), "--cutoff", "4.5"]
    result = CliRunner().invoke(engine, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "e3nn 0.3" in result.output
    assert read_description(tmp_path / "model").pair_cutoffs == {"C-C": 4.5, "C-O": 4.5, "O-O": 4.5}
    arguments = ["export-reference", str(tmp_path / "model"), str(tmp_path / "export"), "--e3nn", "0.5"]
    assert CliRunner().invoke(engine, arguments, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "export" / "src" / "build_model.py").is_file()
