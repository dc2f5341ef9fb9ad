"""`deeph-engine convert`, `check` and `preprocess` as a user calls them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.cli import main as cli
from aiida_deeph.engine.io.dataset import read_manifest
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.deeph_legacy import write_legacy
from tests.engine.chain import gaussian_chain


@pytest.fixture
def run(monkeypatch, capsys):
    """Function: run the command, give exit status, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deeph-engine", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as verdict:
            status = int(verdict.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def folder(tmp_path: Path, make_hamiltonian) -> Path:
    write_deeph(tmp_path / "deeph", make_hamiltonian())
    return tmp_path / "deeph"


def test_convert_there_and_back(run, tmp_path: Path, folder: Path) -> None:
    status, out, _ = run("convert", "--code", "deeph", "--to", "deeph_legacy", folder, tmp_path / "legacy")
    assert status == 0 and "5 atoms" in out
    assert run("convert", "--code", "deeph_legacy", tmp_path / "legacy", tmp_path / "back")[0] == 0
    before, after = read_deeph(folder), read_deeph(tmp_path / "back")
    np.testing.assert_array_equal(before.hamiltonian.entries, after.hamiltonian.entries)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("convert", "--code", "vasp", ".", "out"), 2, "vasp"),
        (("convert", "--code", "deeph", "absent", "out"), 2, "absent"),
        (("convert", "--code", "deeph", ".", "out"), 2, "not a DeepH folder"),
        (("check", "."), 2, "not a DeepH folder"),
        (("preprocess", "absent.yaml"), 2, "absent.yaml"),
    ],
)
def test_wrong_use(run, monkeypatch, tmp_path: Path, arguments: tuple, status: int, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = run(*arguments)
    assert found == status and message in err and "Traceback" not in err


def test_truncated_file_is_one_line(run, folder: Path) -> None:
    path = folder / "hamiltonian.h5"
    path.write_bytes(path.read_bytes()[:-50])
    status, out, err = run("check", folder)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "hamiltonian.h5" in err and "remedy" in err


def test_check(run, folder: Path) -> None:
    status, out, _ = run("check", folder)
    assert status == 0 and "S(k)" in out and "FAILED" not in out
    status, out, _ = run("check", folder, "--json", "--cutoff", 3.0)
    report = json.loads(out)
    assert status == 0 and report["passed"] and report["n_pairs"]["H"] == report["n_pairs"]["S"]
    assert report["gates"][-1]["name"] == "H beyond cutoff" and not report["gates"][-1]["passed"], "a warning only"
    assert run("check", folder, "--cutoff", 0)[0] == 2


def test_check_fails(run, folder: Path) -> None:
    status, out, _ = run("check", folder, "--json", "--min-overlap-eigenvalue", 2.0)
    report = json.loads(out)
    assert status == 1 and not report["passed"]
    assert [gate["name"] for gate in report["gates"] if not gate["passed"]] == ["S(k) smallest eigenvalue"]
    assert "FAILED" in run("check", folder, "--min-overlap-eigenvalue", 2.0)[1]


def test_preprocess(run, tmp_path: Path, folder: Path) -> None:
    config = tmp_path / "config.yaml"
    twice = "members:\n- {name: a, path: deeph, code: deeph}\n- {name: b, path: deeph, code: deeph}\n"
    config.write_text(f"{twice}max_failed_fraction: 0.5\n")
    status, out, _ = run("preprocess", config)
    assert status == 0 and "rejected b: duplicate structure" in out and "1 members" in out
    assert [member.name for member in read_manifest(tmp_path / "dataset").members] == ["a"]
    config.write_text("members:\n- {name: a, path: absent, code: deeph}\n")
    assert "a dataset stands there" in run("preprocess", config)[2]
    status, _, err = run("preprocess", config, "--overwrite")
    assert status == 1 and "1 of 1 members rejected" in err


def test_a_folder_called_like_markup_keeps_its_name(run, tmp_path: Path, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a[").mkdir()
    folder.rename(tmp_path / "a[/bold]")
    status, out, err = run("check", "a[/bold]")
    assert (status, err) == (0, "") and "a[/bold]" in out


def test_legacy_folders_are_taken_like_new_ones_predictions_of_deeph_too(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_deeph(tmp_path / "new", gaussian_chain())
    write_legacy(tmp_path / "old", gaussian_chain())
    write_legacy(tmp_path / "predicted", gaussian_chain(), hamiltonian_file="hamiltonians_pred.h5")
    energies = []
    for folder in ("new", "old", "predicted"):
        status, _, err = run("bands", folder, "--mesh", 3, 1, 1, "--output", "bands.json")
        assert (status, err) == (0, ""), err
        energies.append(json.loads((tmp_path / "bands.json").read_text())["energies"])
    np.testing.assert_allclose(energies[1:], energies[:1] * 2, atol=1e-10)
