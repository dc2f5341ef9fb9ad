"""Checkpoints of the reference QHNet code: parity with its own numbers, round trip, and refusal of anything odd."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.io.model import read_description
from aiida_deeph.engine.nn.network import build_model_graph
from aiida_deeph.engine.nn.qhnet.network import QHNet
from aiida_deeph.engine.nn.reference.conventions import CONVENTIONS
from aiida_deeph.engine.nn.reference.qhnet import VARIANTS, export_qhnet, import_qhnet
from aiida_deeph.engine.nn.reference.qhnet_weights import state_dict
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.units import HARTREE_TO_EV
from tests.engine.nn.molecules import all_pairs, matrix, molecule

FIXTURES = {"water_md17fixed": ("md17-fixed", ("H", "O")), "mixed_qh9": ("qh9", ("H", "C", "O"))}
DEAD = (
    "tp_node_pair_2.weight",
    "linear_node_pair_2.",
    "expand_",
    "layer.0.conv.norm_gate.fc",
    "layer.0.conv.linear_no",
)


@pytest.fixture
def files(shared: Path) -> Path:
    """Folder of the fixtures."""
    return shared / "fixtures" / "qhnet"


def imported(files: Path, stem: str, folder: Path) -> QHNet:
    """The network of a checkpoint, float64."""
    variant, elements = FIXTURES[stem]
    import_qhnet(files / f"{stem}.pt", folder, variant=variant, elements=elements)
    network, _ = load_model(folder, dtype=torch.float64)
    assert isinstance(network, QHNet)
    return network


def state_of(file: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return state


def save(folder: Path, state: Any) -> Path:
    """A checkpoint file with a state dict."""
    folder.mkdir(exist_ok=True)
    torch.save({"state_dict": state, "eval": {}, "batch_idx": 0}, folder / "changed.pt")
    return folder / "changed.pt"


@torch.no_grad()
def entries_of(network: QHNet, numbers: Any, positions: Any) -> np.ndarray:
    """All entries of H, Hartree."""
    structure = molecule(numbers, positions)
    graph = build_model_graph(network, structure, all_pairs(len(numbers)), dtype=torch.float64)
    return network(graph).numpy() / HARTREE_TO_EV


@pytest.mark.parametrize("stem", FIXTURES)
def test_predictions_are_those_of_the_reference(stem: str, files: Path, tmp_path: Path) -> None:
    network = imported(files, stem, tmp_path / "model")
    data = np.load(files / f"predictions_{stem}.npz")
    for k in range(int(data["n_structures"])):
        numbers, positions = data[f"atomic_numbers_{k}"], data[f"positions_angstrom_{k}"]
        expected = matrix(molecule(numbers, positions), data[f"hamiltonian_hartree_{k}"]).entries
        np.testing.assert_allclose(entries_of(network, numbers, positions), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stem", FIXTURES)
@torch.no_grad()
def test_features_after_every_layer_are_those_of_the_reference(stem: str, files: Path, tmp_path: Path) -> None:
    network = imported(files, stem, tmp_path / "model")
    data = np.load(files / f"intermediates_{stem}.npz")
    structure = molecule(data["atomic_numbers"], data["positions_angstrom"])
    graph = build_model_graph(network, structure, all_pairs(3), dtype=torch.float64)
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.update({name: output[0] if isinstance(output, list) else output})

    for j in range(2):
        network.atoms[j].register_forward_hook(keep(f"atoms_{j}"))
        network.pairs_of_atoms[j].register_forward_hook(keep(f"pairs_{j}"))
    network.radial_basis.register_forward_hook(keep("radial"))
    updates: list[Tensor] = []
    for convolution in network.convolutions:
        update = convolution.update
        convolution.update = lambda *args, update=update: updates.append(update(*args)) or updates[-1]
    columns = network.columns(graph)
    receiver, sender = data["edges_receiver_sender"]
    # Our edges are sorted by receiver, then sender.
    order = np.lexsort((sender, receiver))

    def close(ours: Tensor, name: str, rows: Any = slice(None)) -> None:
        theirs = data[name][rows]
        channels = ours.shape[-1]
        if ours.dim() == 3:
            parts = np.split(theirs, np.cumsum([channels * (2 * l + 1) for l in range(4)]), axis=1)
            theirs = np.concatenate([p.reshape(len(p), channels, -1).transpose(0, 2, 1) for p in parts], axis=1)
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-12 * max(1, np.abs(theirs).max()))

    close(found["radial"], "radial_message_edges", order)
    for k in range(5):
        close(updates[k], f"node_features_after_layer_{k}")
    for j, sums in ((0, lambda kind: found[f"{kind}_0"]), (1, lambda kind: found[f"{kind}_0"] + found[f"{kind}_1"])):
        close(sums("atoms"), f"fii_after_layer_{3 + j}")
        close(sums("pairs"), f"fij_after_layer_{3 + j}", order)
    # Columns are 2 N, eV; of water's first hydrogen and oxygen the rows that the elements keep.
    n_ij = matrix(structure, np.zeros((24, 24)))
    assert len(columns) == len(n_ij) == 9
    kept = {1: [0, 1, 3, 4, 5], 8: list(range(14))}
    numbers = data["atomic_numbers"]
    for row, (i, j) in enumerate(all_pairs(3)[:, 3:]):
        own = np.flatnonzero((receiver == i) & (sender == j))
        block = data["N_ii"][i] if i == j else data["N_ij"][own[0]]
        table = network.layout.columns[structure.symbols[i], structure.symbols[j]]
        expected = block[np.ix_(kept[numbers[i]], kept[numbers[j]])].ravel()
        ours = columns[row, torch.from_numpy(table)].numpy() / (2 * HARTREE_TO_EV)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stem", FIXTURES)
def test_export_gives_the_same_state_dict(stem: str, files: Path, tmp_path: Path) -> None:
    imported(files, stem, tmp_path / "model")
    assert export_qhnet(tmp_path / "model", tmp_path / "export.pt") == FIXTURES[stem][0]
    ours, theirs = state_of(tmp_path / "export.pt"), state_of(files / f"{stem}.pt")
    assert set(ours) == set(theirs)
    rows = [{"H": 1, "C": 6, "O": 8}[symbol] for symbol in FIXTURES[stem][1]]
    compared = 0
    for name, value in theirs.items():
        assert ours[name].shape == value.shape and ours[name].dtype == value.dtype, name
        if not any(part in name for part in DEAD):
            pick = rows if name == "node_embedding.weight" else ...
            tolerance = 2e-7 if "_w3j_" in name else 0
            torch.testing.assert_close(ours[name][pick], value[pick], rtol=0, atol=tolerance)
            compared += value.numel()
    assert compared > 480_000


def test_variants_are_different_functions(files: Path, tmp_path: Path) -> None:
    data = np.load(files / "predictions_water_md17fixed.npz")
    found = {}
    for variant in ("md17", "md17-fixed"):
        import_qhnet(files / "water_md17fixed.pt", tmp_path / variant, variant=variant, elements=["H", "O"])
        network, _ = load_model(tmp_path / variant, dtype=torch.float64)
        found[variant] = entries_of(network, data["atomic_numbers_0"], data["positions_angstrom_0"])
        assert export_qhnet(tmp_path / variant, tmp_path / "export.pt") == variant
    assert np.abs(found["md17"] - found["md17-fixed"]).max() > 1e-3


def test_variant_without_biases(files: Path, tmp_path: Path) -> None:
    """Its layout, from that of the others: five layers in both lists of which two count, keys of no use, no biases."""
    state = {}
    for name, value in state_of(files / "water_md17fixed.pt").items():
        if ".linear_" in name and name.endswith(".bias"):
            value = torch.zeros(0)
        kind, _, rest = name.partition(".")
        if kind in ("e3_gnn_node_layer", "e3_gnn_node_pair_layer"):
            number, _, rest = rest.partition(".")
            for dead in range(3):
                state[f"{kind}.{dead}.{rest}"] = torch.full_like(value, 7.0)
            name = f"{kind}.{int(number) + 3}.{rest}"
        state[name] = value
    state["e3_gnn_layer.1.conv.of_no_use"] = torch.ones(3)
    file = save(tmp_path, state)
    import_qhnet(file, tmp_path / "model", variant="md17-wo-bias", elements=["H", "O"])
    network, _ = load_model(tmp_path / "model", dtype=torch.float64)
    plain = {
        name: torch.zeros_like(value) if ".linear_" in name and name.endswith(".bias") else value
        for name, value in state_of(files / "water_md17fixed.pt").items()
    }
    import_qhnet(save(tmp_path / "plain", plain), tmp_path / "other", variant="md17", elements=["H", "O"])
    other, _ = load_model(tmp_path / "other", dtype=torch.float64)
    positions = np.load(files / "predictions_water_md17fixed.npz")["positions_angstrom_0"]
    np.testing.assert_array_equal(entries_of(network, [8, 1, 1], positions), entries_of(other, [8, 1, 1], positions))


def test_old_signs_are_folded_into_the_weights(files: Path, tmp_path: Path) -> None:
    network = imported(files, "water_md17fixed", tmp_path / "model")
    old = state_dict(network, VARIANTS["md17-fixed"].length, CONVENTIONS["0.4"])
    new = state_of(files / "water_md17fixed.pt")
    changed = {
        name for name, value in old.items() if value.shape != (0,) and name in new and not torch.equal(value, new[name])
    }
    assert any(name.endswith(".tp.weight") for name in changed)
    assert any(".fc_node_pair.layer1" in name for name in changed) and "fc_ij.hamiltonian.2.weight" in changed
    description = import_qhnet(save(tmp_path, old), tmp_path / "again", variant="md17-fixed", elements=["H", "O"])
    assert description.origin["e3nn"] == "0.4"
    again, _ = load_model(tmp_path / "again", dtype=torch.float64)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_start_weights_without_tables(files: Path, tmp_path: Path) -> None:
    state = load_file(files / "water_md17fixed_initial.safetensors")
    with pytest.raises(InputError, match="--e3nn"):
        import_qhnet(save(tmp_path, state), tmp_path / "model", variant="md17-fixed", elements=["H", "O"])
    import_qhnet(save(tmp_path, state), tmp_path / "model", variant="md17-fixed", elements=["H", "O"], e3nn="0.5")
    assert read_description(tmp_path / "model").architecture["channels"] == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "qh9"}, "never trained"),
        ({"variant": "md18"}, "expected one of md17"),
        ({"elements": ["H", "Li"]}, "Li"),
        ({"elements": ["Ne"]}, "Ne"),
        ({"elements": []}, "found none"),
        ({"e3nn": "0.3"}, "0.4 or later"),
    ],
)
def test_refuses_what_contradicts_the_file(options: dict[str, Any], message: str, files: Path, tmp_path: Path) -> None:
    options = {"variant": "md17-fixed", "elements": ["H", "O"], **options}
    with pytest.raises(InputError, match=message):
        import_qhnet(files / "water_md17fixed.pt", tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_refuses_damaged_files(files: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"variant": "md17-fixed", "elements": ["H", "O"]}
    state = state_of(files / "water_md17fixed.pt")
    name = "e3_gnn_layer.2.conv.linear_out.weight"
    for change, message in (
        ({name: state[name][:-1]}, "linear_out"),
        ({"distance_expansion.logc": state["distance_expansion.logc"] + 1}, "radial basis"),
        ({"node_embedding.weight": torch.zeros(3)}, "not a checkpoint of QHNet"),
    ):
        with pytest.raises(DataError, match=message):
            import_qhnet(save(tmp_path, {**state, **change}), tmp_path / "model", **options)
    missing = {key: value for key, value in state.items() if key != name}
    with pytest.raises(DataError, match="found none"):
        import_qhnet(save(tmp_path, missing), tmp_path / "model", **options)
    hostile = tmp_path / "hostile.pt"
    hostile.write_bytes(pickle.dumps({"state_dict": print}))
    with pytest.raises(DeepHError):
        import_qhnet(hostile, tmp_path / "model", **options)
    with pytest.raises(InputError, match="no checkpoint"):
        import_qhnet(tmp_path / "none.pt", tmp_path / "model", **options)


def test_export_refuses_what_the_reference_cannot_be(files: Path, tmp_path: Path) -> None:
    network = imported(files, "water_md17fixed", tmp_path / "model")
    description = read_description(tmp_path / "model")
    other = description.model_copy(update={"architecture": {**description.architecture, "alpha": 1.3}})
    save_model(tmp_path / "other", network, other)
    with pytest.raises(InputError, match="no counterpart"):
        export_qhnet(tmp_path / "other", tmp_path / "export.pt")


def test_commands(files: Path, tmp_path: Path) -> None:
    arguments = ["import-reference", str(files / "mixed_qh9.pt"), str(tmp_path / "model")]
    arguments += ["--variant", "qh9", "--elements", "H,C,O"]
    result = CliRunner().invoke(engine, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "qhnet, H, C, O" in result.output
    with pytest.raises(InputError, match="--elements"):
        CliRunner().invoke(engine, arguments[:-2], catch_exceptions=False, standalone_mode=False)
    arguments = ["export-reference", str(tmp_path / "model"), str(tmp_path / "export.pt")]
    result = CliRunner().invoke(engine, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "qh9" in result.output
