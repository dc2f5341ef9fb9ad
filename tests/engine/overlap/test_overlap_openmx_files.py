"""OpenMX's files of orbitals, and `deeph-engine overlap` with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.check import command as check
from aiida_deeph.engine.cli.overlap import command
from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.orbitals.pao import load_pao, read_pao
from aiida_deeph.engine.orbitals.radial import RadialShell
from aiida_deeph.engine.overlap.basis import load_numeric
from aiida_deeph.engine.overlap.config import OverlapConfig
from aiida_deeph.engine.overlap.radial import NumericOverlap
from aiida_deeph.engine.overlap.run import run_overlap

ANY_BASIS = OrbitalBasis({"C": (0,), "H": (0,)})
ORBITALS = {"C": "C3.5-s2p2d1", "H": "H4.0-s2p1"}


@pytest.fixture
def structure() -> Structure:
    cell = np.array([[4.1, 0.2, 0.0], [-0.7, 4.6, 0.1], [0.3, 0.0, 4.2]])
    positions = np.array([[0.1, 0.2, 0.3], [1.4, 0.9, -0.4], [2.0, 5.0, 1.1]])
    return Structure(("C", "H", "C"), positions, cell, (True, True, False))


def test_pao(pao_folder: Path, write_pao: Callable[..., str]) -> None:
    shells, valence = load_pao("C", pao_folder, "C3.5-s2p1f1")
    assert [shell.l for shell in shells] == [0, 0, 1, 3] and valence == 4
    r = np.linspace(0.05, 3.2, 50)
    shape = np.exp(-1.1 * r**2) * (1 - (r / 3.5) ** 2) ** 3
    values = shells[1].at(r)
    assert values / values[0] == pytest.approx(shape / shape[0], abs=1e-5)
    assert shells[2].at(np.array([0.0005]))[0] == pytest.approx(shells[2].at(np.array([0.001]))[0] / 2)
    assert 3.5 < shells[0].extent < 3.7 and not shells[0].at(np.array([shells[0].extent, 20.0])).any()
    text = write_pao({0: [0.5], 1: [0.6]}, 3.0, 4.0)
    with pytest.raises(InputError, match="no orbitals of this l"):
        read_pao(text, {2: 1}, "x")
    with pytest.raises(InputError, match="not so many orbitals"):
        read_pao(text, {0: 2}, "x")
    with pytest.raises(DataError, match="table of orbitals is damaged"):
        read_pao(text.replace("0.00", "x", 1), {0: 1}, "x")
    with pytest.raises(DataError, match="not a file of orbitals"):
        read_pao("something else", {0: 1}, "x")


def test_valence(pao_folder: Path) -> None:
    """Of several pseudopotentials the one that the orbitals were made for; without any the orbitals know it."""
    (pao_folder / "C_PBE19_1s.vps").write_text("valence.electron 6.0\n")
    assert load_pao("C", pao_folder, "C3.5-s1")[1] == 4
    for path in pao_folder.glob("C_*.vps"):
        path.write_text("valence.electron 6.0\n")
    assert load_pao("C", pao_folder, "C3.5-s1")[1] == 6
    (pao_folder / "C_PBE19.vps").write_text("valence.electron 5.0\n")
    assert load_pao("C", pao_folder, "C3.5-s1")[1] is None
    for path in pao_folder.glob("C_*.vps"):
        path.unlink()
    assert load_pao("C", pao_folder, "C3.5-s1")[1] == 4


def test_layout_of_openmx_data(pao_folder: Path) -> None:
    for suffix in ("pao", "vps"):
        (pao_folder / suffix.upper()).mkdir()
        for path in pao_folder.glob(f"*.{suffix}"):
            path.rename(pao_folder / suffix.upper() / path.name)
    assert load_pao("H", pao_folder, "H4.0-s1")[1] == 1


@pytest.mark.parametrize(
    ("spec", "orbitals", "message"),
    [
        ("openmx:pao", None, "element without orbitals"),
        ("openmx:pao", {"C": "C3.5-s1"}, "element without orbitals"),
        ("openmx:pao", {"C": "C3.5-s1", "H": "C3.5-s1"}, "of another element"),
        ("openmx:pao", {"C": "C3.5", "H": "H4.0-s1"}, "basis name is not understood"),
        ("openmx:pao", {"C": "C9.0-s1", "H": "H4.0-s1"}, "no such file of orbitals"),
        ("openmx:pao", {"C": "C3.5-s2>1", "H": "H4.0-s1"}, "contracted"),
        ("openmx:", {"C": "C3.5-s1"}, "basis is not understood"),
        ({"C": "openmx:pao", "H": "pyscf:gth-szv"}, {"C": "C3.5-s1", "H": "x"}, "basis is not understood"),
        ({"C": "openmx:pao"}, {"C": "C3.5-s1"}, "element without basis"),
        ("pyscf:gth-szv", {"C": "C3.5-s1"}, "no orbitals to choose"),
    ],
)
def test_wrong_inputs(
    pao_folder: Path, structure: Structure, spec: object, orbitals: dict[str, str] | None, message: str
) -> None:
    if spec == "pyscf:gth-szv":
        pytest.importorskip("pyscf")
    write_structure(pao_folder.parent / "s.xyz", structure)
    config = OverlapConfig(structure="s.xyz", basis=spec, orbitals=orbitals)
    with pytest.raises(DeepHError, match=message):
        run_overlap(config, pao_folder.parent)


def test_wrong_radial_function() -> None:
    r = np.linspace(0, 1, 10)
    for points, values in ((r[::-1], r), (r, r * np.nan), (r[:3], r[:3]), (r, r[:-1]), (r, 0 * r), (r - 1, r)):
        with pytest.raises(DataError, match="radial function is wrong"):
            RadialShell(0, points, values)


def test_folder_and_command(pao_folder: Path, structure: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pao_folder.parent
    monkeypatch.chdir(root)
    write_structure(root / "s.xyz", structure)
    arguments = ["--basis", "openmx:pao", "--structure", "s.xyz", "--output", "a"]
    arguments += [word for symbol, name in ORBITALS.items() for word in ("--orbitals", f"{symbol}={name}")]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    config = {"basis": "openmx:pao", "orbitals": ORBITALS, "structure": "s.xyz", "output": "b", "cutoff": 2.0}
    (root / "config.json").write_text(json.dumps(config))
    assert CliRunner().invoke(command, ["config.json"], catch_exceptions=False).exit_code == 0
    a, b = (read_deeph(root / name) for name in "ab")
    assert a.structure.symbols == ("C", "C", "H") and a.n_electrons == 9 and a.hamiltonian is None
    assert a.basis.shells == {"C": (0, 0, 1, 1, 2), "H": (0, 0, 1)}
    assert a.metadata["basis"] == {"C": "openmx:C3.5-s2p2d1", "H": "openmx:H4.0-s2p1"}
    assert a.metadata["largest_overlap_beyond_cutoffs"] <= 1e-8 < b.metadata["largest_overlap_beyond_cutoffs"]
    assert 0 < len(b.overlap) < len(a.overlap)
    integrals = NumericOverlap(load_numeric("openmx:pao", ORBITALS, ("C", "H"), root))
    assert np.array_equal(integrals.overlap(a.structure, a.overlap.atom_pairs).entries, a.overlap.entries)
    for wrong in (["--orbitals", "C"], ["--orbitals", "C=x", "--orbitals", "C=y"]):
        result = CliRunner().invoke(command, [*arguments[:6], *wrong])
        assert isinstance(result.exception, InputError) and "orbitals are not understood" in str(result.exception)
    assert CliRunner().invoke(check, ["a"], catch_exceptions=False).exit_code == 0  # positive definite at all k


def test_atoms_on_one_spot(pao_folder: Path, structure: Structure) -> None:
    """Two atoms, one in another cell; the command refuses what the check of S would find singular."""
    root = pao_folder.parent
    positions = structure.positions.copy()
    positions[2] = positions[0] + structure.cell[0] - structure.cell[1] + [0.0, 0.02, 0.0]
    close = Structure(structure.symbols, positions, structure.cell, structure.pbc)
    write_structure(root / "s.xyz", close)
    with pytest.raises(InputError, match=r"two atoms are too close.*atoms 0 \(C\) and 2 \(C\) at 0\.01 times"):
        run_overlap(OverlapConfig(structure="s.xyz", basis="openmx:pao", orbitals=ORBITALS), root)
    write_deeph(root / "s", RealSpaceHamiltonian(close, ANY_BASIS))
    with pytest.raises(InputError, match=r"two atoms on one spot.*atoms 0 \(C\) and 1 \(C\).*0\.020 Angstrom"):
        run_overlap(OverlapConfig(structure="s", basis="openmx:pao", orbitals=ORBITALS), root)
    assert not (root / "overlap").exists()


def test_singular_overlap_fails_the_check(pao_folder: Path, structure: Structure) -> None:
    """Atoms too near for their orbitals."""
    root = pao_folder.parent
    positions = structure.positions.copy()
    positions[2] = positions[0] + [0.0, 0.0, 0.11]
    close = Structure(structure.symbols, positions, structure.cell, structure.pbc)
    write_deeph(root / "s", RealSpaceHamiltonian(close, ANY_BASIS))
    run_overlap(OverlapConfig(structure="s", basis="openmx:pao", orbitals=ORBITALS), root)
    arguments = [str(root / "overlap"), "--json", "--min-overlap-eigenvalue", "1e-3"]
    result = CliRunner().invoke(check, arguments, catch_exceptions=False)
    gates = {gate["name"]: gate for gate in json.loads(result.output)["gates"]}
    assert result.exit_code == 1 and not gates["S(k) smallest eigenvalue"]["passed"]
