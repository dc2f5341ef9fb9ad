"""Manifest, split and members of a dataset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.dataset import (
    DatasetManifest,
    Member,
    file_hashes,
    load_member,
    member_uuid,
    merged_source,
    read_manifest,
    write_manifest,
)
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.split import SplitConfig, check_split, split

STRUCTURE = Structure(("C", "H"), [[0, 0, 0.0], [0, 0, 1.1]], 5 * np.eye(3))
HASHES = {"POSCAR": "0" * 64}
BASIS = OrbitalBasis({"C": (0, 1), "H": (0,)})


def manifest_of(n: int) -> DatasetManifest:
    members = [
        Member(
            name=f"m{k}",
            uuid=f"{(k * 7919) % 1000:03d}",
            path=f"members/m{k}",
            sha256=HASHES,
            n_atoms=1,
            n_pairs=1,
        )
        for k in range(n)
    ]
    return DatasetManifest(members=tuple(members), basis={"C": (0, 1)}, spin="none", pair_cutoffs={"C-C": 3.0})


def shares(train: float, validation: float, test: float) -> SplitConfig:
    return SplitConfig(train=train, validation=validation, test=test)


@pytest.mark.parametrize(
    ("n", "parts", "expected"),
    [
        (10, (0.6, 0.2, 0.2), (6, 2, 2)),
        (10, (0.7, 0.3, 0.0), (7, 3, 0)),
        (24, (0.6, 0.2, 0.2), (14, 5, 5)),
        (6, (0.6, 0.2, 0.2), (4, 1, 1)),
        (3, (1 / 3, 1 / 3, 1 / 3), (1, 1, 1)),
        (10, (0.5, 0.0, 0.1), (5, 0, 1)),
    ],
)
def test_sizes(n: int, parts: tuple, expected: tuple) -> None:
    found = split(manifest_of(n), shares(*parts), 42)
    assert tuple(len(found[name]) for name in ("train", "validation", "test")) == expected
    names = [member.name for part in found.values() for member in part]
    assert len(set(names)) == len(names) == sum(expected)


def test_split_depends_on_members_and_seed_alone() -> None:
    manifest = manifest_of(20)
    turned = manifest.model_copy(update={"members": manifest.members[::-1]})
    first = split(manifest, shares(0.6, 0.2, 0.2), 42)
    assert split(turned, shares(0.6, 0.2, 0.2), 42) == first
    assert split(manifest, shares(0.6, 0.2, 0.2), 43) != first


def test_what_was_fitted_to_is_tested_with_last() -> None:
    some, third = shares(0.6, 0.2, 0.2), shares(0.4, 0.3, 0.3)
    first = split(manifest_of(10), some, 42)
    uuids = {name: [member.uuid for member in part] for name, part in first.items()}
    assert split(manifest_of(10), some, 7, uuids) != first
    assert split(manifest_of(10), some, 42, uuids) == first
    grown = split(manifest_of(20), third, 42, uuids)
    plain = split(manifest_of(20), third, 42)
    seen = {*uuids["train"], *uuids["validation"]}
    assert seen & {member.uuid for member in plain["test"]}
    assert not seen & {member.uuid for member in grown["test"]}
    assert set(uuids["train"]) <= {member.uuid for member in grown["train"]}
    assert [len(part) for part in grown.values()] == [8, 6, 6]
    # What a checkpoint records gives the same parts in the same order again.
    again = {name: [member.uuid for member in part] for name, part in grown.items()}
    assert split(manifest_of(20), third, 42, again) == grown


@pytest.mark.parametrize(
    ("n", "parts", "message"),
    [
        (3, (0.8, 0.1, 0.1), "split leaves no test member"),
        (10, (0.7, 0.3, 0.05), "shares add up to 1.05"),
        (10, (0.7, 0.2, 0.001), "split leaves no test member"),
        (10, (0.01, 0.3, 0.3), "split leaves no train member"),
        (10, (0.8, 0.2, 0.2), "shares add up to 1.2"),
    ],
)
def test_wrong_splits(n: int, parts: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(manifest_of(n), shares(*parts), 42)


def test_members_by_name() -> None:
    """Parts that are not given are empty; nothing depends on the seed, on the order or on an earlier training."""
    manifest = manifest_of(6)
    names = [member.name for member in manifest.members]
    config = SplitConfig(train=names[3:], test=names[:1])
    found = split(manifest, config, 42)
    assert {part: {m.name for m in members} for part, members in found.items()} == {
        "train": set(names[3:]),
        "validation": set(),
        "test": {names[0]},
    }
    turned = SplitConfig(train=names[:2:-1], test=names[:1])
    assert split(manifest, turned, 7, {"train": [m.uuid for m in found["test"]]}) == found
    assert SplitConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(InputError, match="split names members that the dataset lacks; in split; found x, y"):
        split(manifest, SplitConfig(train=["x", names[0], "y"]), 42)
    assert check_split(6, config.model_dump()) is None
    assert check_split(3, config.model_dump()) == "the split names 4 members of 3 labels"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": ["a"], "test": ["b", "a"]}, "named twice: a"),
        ({"train": [], "test": ["a"]}, "no training member is named"),
        ({"train": ["a"], "test": 0.2}, "either shares or names"),
    ],
)
def test_wrong_names(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SplitConfig.model_validate(values)


def test_uuid_is_the_content() -> None:
    uuid = member_uuid(STRUCTURE, BASIS)
    assert uuid == "dbd09994-fec1-5146-80b3-a5fa8bfded4f", "a constant of the format: it must never change"
    assert member_uuid(STRUCTURE, OrbitalBasis({**BASIS.shells, "O": (0,)})) == uuid, "other elements do not matter"
    noise = replace(STRUCTURE, positions=STRUCTURE.positions + 1e-8)
    assert member_uuid(noise, BASIS) == uuid
    others = [
        (replace(STRUCTURE, positions=STRUCTURE.positions + 1e-5), BASIS),
        (replace(STRUCTURE, symbols=("H", "C")), BASIS),
        (replace(STRUCTURE, cell=5.1 * np.eye(3)), BASIS),
        (replace(STRUCTURE, pbc=(True, True, False)), BASIS),
        (STRUCTURE, OrbitalBasis({"C": (0, 0, 1), "H": (0,)})),
    ]
    assert len({uuid, *(member_uuid(*other) for other in others)}) == 6


def test_manifest_round_trip(tmp_path: Path) -> None:
    manifest = manifest_of(3)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert manifest.member("m1").path == "members/m1"
    with pytest.raises(InputError, match="no such member"):
        manifest.member("m9")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "dataset of a newer format"),
        ({"members": []}, "wrong field"),
        ({"colour": "red"}, "wrong field.*colour"),
        (None, "not a dataset folder"),
    ],
)
def test_wrong_manifests(tmp_path: Path, changes: dict | None, message: str) -> None:
    if changes is not None:
        values = {**json.loads(manifest_of(1).model_dump_json()), **changes}
        (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path)


def test_members_are_verified(tmp_path: Path, make_hamiltonian) -> None:
    data = make_hamiltonian()
    folder = tmp_path / "members" / "one"
    write_deeph(folder, data)
    member = Member(name="one", uuid="", path="members/one", sha256=file_hashes(folder), n_atoms=5, n_pairs=9)
    assert set(member.sha256) == {"POSCAR", "info.json", "hamiltonian.h5", "overlap.h5"}
    assert load_member(tmp_path, member).fermi_energy == data.fermi_energy
    info = folder / "info.json"
    info.write_text(info.read_text().replace("-1.25", "-1.26"))
    with pytest.raises(DataError, match=r"file of a member changed.*info.json"):
        load_member(tmp_path, member)
    assert load_member(tmp_path, member, verify=False).fermi_energy == -1.26
    info.unlink()
    with pytest.raises(DataError, match="found sha256 no file"):
        load_member(tmp_path, member)


def test_merged_source() -> None:
    merged = merged_source([{"code": "pyscf", "kmesh": [1, 1, 5]}, {"code": "pyscf", "kmesh": [1, 1, 7], "extra": 1}])
    assert merged == {"code": "pyscf", "kmesh": [[1, 1, 5], [1, 1, 7]], "extra": 1}
