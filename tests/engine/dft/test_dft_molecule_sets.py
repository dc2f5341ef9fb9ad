"""Readers of data sets of molecules, on small files of their layout: order of orbitals, units, splits, refusals."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("pyscf")


from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.io.dataset import read_manifest
from aiida_deeph.engine.preprocess.source import read_gated
from aiida_deeph.engine.units import HARTREE_TO_EV
from tests.engine.dft.molecule_files import OURS, matrices, md17, qh9, water


@pytest.mark.parametrize("name", ["QH9Stable.db", "QH9Dynamic_300k.db", "water.db"])
def test_order_units_and_overlap(tmp_path: Path, name: str) -> None:
    code = "md17" if name == "water.db" else "qh9"
    make = md17 if code == "md17" else qh9
    path = make(tmp_path / name, **({"dynamic": True} if "Dynamic" in name else {}))
    data, gates = read_gated(code, path / "2")
    H, S = matrices(water(2))
    assert [gate.name for gate in gates] == ["S as integrals"] and gates[0].passed and gates[0].value < 1e-6
    assert np.abs(data.structure.positions - water(2)).max() < 1e-9 and data.structure.pbc == (False,) * 3
    for found, expected, scale in ((data.hamiltonian_at, H, HARTREE_TO_EV), (data.overlap_at, S, 1.0)):
        assert np.abs(found((0, 0, 0)).toarray() / scale - expected[np.ix_(OURS, OURS)]).max() < 1e-6
    assert data.n_electrons == 10 and data.metadata["settings"]["xc"] == ("pbe" if code == "md17" else "b3lyp5")


def test_b3lyp_of_each_file(tmp_path: Path) -> None:
    path = qh9(tmp_path / "QH9Dynamic_100k.db", 1, dynamic=True)
    assert get_reader("qh9").read(path / "0").metadata["settings"]["xc"] == "b3lypg"
    with pytest.raises(InputError, match=r"functional unknown.*as published"):
        get_reader("qh9").read(path.rename(tmp_path / "other.db") / "0")


def test_published_splits(tmp_path: Path) -> None:
    stable = get_reader("qh9").split(qh9(tmp_path / "QH9Stable.db"), "random")
    order = np.random.RandomState(43).permutation(10)
    assert [part.tolist() for part in stable.values()] == [order[:8].tolist(), order[8:9].tolist(), order[9:].tolist()]
    by_size = get_reader("qh9").split(tmp_path / "QH9Stable.db", "size_ood")
    assert [len(part) for part in by_size.values()] == [10, 0, 0]
    with pytest.raises(InputError, match="split of another data set"):
        get_reader("qh9").split(tmp_path / "QH9Stable.db", "mol")
    with pytest.raises(InputError, match=r"no such published split; .*expected one of random"):
        get_reader("qh9").split(tmp_path / "QH9Stable.db", "best")


def test_published_splits_of_trajectories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each molecule's 100 geometries, and of molecules: the numbers of the rows alone decide."""
    path = qh9(tmp_path / "QH9Dynamic_300k.db", 1, dynamic=True)
    monkeypatch.setattr(type(get_reader("qh9")), "count", lambda self, file: 1000)
    geometry = get_reader("qh9").split(path, "geometry")
    assert [len(part) for part in geometry.values()] == [800, 100, 100]
    first = np.random.RandomState(99).permutation(100)
    assert geometry["train"][:80].tolist() == first[:80].tolist()
    assert geometry["test"][90:].tolist() == (900 + np.random.RandomState(999).permutation(100)[90:]).tolist()
    by_molecule = get_reader("qh9").split(path, "mol")
    assert [len(part) for part in by_molecule.values()] == [800, 100, 100]
    assert all(len({n // 100 for n in part.tolist()}) == len(part) / 100 for part in by_molecule.values())
    md17(tmp_path / "water.db", 1)
    monkeypatch.setattr(type(get_reader("md17")), "count", lambda self, file: 4999)
    parts = get_reader("md17").split(tmp_path / "water.db", "published")
    assert [len(part) for part in parts.values()] == [500, 500, 3999]
    assert parts["train"].tolist() == np.random.RandomState(42).permutation(4999)[:500].tolist()


def test_dataset_from_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    qh9(tmp_path / "QH9Stable.db")
    run = CliRunner()
    arguments = ["members", "QH9Stable.db", "--code", "qh9", "--split", "random", "--number", "3", "1", "1"]
    assert "5 members (3 train, 1 validation, 1 test)" in run.invoke(engine, arguments, catch_exceptions=False).output
    assert run.invoke(engine, ["preprocess", "preprocess.json"], catch_exceptions=False).exit_code == 0
    manifest = read_manifest(tmp_path / "dataset")
    names = json.loads((tmp_path / "split.json").read_text())
    assert {member.name for member in manifest.members} == {name for part in names.values() for name in part}
    assert manifest.source["labels"]["basis"] == {"O": "pyscf:def2-svp", "H": "pyscf:def2-svp"}


@pytest.mark.parametrize("code", ["qh9", "md17"])
def test_refusals(tmp_path: Path, code: str) -> None:
    path = {"qh9": qh9, "md17": md17}[code](tmp_path / "QH9Stable.db", 2)
    reader = get_reader(code)
    for place, message in ((path, "which molecule"), (path / "7", "no such molecule.*found 7; expected 0 to 1")):
        with pytest.raises(InputError, match=message):
            reader.read(place)
    with pytest.raises(InputError, match="no such file"):
        reader.read(tmp_path / "QH9Stable_absent.db" / "0")
    (tmp_path / "QH9Stable_text.db").write_text("this is no database, whatever its name says it is" * 20)
    with pytest.raises(DataError, match="SQLite file cannot be read"):
        reader.read(tmp_path / "QH9Stable_text.db" / "0")
    with sqlite3.connect(tmp_path / "QH9Stable_other.db") as connection:
        connection.execute("CREATE VIEW data AS SELECT 1 AS N")
        connection.execute("CREATE VIEW systems AS SELECT 1 AS numbers")
    with pytest.raises(InputError, match="data set of another kind"):
        reader.read(tmp_path / "QH9Stable_other.db" / "0")


@pytest.mark.parametrize("seed", range(6))
def test_damaged_rows_are_one_line(tmp_path: Path, seed: int) -> None:
    """Blobs that are cut, of another type, or noise: a line that says where, and never anything else."""
    rng = np.random.default_rng(seed)
    path, code, table, columns = [
        (qh9(tmp_path / "QH9Stable.db", 1), "qh9", "data", ["N", "Z", "pos", "Ham"]),
        (md17(tmp_path / "water.db", 1), "md17", "systems", ["numbers", "positions", "data"]),
    ][seed % 2]
    for column in columns:
        with sqlite3.connect(path) as connection:
            (before,) = connection.execute(f"SELECT {column} FROM {table}").fetchone()
            value = before if isinstance(before, bytes) else b"12345678"
            damage = [value[:-3], None, "text", rng.bytes(len(value)), b""]
            connection.execute(f"UPDATE {table} SET {column} = ?", (damage[int(rng.integers(5))],))
        with pytest.raises(DeepHError):
            get_reader(code).read(path / "0")
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE {table} SET {column} = ?", (before,))
    assert get_reader(code).read(path / "0").n_electrons == 10
