"""What a stranger's files may not do: lead out of their folder, show other files, take more than they hold."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from aiida_deeph.engine.errors import DataError, InputError, MachineError, as_one_line, machine_failure
from aiida_deeph.engine.io.archive import as_folder
from aiida_deeph.engine.io.dataset import load_member, read_manifest
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy, write_legacy
from aiida_deeph.engine.io.files import atomic_path
from aiida_deeph.engine.preprocess.config import PreprocessConfig
from aiida_deeph.engine.preprocess.run import run_preprocess

ONE = PreprocessConfig(members=({"name": "a", "path": "raw/a", "code": "deeph"},), output="first")


@pytest.fixture
def first(tmp_path: Path, make_hamiltonian) -> Path:
    """Folder with one raw member, the dataset `first` made from it, and the folder `precious`."""
    write_deeph(tmp_path / "raw/a", make_hamiltonian(seed=0))
    run_preprocess(ONE, tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("years of work")
    return tmp_path


def edit(first: Path, **changes: object) -> None:
    path = first / "first/manifest.json"
    values = json.loads(path.read_text())
    values["members"][0].update(changes)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../precious"},
        {"name": "/tmp/precious"},
        {"name": ".."},
        {"name": ""},
        {"path": "../precious"},
        {"path": "members/../../precious"},
        {"path": "/etc"},
        {"path": ""},
        {"sha256": {}},
        {"sha256": {"../../precious/thesis.txt": "0" * 64}},
        {"sha256": {"/etc/passwd": "0" * 64}},
        {"sha256": {"POSCAR": "no hash"}},
    ],
)
def test_a_manifest_names_nothing_outside_its_folder(first: Path, changes: dict) -> None:
    edit(first, **changes)
    with pytest.raises(InputError, match="wrong field"):
        run_preprocess(PreprocessConfig(extend="first", output="second"), first)
    assert (first / "precious/thesis.txt").read_text() == "years of work"
    assert not (first / "second/members").exists()


def test_a_member_that_is_a_link_to_outside_is_refused(first: Path) -> None:
    member = read_manifest(first / "first").members[0]
    file = first / "first/members/a/POSCAR"
    file.rename(first / "precious/POSCAR")
    file.symlink_to(first / "precious/POSCAR")
    with pytest.raises(DataError, match="path leads out of its folder"):
        load_member(first / "first", member)


def test_a_member_stands_once_in_a_manifest(first: Path) -> None:
    path = first / "first/manifest.json"
    values = json.loads(path.read_text())
    values["members"] *= 2
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="a member is listed twice: name a"):
        read_manifest(first / "first")


def replace_entries(folder: Path, how) -> None:
    with h5py.File(folder / "hamiltonian.h5", "r+") as file:
        values = file["entries"][...]
        del file["entries"]
        how(file, values)


def external_storage(file: h5py.File, values: np.ndarray) -> None:
    secret = Path(file.filename).parent / "secret"
    secret.write_bytes(os.urandom(values.nbytes))
    file.create_dataset("entries", shape=values.shape, dtype="f8", external=[(str(secret), 0, values.nbytes)])


def external_link(file: h5py.File, values: np.ndarray) -> None:
    other = Path(file.filename).parent / "other.h5"
    with h5py.File(other, "w") as store:
        store["entries"] = values
    file["entries"] = h5py.ExternalLink(str(other), "entries")


def virtual(file: h5py.File, values: np.ndarray) -> None:
    other = Path(file.filename).parent / "other.h5"
    with h5py.File(other, "w") as store:
        store["entries"] = values
    layout = h5py.VirtualLayout(values.shape, "f8")
    layout[:] = h5py.VirtualSource(str(other), "entries", values.shape)
    file.create_virtual_dataset("entries", layout)


def unallocated(file: h5py.File, values: np.ndarray) -> None:
    file.create_dataset("entries", shape=values.shape, dtype="f8")


def half_of_its_chunks(file: h5py.File, values: np.ndarray) -> None:
    file.create_dataset("entries", shape=values.shape, dtype="f8", chunks=(16,))[:16] = values[:16]


def declared_huge(file: h5py.File, values: np.ndarray) -> None:
    file.create_dataset("entries", shape=(10**13,), dtype="f8", chunks=(10**7,), compression="gzip")[:4] = 1.0


def soft_link(file: h5py.File, values: np.ndarray) -> None:
    file["others"] = values
    file["entries"] = h5py.SoftLink("/others")


@pytest.mark.parametrize(
    "how", [external_storage, external_link, virtual, unallocated, half_of_its_chunks, declared_huge, soft_link]
)
def test_hdf5_holds_its_values_itself(tmp_path: Path, make_hamiltonian, how) -> None:
    write_deeph(tmp_path, make_hamiltonian())
    replace_entries(tmp_path, how)
    with pytest.raises(DataError, match="HDF5 dataset is refused"):
        read_deeph(tmp_path)


def test_compressed_hdf5_is_read(tmp_path: Path, make_hamiltonian) -> None:
    data = make_hamiltonian()
    write_deeph(tmp_path, data)
    expected = read_deeph(tmp_path).hamiltonian.entries
    replace_entries(
        tmp_path, lambda file, values: file.create_dataset("entries", data=values, compression="gzip", chunks=(100,))
    )
    np.testing.assert_array_equal(read_deeph(tmp_path).hamiltonian.entries, expected)


def test_a_legacy_block_in_another_file_is_refused(tmp_path: Path, make_hamiltonian) -> None:
    write_legacy(tmp_path, make_hamiltonian())
    with h5py.File(tmp_path / "hamiltonians.h5", "r+") as file:
        name = next(iter(file))
        del file[name]
        file[name] = h5py.ExternalLink("other.h5", "x")
    with pytest.raises(DataError, match="HDF5 dataset is refused"):
        read_legacy(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_a_matrix_is_a_plain_file(tmp_path: Path, make_hamiltonian, kind: str) -> None:
    write_deeph(tmp_path, make_hamiltonian())
    path = tmp_path / "hamiltonian.h5"
    path.unlink()
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "dangling link": lambda: path.symlink_to("nowhere")}[kind]()
    with pytest.raises(DataError, match=r"file cannot be read.*hamiltonian.h5"):
        read_deeph(tmp_path)


def test_an_archive_that_would_fill_the_disk_is_refused_by_its_headers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("aiida_deeph.engine.io.archive.SMALL", 2**20)
    zeros = tmp_path / "zeros"
    with zeros.open("wb") as file:
        file.truncate(2**22)
    with tarfile.open(tmp_path / "bomb", "w:gz", compresslevel=1) as archive:
        archive.add(zeros, "run/zeros")
    with (
        pytest.raises(DataError, match=r"archive is too large.*remedy: unpack it yourself"),
        as_folder(tmp_path / "bomb"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_ends_the_run_and_rejects_nobody(first: Path, monkeypatch, number: int) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "hamiltonian.h5")

    monkeypatch.setattr("aiida_deeph.engine.preprocess.run.write_deeph", full)
    with pytest.raises(MachineError, match=os.strerror(number)):
        run_preprocess(ONE.model_copy(update={"output": "second"}), first)
    assert not (first / "second/preprocess.json").exists()


def test_no_memory_ends_the_run(first: Path, monkeypatch) -> None:
    def none(*_: object) -> None:
        raise MemoryError("Unable to allocate 1 TiB")

    monkeypatch.setattr("aiida_deeph.engine.preprocess.run.read_gated", none)
    with pytest.raises(MachineError, match="out of memory; found Unable to allocate"):
        run_preprocess(ONE.model_copy(update={"output": "second"}), first)


def test_a_failure_of_the_machine_is_seen_behind_what_a_reader_made_of_it() -> None:
    try:
        try:
            raise OSError("file write failed: errno = 28, error message = 'No space left on device'")
        except OSError as error:
            raise DataError("HDF5 file cannot be read", found=error) from None
    except DataError as error:
        assert "No space left on device" in str(machine_failure(error))
    assert machine_failure(DataError("no H")) is None and machine_failure(FileNotFoundError(2, "absent")) is None


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError("deep"), PermissionError(13, "denied", "f"), ValueError()]
)
def test_any_exception_becomes_one_line_that_is_not_unexpected(error: Exception) -> None:
    line = str(as_one_line(error))
    assert "unexpected" not in line and "\n" not in line and len(line) > 10


@pytest.mark.parametrize("kind", ["symbolic link", "pipe", "folder"])
def test_nothing_is_written_over_a_link_or_a_device(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.json"
    target = tmp_path / "target"
    target.write_text("kept")
    {"symbolic link": lambda: path.symlink_to(target), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(InputError, match=f"output cannot be written there.*found a {kind}"), atomic_path(path):
        pass
    with pytest.raises(InputError, match="a device"), atomic_path(Path("/dev/null")):
        pass
    assert target.read_text() == "kept"
