"""What every registered network keeps of collinear magnets (moments are seen, a flip of all of them is exact, and a
prediction asks for them) and with spin-orbit coupling (time reversal; rotations are in `test_networks`)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.channels import channels_of, pairs_of_channels
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.neighbours import pair_cutoffs, pairs_within
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.dataset import read_manifest
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.nn.config import NETWORKS, network_config
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.prediction.chunked import predict_entries
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import predict
from aiida_deeph.engine.preprocess.config import PreprocessConfig
from aiida_deeph.engine.preprocess.run import run_preprocess
from aiida_deeph.engine.training.config import EvaluateConfig, TrainConfig
from aiida_deeph.engine.training.evaluate import evaluate
from aiida_deeph.engine.training.run import train
from tests.engine.nn.systems import BASIS, CUTOFF, random_network, random_structure, small_settings
from tests.engine.training.toy import toy_magnet, toy_member

NAMES = [name for name in NETWORKS if name not in ("tiny", "deephe3-set")]  # a set is imported
SIGMA_Y = np.array([[0, -1j], [1j, 0]])
KINDS = ("C_down", "C_up", "O")


@pytest.mark.parametrize("name", NAMES)
def test_a_flip_of_all_moments_exchanges_the_channels(name: str) -> None:
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    torch.manual_seed(0)
    config = network_config(name)(**small_settings(name))
    description = describe_network(config, BASIS, SpinMode.COLLINEAR, pair_cutoffs(structure, pairs), KINDS)
    network = build_network(description).double()
    moments = np.array([2.0, 0.0, -1.0, 0.0, 2.0])
    both = pairs_of_channels(pairs, len(structure))
    graph = build_model_graph(network, channels_of(structure, Moments(moments)), both, dtype=torch.float64)
    graph.label = torch.randn(len(graph.entry_index), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    settled = network.fit([graph])
    architecture = {**description.architecture, **(settled or {})}
    description = description.model_copy(update={"architecture": architecture})

    def channels(signed: np.ndarray, edges_per_chunk: int = 100_000) -> tuple[np.ndarray, np.ndarray]:
        doubled = channels_of(structure, Moments(signed))
        options = {"edges_per_chunk": edges_per_chunk, "dtype": torch.float64}
        return tuple(np.split(predict_entries(network, doubled, both, description, **options), 2))

    up, down = channels(moments)
    flipped_up, flipped_down = channels(-moments)
    scale = np.abs(up).max()
    assert np.abs(up - down).max() > 1e-3 * scale, "moments are seen"
    assert np.abs(up - flipped_down).max() <= 1e-12 * scale and np.abs(down - flipped_up).max() <= 1e-12 * scale
    chunks = channels(moments, edges_per_chunk=13)
    assert max(np.abs(up - chunks[0]).max(), np.abs(down - chunks[1]).max()) <= 1e-11 * scale
    same = channels(np.array([2.0, 0.0, 2.0, 0.0, 2.0]))
    assert np.abs(same[0] - up).max() > 1e-3 * scale, "other states have another H"


def spinful(name: str) -> tuple[np.ndarray, BlockSparseMatrix]:
    """Blocks of a random network with spin-orbit coupling, fitted to those of another one."""
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)
    try:
        network, _ = random_network(SpinMode.NONCOLLINEAR, name=name)
    except InputError as error:
        if "spin" not in str(error):
            raise
        pytest.skip(f"{name} has no such spin: {error}")
    graph = build_model_graph(network, structure, pairs, dtype=torch.float64)
    teacher, _ = random_network(SpinMode.NONCOLLINEAR, seed=7, hermitian=True)
    with torch.no_grad():
        graph.label = teacher(build_model_graph(teacher, structure, pairs, dtype=torch.float64))
    network.fit([graph])
    with torch.no_grad():
        values = network(build_model_graph(network, structure, pairs, dtype=torch.float64)).numpy()
    rows = BASIS.orbitals_per_atom(structure.symbols)
    return rows, BlockSparseMatrix.from_pairs(pairs, 2 * rows, values).hermitian_part()


@pytest.mark.parametrize("name", NAMES)
def test_time_reversal_is_exact_with_spin_orbit_coupling(name: str) -> None:
    """H = T H T^-1 with T = i sigma_y K in every block, and Kramers pairs where k is -k."""
    rows, matrix = spinful(name)
    scale = np.abs(matrix.entries).max()
    for *cell, i, j in matrix.atom_pairs:
        block = matrix.block(cell, i, j)
        turned = np.kron(SIGMA_Y, np.eye(rows[i])) @ block.conj() @ np.kron(SIGMA_Y, np.eye(rows[j]))
        assert np.abs(turned - block).max() <= 1e-12 * scale
    assert np.abs(matrix.block((0, 0, 0), 0, 0)[: rows[0], rows[0] :]).max() > 1e-3 * scale, "spins are coupled"
    for k in ((0.0, 0.0, 0.0), (0.5, 0.0, 0.5)):
        energies = np.linalg.eigvalsh(matrix.to_csr(k, 2 * rows).toarray())
        assert np.abs(energies[::2] - energies[1::2]).max() <= 1e-10 * max(1.0, scale)
        assert np.diff(energies[::2]).min() > 1e-6, "no more degenerate than that"


def test_noncollinear_magnets_are_refused(tmp_path: Path) -> None:
    for seed in range(2):
        data = toy_member(seed, SpinMode.NONCOLLINEAR)
        moments = Moments([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
        write_deeph(tmp_path / f"m{seed}", replace(data, overlap=toy_magnet(seed).overlap, moments=moments))
    members = [{"name": f"m{seed}", "path": f"m{seed}", "code": "deeph"} for seed in range(2)]
    run_preprocess(parse_config(PreprocessConfig, {"members": members}, "test"), tmp_path)
    with pytest.raises(InputError, match="noncollinear magnets cannot be learnt yet"):
        train(TrainConfig(dataset=str(tmp_path / "dataset")), tmp_path, quiet=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("magnets")
    for seed in range(8):
        write_deeph(folder / f"m{seed}", toy_magnet(seed))
    members = [{"name": f"m{seed}", "path": f"m{seed}", "code": "deeph"} for seed in range(8)]
    run_preprocess(parse_config(PreprocessConfig, {"members": members}, "test"), folder)
    return folder / "dataset"


def test_dataset_knows_its_states(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    assert manifest.kinds == ("C_down", "C_up", "H")
    assert manifest.statistics["magnetic_states"] == {"antiferromagnetic": 4, "ferromagnetic": 4}
    assert "moments.json" in manifest.members[0].sha256


@pytest.mark.parametrize("name", ["closed-form", "deephe3"])
def test_magnets_are_learnt_and_predicted(name: str, dataset: Path, tmp_path: Path) -> None:
    split = {"train": [f"m{n}" for n in range(6)], "validation": ["m6", "m7"]}
    network = {"name": name, **small_settings(name)}
    config = {"dataset": str(dataset), "network": network, "split": split, "epochs": 2, "precision": "float64"}
    train(parse_config(TrainConfig, config, "test"), tmp_path, quiet=True)
    model = str(tmp_path / "model")
    options = {"members": "validation", "output": str(tmp_path / "e.json"), "bands": {"mesh": [1, 1, 1]}}
    errors = evaluate(EvaluateConfig(dataset=str(dataset), model=model, **options))
    assert set(errors["elements"]) == {"C_down", "C_up", "H"}
    assert not any("error" in found for found in errors["bands"].values())
    source = dataset.parent / "m6"
    output = str(tmp_path / "out")
    predict(PredictConfig(model=model, structure=str(source), output=output, precision="float64"))
    found, labelled = read_deeph(tmp_path / "out"), read_deeph(source)
    assert found.spin is SpinMode.COLLINEAR
    np.testing.assert_array_equal(found.moments.nominal, labelled.moments.nominal)
    pairs, rows = found.hamiltonian.atom_pairs, found.rows_per_atom
    error = np.abs(found.hamiltonian.entries - labelled.hamiltonian.aligned_to(pairs, rows).entries)
    assert np.isclose(error.sum() / errors["members"]["m6"]["n_entries"], errors["members"]["m6"]["mae_eV"], rtol=1e-3)
    if name == "closed-form":
        assert errors["on_site"]["mae_eV"] < 0.02, "the exchange field of 0.5 eV is learnt"
    flipped = PredictConfig(
        model=model,
        structure=str(source),
        output=str(tmp_path / "flipped"),
        precision="float64",
        magnetic_moments=(-1.0, -1.0, 0.0, 0.0),
    )
    predict(flipped)
    block, other = (read_deeph(Path(path)).hamiltonian.block((0, 0, 0), 0, 0) for path in (output, flipped.output))
    np.testing.assert_allclose(block[:4, :4], other[4:, 4:], atol=1e-12)


def test_a_prediction_asks_for_moments(dataset: Path, tmp_path: Path) -> None:
    config = {"dataset": str(dataset), "network": {"name": "closed-form", "detail": "smooth", "lmax_environment": 1}}
    train(parse_config(TrainConfig, config, "test"), tmp_path, quiet=True)
    (tmp_path / "target").mkdir()
    for name in ("POSCAR", "info.json", "overlap.h5"):
        (tmp_path / "target" / name).write_bytes((dataset.parent / "m0" / name).read_bytes())
    options = {"model": str(tmp_path / "model"), "structure": str(tmp_path / "target"), "output": str(tmp_path / "out")}
    with pytest.raises(InputError, match=r"moments of a collinear magnet are needed.*magnetic_moments"):
        predict(PredictConfig(**options))
    with pytest.raises(InputError, match="2 of 4 atoms"):
        predict(PredictConfig(**options, magnetic_moments=(1.0, 1.0)))
    with pytest.raises(InputError, match="kinds of atoms unknown to the model"):
        predict(PredictConfig(**options, magnetic_moments=(1.0, 1.0, 1.0, 0.0)))


def test_members_in_another_state_are_rejected(tmp_path: Path) -> None:
    for seed in range(3):
        data = toy_magnet(seed)
        write_deeph(tmp_path / f"m{seed}", data)
    text = json.loads((tmp_path / "m1" / "moments.json").read_text())
    text["converged"] = [0.8, 0.8, 0.0, 0.0]
    (tmp_path / "m1" / "moments.json").write_text(json.dumps(text))
    members = [{"name": f"m{seed}", "path": f"m{seed}", "code": "deeph"} for seed in range(3)]
    config = {"members": members, "max_failed_fraction": 0.5}
    manifest = run_preprocess(parse_config(PreprocessConfig, config, "test"), tmp_path)
    (rejected,) = manifest.rejected
    assert rejected.name == "m1" and "moved to another magnetic state" in rejected.reason
    with pytest.raises(DataError, match="moved to another magnetic state"):
        run_preprocess(parse_config(PreprocessConfig, {"members": members[1:2], "output": "x"}, "test"), tmp_path)
