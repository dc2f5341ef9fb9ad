"""Datasets of H without that of the SCF's start: what is stored, learnt, and added to predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("pyscf")

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.reader import PyscfReader
from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
from aiida_deeph.engine.dft.start import with_start
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.dataset import load_member, read_manifest
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.structure import write_structure

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
SETTINGS = {"basis": "6-31g", "pseudo": None, "xc": "lda,vwn", "grid_level": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of displaced water, and their dataset."""
    folder = tmp_path_factory.mktemp("start")
    members = []
    for n in range(12):
        moves = np.random.default_rng(n).normal(scale=0.03, size=(3, 3))
        (folder / f"run{n}").mkdir()
        structure = Structure(("O", "H", "H"), WATER + moves, np.eye(3) * 20, (False,) * 3)
        write_structure(folder / f"run{n}" / "structure.xyz", structure)
        run_pyscf(PyscfConfig(**SETTINGS), folder / f"run{n}", report=lambda line: None)
        members.append({"name": f"m{n}", "path": f"run{n}", "code": "pyscf"})
    (folder / "preprocess.json").write_text(json.dumps({"members": members, "subtract_start": True}))
    assert command("preprocess", folder / "preprocess.json") == 0
    return folder


def command(name: str, config: Path) -> int:
    return CliRunner().invoke(engine, [name, str(config)], catch_exceptions=False).exit_code


def test_what_is_stored(folder: Path) -> None:
    manifest = read_manifest(folder / "dataset")
    for member in manifest.members[:3]:
        stored = load_member(folder / "dataset", member)
        label = PyscfReader().read(folder / f"run{member.name[1:]}")
        small, large = (np.abs(data.hamiltonian.entries).mean() for data in (stored, label))
        assert small < 0.2 * large
        whole = with_start(stored, manifest.source["labels"]["settings"])
        assert np.abs(whole.hamiltonian.sorted().entries - label.hamiltonian.sorted().entries).max() < 1e-9


def test_predictions_and_tests_are_of_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    split = {"train": [f"m{n}" for n in range(10)], "test": ["m10", "m11"]}
    train = {"dataset": "dataset", "network": {"name": "closed-form"}, "split": split, "epochs": 1, "threads": 1}
    configs = {
        "train": train,
        "evaluate": {"dataset": "dataset", "model": "model"},
        "predict": {"model": "model", "structure": "dataset/members/m11", "precision": "float64"},
    }
    for name, config in configs.items():
        Path(f"{name}.json").write_text(json.dumps(config))
        assert command(name, Path(f"{name}.json")) == 0
    predicted, label = read_deeph(folder / "prediction"), PyscfReader().read(folder / "run11")
    error = np.abs(predicted.hamiltonian.sorted().entries - label.hamiltonian.sorted().entries)
    means = json.loads(Path("evaluate.json").read_text())["mean_of_molecules"]
    assert error.mean() < 0.02 and means["hamiltonian_eV"] < 0.02
    # Levels are those of the whole H: of the difference alone they would be nowhere near.
    assert means["homo_eV"] < 0.1 and means["orbitals_by_overlap"] > 0.999


def test_refusals(folder: Path, tmp_path: Path) -> None:
    data = PyscfReader().read(folder / "run0")
    with pytest.raises(DataError, match="H of the start is of another basis"):
        with_start(data, {**SETTINGS, "basis": "sto-3g"})
    other = {"extend": str(folder / "dataset"), "members": [], "output": "other"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"datasets do not fit each other; .*subtract_start; found True"):
        CliRunner().invoke(engine, ["preprocess", str(tmp_path / "other.json")], catch_exceptions=False)
