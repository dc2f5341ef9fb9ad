"""Bad input of `deeph-engine bands` and `dos`: one line that says what is wrong, and nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_deeph.engine import system as memory
from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DeepHError

Write = Callable[..., str]
BANDS = ["bands", "--kpath", "G-M"]
SPARSE = ["bands", "--kpath", "G-M", "--solver", "sparse", "--num-bands"]
DOS = ["dos", "--mesh", "2", "2", "1"]


def lopsided(data: RealSpaceHamiltonian, models: Any) -> RealSpaceHamiltonian:
    """H with one element that its mirror image lacks."""
    entries = data.hamiltonian.entries.copy()
    entries[np.argmax(np.abs(entries))] += 1e-3
    return models.replace(data, hamiltonian=data.hamiltonian.with_entries(entries))


def negative(data: RealSpaceHamiltonian, models: Any) -> RealSpaceHamiltonian:
    """Twice the atoms' distance apart S would be fine: here its elements between atoms are ten times too large."""
    s = data.overlap
    own = ~s.atom_pairs[:, :3].any(axis=1) & (s.atom_pairs[:, 3] == s.atom_pairs[:, 4])
    return models.replace(data, overlap=s.with_entries(np.where(own[s.pair_of_entry], 1.0, 10 * s.entries)))


def check(arguments: list[str], where: str, tmp_path: Path, message: str) -> None:
    output = tmp_path / "results" / "out.json"
    output.parent.mkdir(exist_ok=True)
    run = CliRunner().invoke(engine, [arguments[0], where, *arguments[1:], "--output", str(output)])
    assert isinstance(run.exception, DeepHError), run.output
    line = str(run.exception)
    assert message in line and "\n" not in line
    assert not list(output.parent.iterdir())


@pytest.mark.parametrize("arguments", [BANDS, DOS])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data, models: models.replace(data, overlap=None), "no overlap"),
        (lambda data, models: models.replace(data, hamiltonian=None), "no Hamiltonian"),
        (lopsided, "matrix is not Hermitian"),
        (negative, "overlap is not positive definite"),
    ],
)
def test_bad_matrices(
    models: Any, folder: Write, tmp_path: Path, arguments: list[str], change: Callable[..., Any], message: str
) -> None:
    check(arguments, folder(change(models.graphene(), models)), tmp_path, message)


def test_bad_overlap_of_large_systems(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(negative(models.random_crystal(90, n_atoms=20, cutoff=3.0, stretch=4), models))
    check(["bands", "--mesh", "1", "1", "1", *SPARSE[3:], "4", "--around", "0"], where, tmp_path, "positive definite")
    for method in ("kpm", "sparse"):
        arguments = ["dos", "--method", method, "--window", "-1", "1"]
        check(arguments, where, tmp_path, "positive definite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bands", "--kpath", "G-A"], "leaves the Brillouin zone of this cell"),
        (["bands", "--mesh", "2", "2", "2"], "outside the dimensionality"),
        (["dos", "--mesh", "1", "1", "3"], "outside the dimensionality"),
        ([*BANDS, "--num-bands", "3"], "more bands than orbitals"),
        ([*SPARSE, "1"], "sparse solver cannot give all bands"),
        ([*DOS, "--window", "30", "31"], "energy window without states"),
        ([*DOS, "--window", "1", "-1"], "energy window without states"),
        ([*BANDS, "--electrons", "5"], "electrons do not fit"),
        ([*DOS, "--electrons", "5"], "electrons do not fit"),
    ],
)
def test_impossible_wishes(models: Any, folder: Write, tmp_path: Path, arguments: list[str], message: str) -> None:
    check(arguments, folder(models.graphene()), tmp_path, message)


@pytest.mark.parametrize(
    "arguments",
    [
        ["bands", "--mesh", "1", "1", "1"],
        ["bands", "--mesh", "1", "1", "1", *SPARSE[3:], "4"],
        ["dos"],
        ["dos", "--method", "kpm"],
        ["dos", "--method", "sparse", "--window", "-1", "1"],
    ],
)
def test_not_enough_memory(
    models: Any, folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    where = folder(models.random_crystal(91, n_atoms=20, cutoff=3.0, stretch=4))
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    check(arguments, where, tmp_path, "not enough memory")
