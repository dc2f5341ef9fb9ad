"""The legacy folder: against a loop over its datasets, and round trips."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy, write_legacy
from aiida_deeph.engine.io.folders import read_structure

# ours[k] = openmx[P[l][k]]
P = {0: [0], 1: [1, 2, 0], 2: [2, 4, 0, 3, 1], 3: [6, 4, 2, 0, 1, 3, 5]}
SETS = ["water_small_e3nn035/dataset/4990", "mote2_small_e3nn060/dataset/MoTe2_0", "bnsoc_small_e3nn060/dataset/000"]


@pytest.fixture(params=SETS, ids=["water", "MoTe2", "BN-SOC"])
def folder(request, shared: Path) -> Path:
    return shared / "fixtures/deeph-e3-reference" / request.param


def test_every_block(folder: Path) -> None:
    data = read_legacy(folder)
    lattice = np.loadtxt(folder / "lat.dat").T
    np.testing.assert_array_equal(data.structure.cell, lattice)
    shells = [
        [int(l) for l in line.split()] for line in (folder / "orbital_types.dat").read_text().splitlines() if line
    ]
    orders = []
    for ls in shells:
        first = np.cumsum([0, *(2 * l + 1 for l in ls)])
        orders.append(np.concatenate([first[n] + np.array(P[l]) for n, l in enumerate(ls)]))
    for name, matrix, spinful in (
        ("hamiltonians.h5", data.hamiltonian, data.spin is not SpinMode.NONE),
        ("overlaps.h5", data.overlap, False),
    ):
        if not (folder / name).is_file():
            assert matrix is None
            continue
        with h5py.File(folder / name) as file:
            assert len(matrix) == len(file)
            for key in file:
                r1, r2, r3, i, j = ast.literal_eval(key)
                rows, columns = orders[i - 1], orders[j - 1]
                if spinful:
                    rows, columns = (np.concatenate([one, one + len(one)]) for one in (rows, columns))
                expected = file[key][...][np.ix_(rows, columns)]
                np.testing.assert_array_equal(matrix.block((r1, r2, r3), i - 1, j - 1), expected)
    assert data.hamiltonian.hermiticity_error() < 1e-7


def test_new_legacy_new(tmp_path: Path, folder: Path) -> None:
    """Nothing is lost or moved: text files to the byte, matrices to the bit."""
    write_deeph(tmp_path / "new", read_legacy(folder))
    write_legacy(tmp_path / "legacy", read_deeph(tmp_path / "new"))
    write_deeph(tmp_path / "again", read_legacy(tmp_path / "legacy"))
    for name in ("POSCAR", "info.json"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert_same(read_deeph(tmp_path / "new"), read_deeph(tmp_path / "again"))


@pytest.mark.parametrize("spin", list(SpinMode))
def test_round_trip_of_everything(tmp_path: Path, make_hamiltonian, spin: SpinMode) -> None:
    """Interleaved elements, open boundaries, f orbitals, an unused element, all spin modes."""
    data = make_hamiltonian(spin)
    write_legacy(tmp_path, data)
    found = read_legacy(tmp_path)
    assert_same(found, data)
    for name in ("basis", "spin", "fermi_energy", "n_electrons", "metadata"):
        assert getattr(found, name) == getattr(data, name), name
    assert found.structure.symbols == data.structure.symbols
    np.testing.assert_array_equal(found.structure.positions, data.structure.positions)
    np.testing.assert_array_equal(found.structure.cell, data.structure.cell)
    assert found.structure.pbc == read_structure(tmp_path).pbc == data.structure.pbc


def test_files_of_the_format(tmp_path: Path, make_hamiltonian) -> None:
    data = make_hamiltonian()
    write_legacy(tmp_path, data)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "site_positions.dat"), data.structure.positions.T)
    products = np.loadtxt(tmp_path / "lat.dat").T @ np.loadtxt(tmp_path / "rlat.dat")
    np.testing.assert_allclose(products, 2 * np.pi * np.eye(3), atol=1e-12)
    assert np.loadtxt(tmp_path / "element.dat").tolist() == [6, 1, 6, 42, 1]
    assert (tmp_path / "orbital_types.dat").read_text().splitlines()[0].split() == ["0", "1", "2"]
    with h5py.File(tmp_path / "hamiltonians.h5") as file:
        block = file["[0, 0, 0, 1, 4]"][...]
    ours = data.hamiltonian.block((0, 0, 0), 0, 3)
    px_of_carbon, xyz3_of_mo = 1, 1  # OpenMX: p as x, y, z; f as m = 0, 1, -1, ..
    assert block[px_of_carbon, xyz3_of_mo] == ours[3, 1 + 3]


def test_real_blocks_of_spinful_data(tmp_path: Path, make_hamiltonian) -> None:
    write_legacy(tmp_path, make_hamiltonian(SpinMode.COLLINEAR))
    with h5py.File(tmp_path / "hamiltonians.h5", "a") as file:
        name = "[0, 0, 0, 2, 2]"
        block = file[name][...].real
        del file[name]
        file[name] = block.astype(np.float32)
    found = read_legacy(tmp_path).hamiltonian.block((0, 0, 0), 1, 1)
    assert found.dtype == np.complex128 and not found.imag.any() and found.real.any()


def rename(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.move("[0, 0, 0, 1, 1]", "onsite")


def reshape(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["[0, 0, 0, 1, 1]"]
        file["[0, 0, 0, 1, 1]"] = np.zeros((2, 2))


@pytest.mark.parametrize(
    ("name", "damage", "error", "message"),
    [
        ("hamiltonians.h5", lambda path: path.write_bytes(path.read_bytes()[:3000]), DataError, "cannot be read"),
        ("hamiltonians.h5", rename, DataError, "dataset name is no atom pair"),
        ("overlaps.h5", reshape, DataError, "block does not fit the basis and spin"),
        ("element.dat", lambda path: path.write_text("C\n"), InputError, "not a legacy DeepH folder"),
        ("lat.dat", Path.unlink, InputError, "not a legacy DeepH folder"),
        ("info.json", Path.unlink, InputError, "not a legacy DeepH folder"),
        ("orbital_types.dat", lambda path: path.write_text("0\n"), DataError, "orbital types do not fit"),
        ("orbital_types.dat", lambda path: path.write_text("0\n" * 5), DataError, "block does not fit"),
    ],
)
def test_damaged_folder(
    tmp_path: Path, make_hamiltonian, name: str, damage, error: type[DeepHError], message: str
) -> None:
    write_legacy(tmp_path, make_hamiltonian())
    if message == "block does not fit":
        # The line of shells decides when we did not write the folder ourselves.
        (tmp_path / "info.json").write_text('{"isspinful": false}')
    damage(tmp_path / name)
    with pytest.raises(error, match=message) as caught:
        read_legacy(tmp_path)
    assert "\n" not in str(caught.value)


def test_two_bases_of_one_element(tmp_path: Path, shared: Path) -> None:
    shutil.copytree(shared / "fixtures/deeph-e3-reference" / SETS[0], tmp_path / "water")
    path = tmp_path / "water" / "orbital_types.dat"
    path.chmod(0o644)
    path.write_text("0 0 1 1 2\n0 0 1\n0 1\n")
    with pytest.raises(DataError, match="two bases for one element; in H"):
        read_legacy(tmp_path / "water")


def assert_same(a, b) -> None:
    for one, other in ((a.hamiltonian, b.hamiltonian), (a.overlap, b.overlap)):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one.atom_pairs, other.atom_pairs)
            np.testing.assert_array_equal(one.entries, other.entries)
