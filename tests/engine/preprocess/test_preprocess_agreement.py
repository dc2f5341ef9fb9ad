"""What the members of one dataset must have in common, and what is allowed by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import shifted
from aiida_deeph.engine.io.dataset import DatasetManifest
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.preprocess.config import PreprocessConfig
from aiida_deeph.engine.preprocess.run import run_preprocess

SETTINGS = {
    "xc": "pbe",
    "basis": "gth-szv",
    "pseudo": {"H": "H-q1"},
    "ke_cutoff": 60.0,
    "kmesh": [4, 4, 4],
    "smearing": 0.1,
}
Change = Callable[[RealSpaceHamiltonian], RealSpaceHamiltonian]


def settings(**changes: object) -> Change:
    version = changes.pop("version", "2.1")
    metadata = {"code": changes.pop("code", "none"), "version": version, "settings": {**SETTINGS, **changes}}
    return lambda data: replace(data, metadata=metadata)


def of_pbc(data: RealSpaceHamiltonian) -> RealSpaceHamiltonian:
    s = data.structure
    return replace(data, structure=Structure(s.symbols, s.positions, s.cell, (True, True, True)))


CASES = {
    "functional": (settings(xc="lda"), 'functional: "lda", before "pbe"'),
    "basis": (settings(basis="gth-dzvp"), "basis: "),
    "pseudopotential": (settings(pseudo={"H": "H-ae"}), "pseudopotential of H: "),
    "cutoff": (settings(ke_cutoff=20.0), "cutoff: 20.0, before 60.0"),
    "k_mesh": (settings(kmesh=[1, 1, 1]), "k_mesh: 6.6 Angstrom wide, before 26.4"),
    "smearing": (settings(smearing=1.0), "smearing: 1.0, before 0.1"),
    "code": (settings(code="other"), "code: "),
    "version": (settings(version="9.9"), "version: "),
    "pbc": (of_pbc, "pbc: [True, True, True], before [True, False, False]"),
    "zero_of_energy": (lambda data: shifted(data, 20.0), "zero of energy as in the other members: 2"),
}


def dataset(folder: Path, chain, change: Change, **options: object) -> DatasetManifest:
    """Two members that agree, and a third."""
    for name, one in (("a", settings()), ("b", settings()), ("c", lambda data: change(settings()(data)))):
        write_deeph(folder / "raw" / name, one(chain(seed="abc".index(name))))
    members = [{"name": name, "path": f"raw/{name}", "code": "deeph"} for name in "abc"]
    return run_preprocess(
        parse_config(PreprocessConfig, {"members": members, "max_failed_fraction": 0.5, **options}), folder
    )


def test_members_that_agree_are_taken(tmp_path: Path, chain) -> None:
    manifest = dataset(tmp_path, chain, lambda data: data)
    assert len(manifest.members) == 3 and set(manifest.source["agreement"]["on_site_eV"]) == {"H"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_member_that_differs_is_named_unless_it_is_allowed(tmp_path: Path, chain, name: str) -> None:
    change, words = CASES[name]
    manifest = dataset(tmp_path, chain, change)
    assert [one.name for one in manifest.rejected] == ["c"] and words in manifest.rejected[0].reason
    assert len(dataset(tmp_path, chain, change, allow=[name], output="allowed").members) == 3


def test_numbers_and_words_are_compared_whatever_their_form(tmp_path: Path, chain) -> None:
    same = settings(ke_cutoff="60", xc="PBE", basis_sha256={"H": "1f"})
    assert len(dataset(tmp_path, chain, same).members) == 3


def test_every_key_that_tells_of_a_thing_is_compared(tmp_path: Path, chain) -> None:
    """Another basis set under the same name has another digest."""
    for name, digest in (("a", "1f"), ("b", "2e")):
        one = settings(basis_sha256={"H": digest})(chain(seed="ab".index(name)))
        write_deeph(tmp_path / "raw" / name, one)
    members = [{"name": name, "path": f"raw/{name}", "code": "deeph"} for name in "ab"]
    values = {"members": members, "max_failed_fraction": 0.5}
    manifest = run_preprocess(parse_config(PreprocessConfig, values), tmp_path)
    assert 'basis (basis_sha256) of H: "2e", before "1f"' in manifest.rejected[0].reason
    again = {**values, "allow": ["basis"], "output": "allowed"}
    assert len(run_preprocess(parse_config(PreprocessConfig, again), tmp_path).members) == 2


def test_vacuum_does_not_hide_a_coarse_mesh(tmp_path: Path, chain) -> None:
    """One point across vacuum that is narrower than the mesh is wide says nothing of the mesh."""

    def in_box(mesh: list[int]) -> Change:
        def change(data: RealSpaceHamiltonian) -> RealSpaceHamiltonian:
            s = data.structure
            data = replace(data, structure=Structure(s.symbols, s.positions, s.cell, (True, True, True)))
            return settings(kmesh=mesh)(data)

        return change

    for name, mesh in (("a", [9, 1, 1]), ("b", [3, 1, 1])):
        write_deeph(tmp_path / "raw" / name, in_box(mesh)(chain(seed="ab".index(name))))
    members = [{"name": name, "path": f"raw/{name}", "code": "deeph"} for name in "ab"]
    manifest = run_preprocess(
        parse_config(PreprocessConfig, {"members": members, "max_failed_fraction": 0.5}), tmp_path
    )
    assert "k_mesh: " in manifest.rejected[0].reason


def test_a_member_in_another_unit_is_seen(tmp_path: Path, chain) -> None:
    def other_unit(data: RealSpaceHamiltonian) -> RealSpaceHamiltonian:
        return replace(data, hamiltonian=data.hamiltonian * (1 / 6))

    reason = dataset(tmp_path, chain, other_unit).rejected[0].reason
    assert "size of H as in the other members" in reason and "is H of all in eV?" in reason


def test_the_zero_of_energy_does_not_matter_where_it_is_removed(tmp_path: Path, chain) -> None:
    manifest = dataset(tmp_path, chain, CASES["zero_of_energy"][0], gauge="mu_removed")
    assert len(manifest.members) == 3


def test_new_members_are_held_against_those_of_the_dataset_that_is_extended(tmp_path: Path, chain) -> None:
    dataset(tmp_path, chain, lambda data: data, output="first")
    for number, name in enumerate(("functional", "zero_of_energy", "pbc", "k_mesh")):
        write_deeph(tmp_path / "raw/new", CASES[name][0](settings()(chain(seed=8 + number))))
        members = [{"name": "new", "path": "raw/new", "code": "deeph"}]
        values = {"members": members, "extend": "first", "max_failed_fraction": 0.5, "output": name}
        manifest = run_preprocess(parse_config(PreprocessConfig, values), tmp_path)
        assert CASES[name][1] in manifest.rejected[0].reason


def test_another_basis_of_the_same_shells_is_seen_in_the_overlaps(tmp_path: Path, chain) -> None:
    for name, width in (("a", 0.8), ("b", 0.8), ("wide", 1.0)):
        write_deeph(tmp_path / "raw" / name, chain(width=width, seed="abwide".index(name)))
    members = [{"name": name, "path": f"raw/{name}", "code": "deeph"} for name in ("a", "b", "wide")]
    values = {"members": members, "max_failed_fraction": 0.5}
    manifest = run_preprocess(parse_config(PreprocessConfig, values), tmp_path)
    assert [one.name for one in manifest.rejected] == ["wide"]
    assert "S as in the other members" in manifest.rejected[0].reason
    assert np.isfinite(manifest.pair_cutoffs["H-H"])
