"""HamiltonianData: its repository is a DeepH folder."""

from __future__ import annotations

import json
import shutil
import warnings

import h5py
import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError

from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.overlap.config import OverlapConfig
from aiida_deeph.engine.overlap.run import run_overlap

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_attributes(deeph_folder, hamiltonian):
    node = HamiltonianData(deeph_folder).store()
    assert node.n_atoms == 2
    assert node.n_pairs == len(hamiltonian.hamiltonian)
    assert node.elements == ("C", "H")
    assert node.fermi_energy == -1.5
    assert node.has_hamiltonian and node.has_overlap
    assert node.base.attributes.get("basis") == {"C": [0, 1], "H": [0]}
    assert node.base.attributes.get("spin") == "none"
    assert sorted(node.base.attributes.get("files")) == ["POSCAR", "hamiltonian.h5", "info.json", "overlap.h5"]


def test_load_gives_the_matrices_back(deeph_folder, hamiltonian):
    node = orm.load_node(HamiltonianData(deeph_folder).store().pk)
    loaded = node.load()
    np.testing.assert_array_equal(loaded.hamiltonian.entries, hamiltonian.hamiltonian.entries)
    np.testing.assert_array_equal(loaded.overlap.entries, hamiltonian.overlap.entries)


def test_sisl_has_the_same_matrices(deeph_folder, hamiltonian):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sisl calls functions of pyparsing by old names
        pytest.importorskip("sisl", reason="sisl is not installed")
    theirs = HamiltonianData(deeph_folder).get_sisl()
    k = [0.0, 0.0, 0.2]
    np.testing.assert_allclose(theirs.Hk(k).toarray(), hamiltonian.hamiltonian_at(k).toarray(), atol=1e-12)
    np.testing.assert_allclose(theirs.Sk(k).toarray(), hamiltonian.overlap_at(k).toarray(), atol=1e-12)


def test_structure_has_the_atoms_in_the_order_of_the_matrices(tmp_path, hamiltonian):
    mixed = hamiltonian.permuted(np.array([1, 0]))
    write_deeph(tmp_path / "folder", mixed)
    structure = HamiltonianData(tmp_path / "folder").get_structure()
    assert structure.get_site_kindnames() == ["H", "C"]
    np.testing.assert_array_equal([site.position for site in structure.sites], mixed.structure.positions)
    assert structure.pbc == (True, True, True)


def test_export_is_the_folder(deeph_folder, tmp_path):
    node = HamiltonianData(deeph_folder).store()
    target = node.export(tmp_path / "export")
    for path in deeph_folder.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()
    read_deeph(target)
    with pytest.raises(InputError, match="new or empty folder"):
        node.export(target)


def test_equal_folders_give_equal_hashes(deeph_folder, tmp_path):
    other = shutil.copytree(deeph_folder, tmp_path / "elsewhere" / "another_name")
    hashes = {HamiltonianData(folder).store().base.caching.get_hash() for folder in (deeph_folder, other)}
    assert len(hashes) == 1


def test_writing_twice_gives_equal_hashes(tmp_path, hamiltonian):
    hashes = set()
    for name in ("a", "b"):
        write_deeph(tmp_path / name, hamiltonian)
        hashes.add(HamiltonianData(tmp_path / name).store().base.caching.get_hash())
    assert len(hashes) == 1


def test_overlap_alone(deeph_folder):
    (deeph_folder / "hamiltonian.h5").unlink()
    node = HamiltonianData(deeph_folder).store()
    assert node.has_overlap and not node.has_hamiltonian
    assert node.load().hamiltonian is None


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="not a DeepH folder"):
        HamiltonianData(tmp_path)


def test_no_matrix(deeph_folder):
    for name in ("hamiltonian.h5", "overlap.h5"):
        (deeph_folder / name).unlink()
    with pytest.raises(DataError, match="DeepH folder without matrix"):
        HamiltonianData(deeph_folder)


def test_truncated_matrix(deeph_folder):
    path = deeph_folder / "hamiltonian.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"hamiltonian.h5.*truncated"):
        HamiltonianData(deeph_folder)


def test_empty_node_is_not_stored():
    with pytest.raises(ValidationError, match="not a DeepH folder"):
        HamiltonianData().store()


def test_periodicity_survives(tmp_path, hamiltonian, deeph_folder):
    info = json.loads((deeph_folder / "info.json").read_text())
    (deeph_folder / "info.json").write_text(json.dumps({**info, "pbc": [True, True, False]}))
    structure = HamiltonianData(deeph_folder).get_structure()
    assert structure.pbc == (True, True, False)
    assert to_engine(structure).pbc == (True, True, False)


def test_what_the_engine_writes_twice_is_equal(tmp_path, hamiltonian):
    """No time, name or host in what `deeph-engine overlap` writes: a node of it has the same hash the next day."""
    config = OverlapConfig(structure="structure.xyz", basis="pyscf:gth-szv", cutoff=5.0)
    hashes = set()
    for name in ("a", "b"):
        write_structure(tmp_path / name / "structure.xyz", hamiltonian.structure)
        hashes.add(HamiltonianData(run_overlap(config, tmp_path / name)).store().base.caching.get_hash())
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("nan", "matrix holds NaN or infinite entries"),
        ("no pairs", "matrix without entries"),
        ("folder", "file cannot be read.*found a folder"),
        ("pbc", "info.json has a missing or wrong field.*pbc"),
    ],
)
def test_what_cannot_be_a_hamiltonian_is_refused_at_the_door(deeph_folder, damage, message):
    path = deeph_folder / "hamiltonian.h5"
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "pbc":
        info = deeph_folder / "info.json"
        info.write_text(json.dumps({**json.loads(info.read_text()), "pbc": ["False", "True", "True"]}))
    else:
        with h5py.File(path, "r+") as file:
            if damage == "nan":
                file["entries"][0] = float("nan")
            else:
                del file["atom_pairs"]
                file["atom_pairs"] = np.zeros((0, 5), dtype=int)
    with pytest.raises(DataError, match=message):
        HamiltonianData(deeph_folder)
