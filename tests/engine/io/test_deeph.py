"""The DeepH folder: round trip, other writers, damaged files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.folders import read_structure


@pytest.mark.parametrize("spin", list(SpinMode))
def test_round_trip(tmp_path: Path, make_hamiltonian, spin: SpinMode) -> None:
    data = make_hamiltonian(spin)
    order = write_deeph(tmp_path / "a", data)
    expected = data.permuted(order)
    found = read_deeph(tmp_path / "a")
    assert found.structure.symbols == ("C", "C", "H", "H", "Mo")
    np.testing.assert_array_equal(found.structure.positions, expected.structure.positions)
    assert found.structure.pbc == read_structure(tmp_path / "a").pbc == (True, True, False)
    for name in ("basis", "spin", "fermi_energy", "n_electrons", "metadata"):
        assert getattr(found, name) == getattr(data, name), name
    assert list(found.basis.shells) == list(data.basis.shells), "the order of elements is kept"
    np.testing.assert_array_equal(found.hamiltonian.atom_pairs, expected.hamiltonian.atom_pairs)
    np.testing.assert_array_equal(found.hamiltonian.entries, expected.hamiltonian.entries)
    # The format wants one list of pairs: S, which is shorter, gets zeros.
    np.testing.assert_array_equal(found.overlap.atom_pairs, found.hamiltonian.atom_pairs)
    padded = expected.overlap.aligned_to(expected.hamiltonian.atom_pairs, expected.orbitals_per_atom)
    np.testing.assert_array_equal(found.overlap.entries, padded.entries)
    write_deeph(tmp_path / "b", found)
    for name in ("POSCAR", "info.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_layout_of_the_format(tmp_path: Path, make_hamiltonian) -> None:
    write_deeph(tmp_path, make_hamiltonian(SpinMode.COLLINEAR))
    assert {path.name for path in tmp_path.iterdir()} == {"POSCAR", "info.json", "overlap.h5", "hamiltonian.h5"}
    info = json.loads((tmp_path / "info.json").read_text())
    assert info["spinful"] is True and info["orbits_quantity"] == 2 * 9 + 2 * 5 + 8
    assert info["elements_orbital_map"]["C"] == [0, 1, 2]
    with h5py.File(tmp_path / "hamiltonian.h5") as H, h5py.File(tmp_path / "overlap.h5") as S:
        assert H["entries"].dtype == np.complex128 and S["entries"].dtype == np.float64
        np.testing.assert_array_equal(H["atom_pairs"], S["atom_pairs"])
        np.testing.assert_array_equal(H["chunk_shapes"], 2 * S["chunk_shapes"][...])
        np.testing.assert_array_equal(H["chunk_boundaries"], 4 * S["chunk_boundaries"][...])


def test_single_matrix(tmp_path: Path, make_hamiltonian) -> None:
    data = make_hamiltonian()
    write_deeph(tmp_path / "s", replace(data, hamiltonian=None))
    assert read_deeph(tmp_path / "s").hamiltonian is None
    assert len(read_deeph(tmp_path / "s").overlap) == len(data.overlap), "nothing is padded without need"
    write_deeph(tmp_path / "h", replace(data, overlap=None), hamiltonian_file="hamiltonian_pred.h5")
    assert read_deeph(tmp_path / "h").hamiltonian is None
    assert read_deeph(tmp_path / "h", hamiltonian_file="hamiltonian_pred.h5").hamiltonian is not None


def test_other_data_are_not_mixed_in(tmp_path: Path, make_hamiltonian) -> None:
    data = make_hamiltonian()
    write_deeph(tmp_path, data)
    write_deeph(tmp_path, replace(data, fermi_energy=1.0))
    with pytest.raises(InputError, match="folder holds other data"):
        write_deeph(tmp_path, replace(data, hamiltonian=None))
    assert read_deeph(tmp_path).fermi_energy == 1.0


def test_folder_of_deeph_dock(shared: Path) -> None:
    data = read_deeph(shared / "fixtures/bilayer-graphene/twisted_28")
    assert len(data.structure) == 28 and data.basis.shells == {"C": (0, 0, 1, 1, 2)}
    assert data.fermi_energy == pytest.approx(-3.7430102643684595)
    assert data.hamiltonian.hermiticity_error() < 1e-6
    overlap = data.overlap_at((0, 0, 0)).diagonal()
    assert overlap.min() > 0.9


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def drop(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["entries"]


def shorten(path: Path) -> None:
    with h5py.File(path, "a") as file:
        values = file["entries"][:-1]
        del file["entries"]
        file["entries"] = values


def make_complex(path: Path) -> None:
    with h5py.File(path, "a") as file:
        values = file["entries"][...].astype(complex)
        del file["entries"]
        file["entries"] = values


def flatten(path: Path) -> None:
    with h5py.File(path, "a") as file:
        values = file["chunk_shapes"][...].ravel()
        del file["chunk_shapes"]
        file["chunk_shapes"] = values


def outside(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["atom_pairs"][0, 4] = 99


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "HDF5 file cannot be read"),
        (lambda path: path.write_text("no HDF5"), "HDF5 file cannot be read"),
        (drop, "HDF5 file misses a dataset"),
        (shorten, "block-sparse matrix is inconsistent"),
        (make_complex, "entries have the wrong type"),
        (flatten, "axis"),
        (outside, "atom index outside the structure"),
    ],
)
def test_damaged_matrix(tmp_path: Path, make_hamiltonian, damage, message: str) -> None:
    write_deeph(tmp_path, make_hamiltonian())
    damage(tmp_path / "hamiltonian.h5")
    with pytest.raises(DataError, match=message) as caught:
        read_deeph(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spinful": None}, "contradicts itself|wrong field"),
        ({"elements_orbital_map": {"C": "spd"}}, "wrong field"),
        ({"elements_orbital_map": None}, "wrong field"),
        ({"elements_orbital_map": {"C": [0, 1, 2]}}, "element without basis"),
        ({"elements_orbital_map": {"C": [0], "H": [0, 0, 1], "Mo": [0, 3]}}, "block shape does not fit the basis"),
        ({"atoms_quantity": 4}, "POSCAR and info.json disagree"),
        ({"spin_mode": "up"}, "wrong field"),
        ({"fermi_energy_eV": "high"}, "wrong field"),
    ],
)
def test_wrong_info(tmp_path: Path, make_hamiltonian, changes: dict, message: str) -> None:
    write_deeph(tmp_path, make_hamiltonian(SpinMode.NONCOLLINEAR))
    path = tmp_path / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(DeepHError, match=message):
        read_deeph(tmp_path)


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_no_deeph_folder(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "info.json").write_text(text)
    with pytest.raises(InputError, match="not a DeepH folder"):
        read_deeph(tmp_path)
