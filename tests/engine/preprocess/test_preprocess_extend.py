"""Datasets that extend others, and raw output that lies packed."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.archive import as_folder
from aiida_deeph.engine.io.dataset import load_member
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.preprocess.config import PreprocessConfig
from aiida_deeph.engine.preprocess.run import run_preprocess


def run(folder: Path, names: str = "", **settings):
    members = [{"name": name, "path": f"raw/{name}", "code": "deeph"} for name in names]
    return run_preprocess(parse_config(PreprocessConfig, {"members": members, **settings}), folder)


@pytest.fixture
def first(tmp_path: Path, make_hamiltonian) -> Path:
    """Folder with the raw output of four structures, and a dataset of the first two."""
    for seed, name in enumerate("abcd"):
        write_deeph(tmp_path / f"raw/{name}", make_hamiltonian(seed=seed))
    run(tmp_path, "ab", output="first")
    return tmp_path


def test_extended_is_what_all_at_once_would_be(first: Path) -> None:
    extended = run(first, "cd", extend="first", output="second")
    whole = run(first, "abcd", output="whole")
    assert extended.members == whole.members
    for member in extended.members:
        load_member(first / "second", member)
    assert extended.pair_cutoffs == whole.pair_cutoffs and extended.basis == whole.basis
    assert extended.statistics == whole.statistics
    assert extended.source == whole.source


def test_members_outlive_the_folder_they_come_from(first: Path) -> None:
    extended = run(first, "c", extend="first", output="second")
    for path in sorted((first / "first").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for member in extended.members:
        load_member(first / "second", member)


def test_alone(first: Path) -> None:
    assert [member.name for member in run(first, extend="first").members] == ["a", "b"]
    with pytest.raises(InputError, match="give members, or a dataset to extend"):
        run(first)


def test_known_structure_and_known_name_are_left_out(first: Path, make_hamiltonian) -> None:
    write_deeph(first / "raw/again", make_hamiltonian(seed=0))
    members = [{"name": name, "path": path, "code": "deeph"} for name, path in (("x", "raw/again"), ("b", "raw/c"))]
    manifest = run(first, "", members=members, extend="first", max_failed_fraction=0.5)
    assert [member.name for member in manifest.members] == ["a", "b"]
    reasons = {one.name: one.reason for one in manifest.rejected}
    assert "same atoms, cell and basis as member a" in reasons["x"]
    assert "name of a member stands twice" in reasons["b"]


def test_members_of_another_cutoff_do_not_join(first: Path) -> None:
    with pytest.raises(InputError, match=r"datasets do not fit each other.*cutoff; found None.*keep cutoff"):
        run(first, "c", extend="first", cutoff=2.0)


def test_changed_member_is_named(first: Path) -> None:
    with (first / "first/members/a/hamiltonian.h5").open("ab") as file:
        file.write(b"x")
    manifest = run(first, "cd", extend="first", max_failed_fraction=0.5)
    assert [member.name for member in manifest.members] == ["b", "c", "d"]
    assert "file of a member changed" in manifest.rejected[0].reason
    assert json.loads((first / "dataset/preprocess.json").read_text())["n_rejected"] == 1


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_packed_output_is_read(first: Path, mode: str) -> None:
    with tarfile.open(first / "packed", mode) as archive:
        archive.add(first / "raw/a", "ab/cd/efgh")
    members = [{"name": "a", "path": "packed", "code": "deeph"}]
    packed = run(first, "", members=members)
    assert packed.members == run(first, "a", output="plain").members


def hostile(kind: str, path: Path, outside: Path) -> None:
    """An archive that writes to, or through a link to, a place outside."""
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo({"climbs": f"../../{outside.name}", "absolute": str(outside)}.get(kind, "link"))
        if kind in ("link", "device"):
            entry.type, entry.linkname = (tarfile.SYMTYPE, "/") if kind == "link" else (tarfile.CHRTYPE, "")
            archive.addfile(entry)
            entry = tarfile.TarInfo(f"link{outside}")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))


@pytest.mark.parametrize("kind", ["climbs", "absolute", "link", "device"])
def test_archive_never_writes_outside(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    hostile(kind, tmp_path / "evil", outside)
    try:
        with as_folder(tmp_path / "evil") as folder:
            # An absolute name is taken as one below the scratch folder.
            assert kind == "absolute" and os.path.commonpath([folder, tmp_path]) != str(tmp_path)
    except DataError as error:
        assert "archive cannot be read" in str(error)
    assert not outside.exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b damaged"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="archive"), as_folder(tmp_path / "file"):
        pass
