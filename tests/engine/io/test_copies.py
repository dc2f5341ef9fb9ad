"""Copies of one structure are one group, and a group is never split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.domain.fingerprint import Groups, fingerprint
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.dataset import DatasetManifest, Member
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.split import SplitConfig, split
from aiida_deeph.engine.preprocess.config import PreprocessConfig
from aiida_deeph.engine.preprocess.run import run_preprocess
from aiida_deeph.engine.structures.changes import repeated
from tests.engine.chain import gaussian_chain

RNG = np.random.default_rng(7)
CELL = np.array([[4.1, 0.2, 0.0], [-0.7, 4.6, 0.1], [0.3, 0.0, 4.2]])
PARENT = Structure(("C", "H", "C", "O", "H"), RNG.random((5, 3)) @ CELL, CELL)
TURN, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
COPIES = {
    "moved": replace(PARENT, positions=PARENT.positions + np.array([1.0, 2.0, 3.0])),
    "numbered otherwise": PARENT.permuted(np.array([3, 1, 4, 0, 2])),
    "turned": replace(PARENT, positions=PARENT.positions @ TURN, cell=CELL @ TURN),
    "noisy": replace(PARENT, positions=PARENT.positions + 1e-5 * RNG.uniform(-1, 1, (5, 3))),
    "repeated": repeated(PARENT, (2, 1, 1)),
    "in another cell": replace(PARENT, cell=CELL[[1, 0, 2]] * np.array([[1], [1], [-1]])),
    "wrapped": replace(PARENT, positions=PARENT.positions + RNG.integers(-2, 3, (5, 3)) @ CELL),
}


@pytest.mark.parametrize("how", list(COPIES))
def test_a_copy_is_of_the_group_of_its_parent(how: str) -> None:
    groups = Groups()
    assert groups.add("parent", PARENT) == "parent"
    assert groups.add("copy", COPIES[how]) == "parent"


@pytest.mark.parametrize("size", [0.05, 0.01, 0.002])
def test_a_neighbour_of_the_parent_is_no_copy(size: float) -> None:
    groups = Groups()
    groups.add("parent", PARENT)
    moved = replace(PARENT, positions=PARENT.positions + size * RNG.uniform(-1, 1, (5, 3)))
    assert groups.add("other", moved) == "other"
    assert groups.add("strained", replace(PARENT, cell=1.001 * CELL, positions=1.001 * PARENT.positions)) == "strained"
    assert fingerprint(PARENT).shape == (3 * 3 * 2 * 8,)


def manifest(groups: list[str]) -> DatasetManifest:
    members = [
        Member(
            name=f"m{n}", uuid=f"{(n * 7919) % 1000:03d}", path=f"members/m{n}", sha256={"POSCAR": "0" * 64},
            n_atoms=1, n_pairs=1, group=group,
        )
        for n, group in enumerate(groups)
    ]  # fmt: skip
    return DatasetManifest(members=tuple(members), basis={"C": (0,)}, spin="none", pair_cutoffs={"C-C": 3.0})


@pytest.mark.parametrize("seed", range(20))
def test_a_split_keeps_copies_together_and_its_shares(seed: int) -> None:
    groups = ["", *["m1"] * 5, "", "", *["m8"] * 3, "", "m12", "m12", *[""] * 10]
    groups[1] = groups[8] = groups[12] = ""
    parts = split(manifest(groups), SplitConfig(), seed)
    names = [member.name for part in parts.values() for member in part]
    assert len(names) == len(set(names)) == len(groups)
    place = {member.name: part for part, members in parts.items() for member in members}
    for group in ("m1", "m8", "m12"):
        assert len({place[f"m{n}"] for n, one in enumerate(groups) if one == group or f"m{n}" == group}) == 1
    assert [len(part) for part in parts.values()] == [14, 5, 5]


def test_a_dataset_of_copies_alone_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"split leaves no test member; .*members are copies"):
        split(manifest(["", *["m0"] * 9]), SplitConfig(), 1)


def test_the_report_of_a_preprocessing_names_copies(tmp_path: Path) -> None:
    data = gaussian_chain(seed=0)
    moved = replace(
        data, structure=replace(data.structure, positions=data.structure.positions + np.array([0.4, 0.0, 0.1]))
    )
    for name, one in (("a", data), ("b", gaussian_chain(seed=1)), ("moved", moved)):
        write_deeph(tmp_path / "raw" / name, one)
    members = [{"name": name, "path": f"raw/{name}", "code": "deeph"} for name in ("a", "b", "moved")]
    found = run_preprocess(parse_config(PreprocessConfig, {"members": members}), tmp_path)
    assert [member.group for member in found.members] == ["", "", "a"]
    report = json.loads((tmp_path / "dataset/preprocess.json").read_text())
    assert report["statistics"]["groups"] == found.statistics["groups"] == {"a": ["a", "moved"]}
    members = [{"name": "again", "path": "raw/b", "code": "deeph"}]
    values = {"members": members, "extend": "dataset", "output": "more", "max_failed_fraction": 0.9}
    assert run_preprocess(parse_config(PreprocessConfig, values), tmp_path).statistics["groups"] == {
        "a": ["a", "moved"]
    }
