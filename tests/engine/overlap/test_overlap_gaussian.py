"""Overlaps of Gaussian bases against PySCF's own integrals, and the files they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("pyscf")

from pyscf import gto

from aiida_deeph.engine.cli.overlap import command
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.orbitals.gaussian import read_basis_set
from aiida_deeph.engine.overlap.basis import load_basis
from aiida_deeph.engine.overlap.config import OverlapConfig
from aiida_deeph.engine.overlap.gaussian import overlap_beyond, overlap_gaussian, overlap_ranges, positions_gaussian
from aiida_deeph.engine.overlap.run import run_overlap
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

# Two sets with a general contraction and a d shell; the numbers mean nothing.
BASIS_FILE = """# comment
Xx OTHER
 1
 1 0 0 1 1
   1.0 1.0
C  TEST-SET TEST-SET-q4   ! comment
 2
 2 0 1 3 2 1
   4.1  0.2 -0.1  0.3
   1.2  0.5  0.4 -0.6
   0.3  0.6 -0.8  0.7
 3 2 2 1 1
   0.7  1.0
H  TEST-SET TEST-SET-q1
 1
 1 0 0 2 1
   1.5 0.4
   0.3 0.7
"""


@pytest.fixture
def structure() -> Structure:
    cell = np.array([[3.1, 0.2, 0.0], [-0.7, 3.6, 0.1], [0.3, 0.0, 4.2]])
    positions = np.array([[0.1, 0.2, 0.3], [1.4, 0.9, -0.4], [2.0, 5.0, 1.1]])
    return Structure(("C", "H", "C"), positions, cell, (True, True, False))


def test_equals_integrals_over_a_cluster(tmp_path: Path, structure: Structure) -> None:
    """Every block against a molecule of just two atoms, orbitals in PySCF's p order (x, y, z) -> m = (y, z, x)."""
    (tmp_path / "BASIS").write_text(BASIS_FILE)
    basis = load_basis("cp2k:BASIS:TEST-SET", structure.elements, tmp_path)
    pairs = pairs_within(structure, 4.0)
    orbital_basis, S = overlap_gaussian(structure, basis, pairs)
    assert orbital_basis.shells == {"C": (0, 0, 1, 2), "H": (0,)}
    order = {"C": [0, 1, 3, 4, 2, 5, 6, 7, 8, 9], "H": [0]}
    shells = {
        symbol: [[g.l, *np.column_stack([g.exponents, g.coefficients]).tolist()] for g in groups]
        for symbol, groups in basis.shells.items()
    }
    for row in range(0, len(pairs), 7):
        i, j = pairs[row, 3:]
        a, b = structure.symbols[i], structure.symbols[j]
        vector = structure.pair_vectors(pairs[row : row + 1])[0]
        mol = gto.M(
            atom=[(f"{a}1", (0, 0, 0)), (f"{b}2", vector)], basis={f"{a}1": shells[a], f"{b}2": shells[b]}, spin=None
        )
        block = mol.intor("int1e_ovlp")[: len(order[a]), len(order[a]) :]
        expected = block[np.ix_(order[a], order[b])]
        assert np.abs(S.block(pairs[row, :3], i, j) - expected).max() < 1e-7  # PySCF rounds its own Bohr differently
    assert S.hermiticity_error() < 1e-14
    assert np.diag(S.block((0, 0, 0), 0, 0)) == pytest.approx(1.0)


def test_any_order_and_choice_of_pairs(tmp_path: Path, structure: Structure) -> None:
    (tmp_path / "BASIS").write_text(BASIS_FILE)
    basis = load_basis("cp2k:BASIS:TEST-SET", structure.elements, tmp_path)
    pairs = pairs_within(structure, 4.0)
    full = overlap_gaussian(structure, basis, pairs)[1]
    rows = np.random.default_rng(0).permutation(len(pairs))[: len(pairs) // 2]  # many without their reverse
    assert (
        np.abs(overlap_gaussian(structure, basis, pairs[rows])[1].entries - full.selected(rows).entries).max() < 1e-14
    )


def test_cp2k_file(tmp_path: Path) -> None:
    path = tmp_path / "BASIS"
    path.write_text(BASIS_FILE)
    shells, electrons = read_basis_set(path, "C", "test-set-Q4")
    assert [(g.l, g.coefficients.shape) for g in shells] == [(0, (3, 2)), (1, (3, 1)), (2, (1, 1))] and electrons == 4
    assert shells[1].coefficients[:, 0] == pytest.approx([0.3, -0.6, 0.7])
    with pytest.raises(InputError, match="no such basis set"):
        read_basis_set(path, "N", "TEST-SET")
    path.write_text(BASIS_FILE.split("   0.3  0.6")[0])
    with pytest.raises(InputError, match="damaged"):
        read_basis_set(path, "C", "TEST-SET")


def test_order_of_shells_is_that_of_the_dft_run() -> None:
    from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
    from aiida_deeph.engine.dft.pyscf.crystal import build_cell
    from aiida_deeph.engine.dft.pyscf.output import shells_of

    for name in ("gth-szv", "gth-dzvp", "gth-tzv2p"):
        structure = Structure(("C", "O"), np.array([[0.0, 0, 0], [1.2, 0, 0]]), np.eye(3) * 6)
        cell = build_cell(structure, PyscfConfig(basis=name))
        basis = load_basis(f"pyscf:{name}", ("C", "O"), Path())
        assert {s: list(ls) for s, ls in basis.orbital_basis.shells.items()} == shells_of(cell)
        assert basis.n_electrons(("C", "O", "O")) == 16


def test_range_bounds_what_is_left_out(structure: Structure) -> None:
    basis = load_basis("pyscf:gth-szv", structure.elements, Path())
    loose, tight = overlap_ranges(basis, 1e-3), overlap_ranges(basis, 1e-8)
    assert loose.keys() == {"C-C", "C-H", "H-H"} and all(loose[k] < tight[k] for k in loose)
    assert overlap_beyond(basis, loose) <= 1e-3 and overlap_beyond(basis, tight) <= 1e-8
    pairs = pairs_within(structure, 14.0)
    S = overlap_gaussian(structure, basis, pairs)[1]
    distances = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    assert S.norms()[distances > max(loose.values())].max() < 1e-3
    assert S.norms()[distances > max(tight.values())].max() < 1e-8


def test_folder(tmp_path: Path, structure: Structure) -> None:
    write_structure(tmp_path / "s.xyz", structure)
    folder = run_overlap(OverlapConfig(structure="s.xyz", basis="pyscf:gth-szv", threshold=1e-6), tmp_path)
    data = read_deeph(folder)
    assert data.hamiltonian is None and data.n_electrons == 9
    assert data.structure.symbols == ("C", "C", "H")  # grouped
    expected = overlap_gaussian(
        data.structure, load_basis("pyscf:gth-szv", ("C", "H"), tmp_path), data.overlap.atom_pairs
    )[1]
    assert np.abs(expected.entries - data.overlap.entries).max() < 1e-13
    assert np.linalg.eigvalsh(data.overlap_at((0.1, 0.2, 0.0)).toarray()).min() > 0
    assert data.metadata["basis"] == {"C": "pyscf:gth-szv", "H": "pyscf:gth-szv"}
    assert data.metadata["largest_overlap_beyond_cutoffs"] <= 1e-6


def test_command(tmp_path: Path, structure: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_structure(tmp_path / "s.xyz", structure)
    arguments = ["--basis", "pyscf:gth-szv", "--structure", "s.xyz", "--output", "a", "--cutoff", "3.5"]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"basis": "pyscf:gth-szv", "structure": "s.xyz", "output": "b", "pair_cutoffs": {"C-C": 3.5, "C-H": 3.5}}
        )
    )
    assert CliRunner().invoke(command, ["config.json"], catch_exceptions=False).exit_code == 0
    a, b = (read_deeph(tmp_path / name).overlap for name in "ab")
    assert 0 < len(b) < len(a)  # no H-H pairs but those of an atom with itself


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"basis": "gth-szv"}, "basis is not understood"),
        ({"basis": "pyscf:nothing"}, "no such basis"),
        ({"basis": {"C": "pyscf:gth-szv"}}, "element without basis"),
        ({"basis": "cp2k:absent:X"}, "cannot be read"),
        ({"pair_cutoffs": {"H-C": 3.0}}, "wrong name of an element pair"),
        ({"structure": "absent.xyz"}, "absent.xyz"),
        ({"model": "."}, "not a model folder"),
    ],
)
def test_wrong_inputs(tmp_path: Path, structure: Structure, change: dict[str, object], message: str) -> None:
    write_structure(tmp_path / "s.xyz", structure)
    values = {"structure": "s.xyz", "basis": "pyscf:gth-szv", **change}
    with pytest.raises(InputError, match=message):
        run_overlap(OverlapConfig(**values), tmp_path)


def test_basis_of_another_model(tmp_path: Path, structure: Structure) -> None:
    write_structure(tmp_path / "s.xyz", structure)
    model = {
        "network": "deephe3",
        "format_version": 1,
        "architecture": {},
        "basis": {"C": [0, 1], "H": [0]},
        "spin": "none",
        "pair_cutoffs": {"C-C": 2.0, "C-H": 1.5, "H-H": 0.0},
    }
    (tmp_path / "model.json").write_text(json.dumps(model))
    run_overlap(OverlapConfig(structure="s.xyz", basis="pyscf:gth-szv", model="."), tmp_path)
    pairs = read_deeph(tmp_path / "overlap").overlap.atom_pairs
    distances = np.linalg.norm(read_deeph(tmp_path / "overlap").structure.pair_vectors(pairs), axis=1)
    assert distances.max() <= 2.0
    with pytest.raises(InputError, match="not the one that the model was trained on"):
        run_overlap(OverlapConfig(structure="s.xyz", basis="pyscf:gth-dzvp", model="."), tmp_path)


@pytest.mark.parametrize(
    "name", ["def2-svp", "def2-tzvp", "cc-pvtz", "aug-cc-pvtz", "6-31g**", "sto-3g", "ano", "unc-def2-svp"]
)
def test_any_basis_of_the_library(name: str) -> None:
    """Contracted, general contracted and uncontracted functions up to g, as PySCF orders and integrates them."""
    from aiida_deeph.engine.domain.convention import LIBCINT
    from aiida_deeph.engine.domain.transforms import orbital_map

    positions = np.array([[0.0, 0, 0.1], [0.1, 1.4, 0], [-1.0, 0.4, -0.7]])
    structure = Structure(("O", "C", "H"), positions, np.eye(3) * 20, (False,) * 3)
    basis = load_basis(f"pyscf:{name}", structure.elements, Path())
    orbital_basis, S = overlap_gaussian(structure, basis, pairs_within(structure, 10.0))
    atoms = list(zip(structure.symbols, positions / BOHR_TO_ANGSTROM, strict=True))
    mol = gto.M(atom=atoms, unit="Bohr", basis=name, spin=None, verbose=0)
    place, sign = orbital_map(orbital_basis, structure.symbols, LIBCINT)
    found = S.to_csr((0, 0, 0), orbital_basis.orbitals_per_atom(structure.symbols)).toarray()
    assert np.abs(found[np.ix_(place, place)] * np.outer(sign, sign) - mol.intor("int1e_ovlp")).max() < 1e-13
    found = positions_gaussian(structure, basis)[:, place[:, None], place] * np.outer(sign, sign)
    assert np.abs(found / BOHR_TO_ANGSTROM - mol.intor("int1e_r")).max() < 1e-12
    assert basis.n_electrons(structure.symbols) == mol.nelectron
