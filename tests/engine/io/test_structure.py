"""Structure files."""

from __future__ import annotations

import os
from pathlib import Path

import ase.io
import numpy as np
import pytest

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.files import atomic_path
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.engine.io.structure import write_structure

CELL = np.array([[3.1, 0.1 / 3, 0.0], [-np.pi / 2, 3.6, 1e-9], [0.3, 0.0, 41.2]])


@pytest.fixture
def structure() -> Structure:
    positions = np.random.default_rng(15).normal(size=(4, 3)) * [10, 1, 1e-7]
    return Structure(("C", "H", "H", "Mo"), positions, CELL, (True, True, False))


@pytest.mark.parametrize("name", ["structure.xyz", "POSCAR"])
def test_lossless(tmp_path: Path, structure: Structure, name: str) -> None:
    write_structure(tmp_path / name, structure)
    found = read_structure(tmp_path / name)
    assert found.symbols == structure.symbols
    np.testing.assert_array_equal(found.positions, structure.positions)
    np.testing.assert_array_equal(found.cell, structure.cell)
    assert found.pbc == (structure.pbc if name.endswith("xyz") else (True, True, True))
    assert [path.name for path in tmp_path.iterdir()] == [name], "no temporary file is left"


def test_other_formats_go_through_ase(tmp_path: Path, structure: Structure) -> None:
    write_structure(tmp_path / "structure.cif", Structure(structure.symbols, structure.positions, CELL))
    assert len(ase.io.read(tmp_path / "structure.cif")) == 4


def test_molecule_without_cell_gets_a_box(tmp_path: Path) -> None:
    (tmp_path / "h2.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    molecule = read_structure(tmp_path / "h2.xyz")
    assert molecule.pbc == (False, False, False)
    np.testing.assert_allclose(molecule.cell, np.diag([20, 20, 20.74]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.cif", None, "structure cannot be read; in .*absent.cif"),
        ("broken.xyz", "2\n\nH 0 0 0\n", "structure cannot be read"),
        ("binary.dat", "\x00\x01", "structure cannot be read"),
    ],
)
def test_unreadable(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_structure(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_folder_without_structure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="POSCAR cannot be read"):
        read_structure(tmp_path)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    umask = os.umask(0)
    os.umask(umask)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o666 & ~umask


METHANOL = """methanol
  tests             {dimension}

  6  5  0  0  0  0  0  0  0  0999 {version}
   -0.3666    0.0028   -0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.9620   -0.4571    0.0000 O   0  0  0  0  0  0  0  0  0  0  0  0
   -0.8800   -0.3650   -0.8900 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.8800   -0.3650    0.8900 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.3900    1.0950   -0.0000 H   0  0  0  0  0  0  0  0  0  0  0  0
    1.5200    0.3200    0.0000 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
  1  3  1  0  0  0  0
  1  4  1  0  0  0  0
  1  5  1  0  0  0  0
  2  6  1  0  0  0  0
{more}M  END
"""


def molfile(dimension: str = "3D", version: str = "V2000", more: str = "") -> str:
    return METHANOL.format(dimension=dimension, version=version, more=more)


@pytest.mark.parametrize("suffix", ["sdf", "mol", "xyz"])
def test_molecules(tmp_path: Path, suffix: str) -> None:
    """No direction is periodic, whatever the format; sdf files may end with properties."""
    path = tmp_path / f"methanol.{suffix}"
    if suffix == "xyz":
        path.write_text("2\n\nO 0 0 0\nH 0 0 0.97\n")
    else:
        path.write_text(molfile() + ("> <name>\nmethanol\n\n$$$$\n" if suffix == "sdf" else ""))
    structure = read_structure(path)
    assert structure.pbc == (False, False, False) and structure.symbols[0] in "CO"
    assert len(structure) == (2 if suffix == "xyz" else 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (molfile("2D"), "molecule drawn in the plane"),
        (molfile(version="V3000"), "extended format V3000"),
        (molfile(more="M  CHG  1   2  -1\n"), "charged molecule.*the parameters of the label"),
        (molfile() + "$$$$\n" + molfile() + "$$$$\n", "several structures in one file"),
    ],
)
def test_molecules_that_say_more_than_their_atoms(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.sdf").write_text(text)
    with pytest.raises(InputError, match=message):
        read_structure(tmp_path / "m.sdf")
    zwitterion = molfile(more="M  CHG  2   1   1   2  -1\n")
    (tmp_path / "m.sdf").write_text(zwitterion)
    assert len(read_structure(tmp_path / "m.sdf")) == 6
