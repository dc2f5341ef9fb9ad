"""`deeph-engine predict`: pairs, Hermitian average, what it copies and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.decay import decay_curves, thinned
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.build import attach_labels
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config, ResidualDeepHE3Config
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.predict import average_directions, predict
from aiida_deeph.engine.ranks import Ranks
from tests.engine.training.toy import BASIS, toy_member

NETWORK = DeepHE3Config(irreps_embed="8x0e", irreps_mid="8x0e+4x1o+2x2e", lmax=2, n_blocks=2, n_gaussians=16)
CUTOFFS = {"C-C": 2.9, "C-H": 1.8, "H-H": 1.5}


def make_model(folder: Path, spin: SpinMode = SpinMode.NONE, **changes: Any) -> Path:
    torch.manual_seed(3)
    description = describe_network(NETWORK, BASIS, spin, CUTOFFS).model_copy(update=changes)
    save_model(folder, build_network(description), description)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A labelled structure as a DeepH folder."""
    write_deeph(tmp_path / "target", toy_member(0))
    return tmp_path / "target"


def run(model: Path, target: Path, output: Path, **changes: Any) -> tuple[Any, dict[str, Any]]:
    folder = predict(
        PredictConfig(model=str(model), structure=str(target), output=str(output), device="cpu", **changes)
    )
    return read_deeph(folder), json.loads((folder / "prediction.json").read_text())


def test_prediction_is_the_networks_output(model: Path, target: Path, tmp_path: Path) -> None:
    """Strictly: entry by entry that of the network on the pairs within the model's ranges."""
    found, _ = run(model, target, tmp_path / "out", strict=True)
    structure = toy_member(0).structure
    network, description = load_model(model)
    pairs = pairs_within(structure, description.pair_cutoffs)
    with torch.no_grad():
        entries = network(build_model_graph(network, structure, pairs)).numpy()
    expected = BlockSparseMatrix.from_pairs(pairs, BASIS.orbitals_per_atom(structure.symbols), entries)
    rows = found.rows_per_atom
    aligned = expected.aligned_to(found.hamiltonian.atom_pairs, rows)
    np.testing.assert_allclose(found.hamiltonian.entries, aligned.entries, atol=1e-5)
    assert np.abs(entries).max() > 0.1


def test_average_of_both_directions(model: Path, target: Path, tmp_path: Path) -> None:
    strict, strict_report = run(model, target, tmp_path / "strict", strict=True)
    found, report = run(model, target, tmp_path / "out")
    assert strict.hamiltonian.hermiticity_error() > 1e-3
    assert strict_report["hermiticity_error_eV"] is None
    assert report["hermiticity_error_eV"] == pytest.approx(strict.hamiltonian.hermiticity_error(), rel=1e-3)
    assert found.hamiltonian.hermiticity_error() == 0
    np.testing.assert_allclose(found.hamiltonian.entries, strict.hamiltonian.hermitian_part().entries, atol=1e-5)


def test_overlap_goes_along_and_sets_zeros(model: Path, target: Path, tmp_path: Path) -> None:
    """The overlap reaches 3 Angstrom, the model less: H is there, as zeros, and the report says how large S is."""
    data = toy_member(0)
    found, report = run(model, target, tmp_path / "out")
    assert np.array_equal(found.overlap.atom_pairs, found.hamiltonian.atom_pairs)
    np.testing.assert_array_equal(found.overlap.sorted().entries, data.overlap.sorted().entries)
    assert (found.fermi_energy, found.n_electrons) == (None, data.n_electrons)
    n_model = len(pairs_within(data.structure, CUTOFFS))
    assert n_model < len(found.hamiltonian)
    assert (found.hamiltonian.norms() == 0).sum() == len(found.hamiltonian) - n_model
    assert report["n_pairs"] == n_model
    assert report["largest_overlap_outside"] == pytest.approx(0.1)
    assert report["n_atoms"] == 4 and report["seconds"] > 0 and report["peak_memory_GiB"] > 0.01


def test_structure_file_gives_the_hamiltonian_alone(model: Path, tmp_path: Path, target: Path) -> None:
    write_structure(tmp_path / "target.xyz", toy_member(0).structure)
    found, report = run(model, tmp_path / "target.xyz", tmp_path / "out")
    assert found.overlap is None
    assert report["overlap"] is False and report["largest_overlap_outside"] is None
    other, _ = run(model, target, tmp_path / "other")
    entries = other.hamiltonian.aligned_to(found.hamiltonian.atom_pairs, found.rows_per_atom).entries
    np.testing.assert_allclose(found.hamiltonian.entries, entries, atol=2e-5)


def test_order_of_atoms_is_irrelevant(model: Path, target: Path, tmp_path: Path) -> None:
    structure = toy_member(0).structure.permuted(np.array([2, 0, 3, 1]))
    write_structure(tmp_path / "mixed.xyz", structure)
    found, _ = run(model, tmp_path / "mixed.xyz", tmp_path / "out")
    same, _ = run(model, target, tmp_path / "same")
    assert sorted(np.abs(found.hamiltonian.entries))[-20:] == pytest.approx(
        sorted(np.abs(same.hamiltonian.entries))[-20:], abs=2e-5
    )


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_chunks_and_precision(tmp_path: Path, target: Path, spin: SpinMode) -> None:
    model = make_model(tmp_path / "model", spin)
    double, _ = run(model, target, tmp_path / "d", precision="float64")
    single, _ = run(model, target, tmp_path / "s", edges_per_chunk=3)
    assert double.spin is spin
    np.testing.assert_allclose(single.hamiltonian.entries, double.hamiltonian.entries, atol=2e-5)


def test_metadata_names_model_and_gauge(tmp_path: Path, target: Path) -> None:
    model = make_model(tmp_path / "model", gauge="mu_removed")
    found, report = run(model, target, tmp_path / "out")
    description = load_model(model)[1]
    assert found.metadata["gauge"] == report["gauge"] == "mu_removed"
    assert found.metadata["model_sha256"] == description.weights_sha256
    assert found.metadata["predicted"] is True


def test_refusals(model: Path, tmp_path: Path, target: Path) -> None:
    def refuses(message: str, structure: Path, used: Path = model, error: type[Exception] = InputError) -> None:
        with pytest.raises(error, match=message):
            run(used, structure, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    write_structure(tmp_path / "o.xyz", Structure(("C", "O"), np.array([[0, 0, 0], [1.2, 0, 0]]), 5 * np.eye(3)))
    refuses("element unknown to the model; in structure; found O; expected only H, C", tmp_path / "o.xyz")
    refuses("no such structure", tmp_path / "absent")
    other = OrbitalBasis({"H": (0, 0), "C": (0, 1)})
    data = toy_member(0)
    pairs = data.overlap.atom_pairs
    overlap = BlockSparseMatrix.from_pairs(pairs, other.orbitals_per_atom(data.structure.symbols))
    write_deeph(tmp_path / "basis", replace(data, basis=other, hamiltonian=None, overlap=overlap))
    refuses("basis of the overlap is not that of the model", tmp_path / "basis")
    (target / "overlap.h5").write_bytes((target / "overlap.h5").read_bytes()[:700])
    refuses("HDF5 file", target, error=DataError)

    newer = make_model(tmp_path / "newer")
    text = (newer / "model.json").read_text()
    (newer / "model.json").write_text(text.replace('"format_version": 1', '"format_version": 99'))
    refuses("model of a newer format; .* found format_version 99", tmp_path / "o.xyz", newer)
    damaged = make_model(tmp_path / "damaged")
    weights = bytearray((damaged / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "weights.safetensors").write_bytes(weights)
    refuses("weights do not belong to this model", tmp_path / "o.xyz", damaged, DataError)


def test_nan_in_the_weights_is_an_error(tmp_path: Path, target: Path) -> None:
    description = describe_network(NETWORK, BASIS, SpinMode.NONE, CUTOFFS)
    network = build_network(description)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    save_model(tmp_path / "model", network, description)
    with pytest.raises(DataError, match="model predicts NaN"):
        run(tmp_path / "model", target, tmp_path / "out")


def test_command_line(model: Path, target: Path, tmp_path: Path) -> None:
    """Options alone, a configuration alone, and options over a configuration."""
    common = ["--model", str(model), "--structure", str(target)]
    result = CliRunner().invoke(engine, ["predict", *common, "--output", str(tmp_path / "a")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "overlap outside the model's pairs: at most 1.00e-01" in result.output
    settings = PredictConfig(model=str(model), structure=str(target), output=str(tmp_path / "b"))
    settings.write(tmp_path / "config.json")
    for options in ([], ["--strict", "--output", str(tmp_path / "c")]):
        arguments = ["predict", str(tmp_path / "config.json"), *options]
        assert CliRunner().invoke(engine, arguments, catch_exceptions=False).exit_code == 0
    a, b, c = (read_deeph(tmp_path / name).hamiltonian for name in "abc")
    assert a.hermiticity_error() == b.hermiticity_error() == 0
    assert c.hermiticity_error() > 1e-3
    with pytest.raises(InputError, match="expected --structure, or CONFIG"):
        CliRunner().invoke(engine, ["predict", "--model", str(model)], catch_exceptions=False)


@pytest.mark.slow
def test_two_processes_predict_what_one_does(tmp_path: Path) -> None:
    """Residual network with spin: sums over neighbours, means of the normalisation and complex entries are shared."""
    spin = SpinMode.NONCOLLINEAR
    torch.manual_seed(3)
    network_config = ResidualDeepHE3Config(**NETWORK.model_dump(exclude={"name"}))
    description = describe_network(network_config, BASIS, spin, CUTOFFS)
    network = build_network(description)
    graphs = []
    for seed in (1, 2):
        data = toy_member(seed, spin)
        matrix = data.hamiltonian.aligned_to(pairs_within(data.structure, CUTOFFS), data.rows_per_atom)
        graphs.append(attach_labels(build_model_graph(network, data.structure, matrix.atom_pairs), matrix))
    architecture = {**description.architecture, **network.fit(graphs)}
    save_model(tmp_path / "model", network, description.model_copy(update={"architecture": architecture}))
    write_deeph(tmp_path / "target", toy_member(0, spin))
    one, report = run(tmp_path / "model", tmp_path / "target", tmp_path / "one", edges_per_chunk=3)
    assert report["n_processes"] == 1
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--model", "model", "--structure", "target", "--output", "two", "--device", "cpu"]
    done = subprocess.run(
        [*torchrun, "-m", "aiida_deeph.engine.cli.main", "predict", *options, "--edges-per-chunk", "3"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two: 4 atoms") == 1, "more than one process printed"
    two = read_deeph(tmp_path / "two")
    assert json.loads((tmp_path / "two" / "prediction.json").read_text())["n_processes"] == 2
    assert np.array_equal(two.hamiltonian.atom_pairs, one.hamiltonian.atom_pairs)
    np.testing.assert_allclose(two.hamiltonian.entries, one.hamiltonian.entries, atol=2e-5)
    assert np.abs(one.hamiltonian.entries).max() > 1


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_average_in_parts_and_in_place(spin: SpinMode) -> None:
    rng = np.random.default_rng(0)
    matrix = toy_member(0, spin).hamiltonian
    phase = 1 if spin is SpinMode.NONE else np.exp(1j)
    matrix = matrix.with_entries(matrix.entries + phase * rng.normal(size=matrix.entries.shape))
    expected, error = matrix.hermitian_part(), matrix.hermiticity_error()
    assert average_directions(matrix, entries_at_a_time=7) == pytest.approx(error)
    np.testing.assert_array_equal(matrix.entries, expected.entries)


def test_shares_are_all_pairs_once() -> None:
    for n, size in ((7, 3), (3, 3), (10, 1)):
        parts = [np.arange(n)[Ranks(rank, size).share(n)] for rank in range(size)]
        assert np.array_equal(np.concatenate(parts), np.arange(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(InputError, match="more processes than atom pairs"):
        Ranks(0, 3).share(2)


def test_overlap_of_another_basis_is_refused(tmp_path: Path, target: Path) -> None:
    """The model knows |S| over distance of its training data: shells alone do not tell a basis."""
    data = toy_member(0)
    source = {"agreement": {"overlap_by_distance": thinned(decay_curves(data))}}
    model = make_model(tmp_path / "model", data=source)
    run(model, target, tmp_path / "same")
    off_site = (data.overlap.atom_pairs[:, 3] != data.overlap.atom_pairs[:, 4]) | data.overlap.atom_pairs[:, :3].any(1)
    wider = np.where(np.repeat(off_site, np.diff(data.overlap.chunk_boundaries)), 1.5, 1.0)
    write_deeph(tmp_path / "other", replace(data, overlap=data.overlap.with_entries(data.overlap.entries * wider)))
    with pytest.raises(InputError, match="overlap is not in the basis of the training data"):
        run(model, tmp_path / "other", tmp_path / "prediction")
    assert not (tmp_path / "prediction").exists()


def test_overlap_with_nan_is_refused(tmp_path: Path, model: Path, target: Path) -> None:
    with h5py.File(target / "overlap.h5", "r+") as file:
        file["entries"][0] = np.nan
    with pytest.raises(DataError, match="overlap holds NaN"):
        run(model, target, tmp_path / "prediction")
