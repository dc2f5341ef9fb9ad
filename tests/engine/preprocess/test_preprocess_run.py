"""From members of many kinds to one dataset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.neighbours import pair_cutoffs
from aiida_deeph.engine.domain.transforms import gauge_of, with_common_pairs
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.dataset import load_member, read_manifest
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.deeph_legacy import write_legacy
from aiida_deeph.engine.preprocess.asked import as_asked
from aiida_deeph.engine.preprocess.config import PreprocessConfig
from aiida_deeph.engine.preprocess.run import run_preprocess
from aiida_deeph.engine.preprocess.source import read_source


def config(*members: tuple[str, str, str], **settings) -> PreprocessConfig:
    return parse_config(
        PreprocessConfig,
        {"members": [{"name": name, "path": path, "code": code} for name, path, code in members], **settings},
    )


@pytest.fixture
def sources(tmp_path: Path, make_hamiltonian) -> Path:
    """Three sound members (one of them legacy) and some faulty ones."""
    for seed in range(2):
        write_deeph(tmp_path / f"raw/{seed}", make_hamiltonian(seed=seed))
    write_legacy(tmp_path / "raw/legacy", make_hamiltonian(seed=2))
    faulty = make_hamiltonian(seed=3)
    faulty.hamiltonian.entries[0] = np.nan
    write_deeph(tmp_path / "raw/nan", faulty)
    write_deeph(tmp_path / "raw/spin", make_hamiltonian(SpinMode.COLLINEAR, seed=4))
    write_deeph(tmp_path / "raw/only_s", replace(make_hamiltonian(seed=5), hamiltonian=None))
    write_deeph(tmp_path / "raw/truncated", make_hamiltonian(seed=6))
    path = tmp_path / "raw/truncated/overlap.h5"
    path.write_bytes(path.read_bytes()[:-100])
    return tmp_path


SOUND = (("a", "raw/0", "deeph"), ("b", "raw/1", "deeph"), ("c", "raw/legacy", "deeph_legacy"))


def test_dataset(sources: Path, make_hamiltonian) -> None:
    manifest = run_preprocess(config(*SOUND), sources)
    folder = sources / "dataset"
    assert read_manifest(folder) == manifest
    assert [member.name for member in manifest.members] == ["a", "b", "c"] and not manifest.rejected
    assert list(manifest.basis) == ["H", "C", "Mo"], "elements by atomic number"
    cutoffs: dict[str, float] = {}
    for seed, member in enumerate(manifest.members):
        data = with_common_pairs(make_hamiltonian(seed=seed).grouped()[0])
        found = load_member(folder, member)
        k = (0.2, 0.1, 0.0)
        assert abs(found.hamiltonian_at(k) - data.hamiltonian_at(k)).max() < 1e-13
        assert (member.n_atoms, member.n_pairs) == (5, len(data.hamiltonian))
        for key, value in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(cutoffs.get(key, 0), value)
    assert manifest.pair_cutoffs == pytest.approx(cutoffs)
    statistics = manifest.statistics
    assert statistics["n_atoms"] == 15 and statistics["elements"] == {"C": 6, "H": 6, "Mo": 3}
    assert statistics["n_pairs"] == sum(member.n_pairs for member in manifest.members)
    assert statistics["max_hermiticity_error_eV"] < 1e-12 and statistics["min_overlap_eigenvalue"] > 0.5
    assert manifest.source["labels"] == {"code": "none", "converged": True}
    assert manifest.source["codes"] == ["deeph", "deeph_legacy"]


def test_uuid_does_not_depend_on_name_or_order(sources: Path) -> None:
    first = run_preprocess(config(*SOUND), sources)
    renamed = [(f"x{name}", path, code) for name, path, code in SOUND[::-1]]
    second = run_preprocess(config(*renamed, output="second"), sources)
    assert [member.uuid for member in first.members] == [member.uuid for member in second.members[::-1]]


def test_rejected_members_have_their_reason(sources: Path) -> None:
    members = [
        *SOUND,
        *((name, f"raw/{name}", "deeph") for name in ("nan", "spin", "only_s", "truncated", "absent")),
        ("twin", "raw/0", "deeph"),
        ("a", "raw/1", "deeph"),
    ]
    manifest = run_preprocess(config(*members, max_failed_fraction=0.7), sources)
    reasons = {one.name: one.reason for one in manifest.rejected}
    assert len(manifest.members) == 3 and len(manifest.rejected) == 7
    assert "gate failed; in raw/nan; found H finite" in reasons["nan"]
    assert "spin mode differs" in reasons["spin"]
    assert "no Hamiltonian" in reasons["only_s"]
    assert "HDF5 file cannot be read" in reasons["truncated"]
    assert "POSCAR" in reasons["absent"] or "not a DeepH folder" in reasons["absent"]
    assert "duplicate structure" in reasons["twin"] and "member a" in reasons["twin"]
    assert "stands twice" in reasons["a"]
    report = json.loads((sources / "dataset/preprocess.json").read_text())
    assert (report["n_members"], report["n_rejected"]) == (3, 7)
    assert [gate["name"] for gate in report["gates"]["nan"] if not gate["passed"]] == ["H finite"]


def test_too_many_rejected(sources: Path) -> None:
    run_preprocess(config(*SOUND), sources)
    with pytest.raises(DataError, match=r"2 of 4 members rejected.*first: nan"):
        run_preprocess(
            config(*SOUND[:2], ("nan", "raw/nan", "deeph"), ("spin", "raw/spin", "deeph")), sources, overwrite=True
        )
    assert not (sources / "dataset/manifest.json").exists(), "the manifest of before is gone"
    assert (sources / "dataset/preprocess.json").exists()


def test_duplicates_count_as_failed(sources: Path) -> None:
    """A program that gives every label the matrices of one structure must not pass for a dataset of one member."""
    twins = [(f"twin{n}", "raw/0", "deeph") for n in range(5)]
    manifest = run_preprocess(config(*SOUND, *twins, max_failed_fraction=0.7), sources)
    assert len(manifest.members) == 3 and len(manifest.rejected) == 5
    with pytest.raises(DataError, match=r"5 of 8 members rejected.*first: twin0: duplicate structure"):
        run_preprocess(config(*SOUND, *twins), sources, overwrite=True)


def test_a_run_of_another_structure_than_asked_for_is_rejected_by_name(sources: Path) -> None:
    """To the digits that programs print, up to lattice vectors and to the order of atoms of one element."""
    read = {name: read_source(code, sources / path).structure for name, path, code in SOUND}
    asked = {name: as_asked(structure) for name, structure in read.items()}
    first, second, third = SOUND
    # What differs: nothing but a lattice vector and the digits; one atom; the cell.
    asked[first[0]]["positions"][0] = (read[first[0]].positions[0] + read[first[0]].cell[0] + 5e-5).tolist()
    asked[second[0]]["positions"][1][0] += 0.01
    asked[third[0]]["cell"][0][0] *= 1.01
    (sources / "asked.json").write_text(json.dumps(asked))
    manifest = run_preprocess(config(*SOUND, asked="asked.json", max_failed_fraction=0.7), sources)
    assert [member.name for member in manifest.members] == [first[0]]
    reasons = {one.name: one.reason for one in manifest.rejected}
    assert "run of another structure" in reasons[second[0]] and "0.0100 Angstrom from where" in reasons[second[0]]
    assert "a lattice vector" in reasons[third[0]]


def test_a_run_of_other_elements_than_asked_for_is_rejected(sources: Path) -> None:
    structure = read_deeph(sources / SOUND[0][1]).structure
    asked = {**as_asked(structure), "symbols": ["He"] * len(structure)}
    (sources / "asked.json").write_text(json.dumps({SOUND[0][0]: asked}))
    with pytest.raises(DataError, match=r"run of another structure.*expected He"):
        run_preprocess(config(SOUND[0], asked="asked.json"), sources)


def test_cutoff(sources: Path) -> None:
    manifest = run_preprocess(config(*SOUND, cutoff=3.0, max_dropped=0.5), sources)
    assert max(manifest.pair_cutoffs.values()) <= 3.0
    assert manifest.statistics["max_dropped_eV"] > 0.5
    warnings = manifest.statistics["warnings"]
    assert (
        sum("H beyond cutoff" in one for one in warnings)
        == sum("bands with the cutoff" in one for one in warnings)
        == 3
    )
    assert manifest.source["band_error_of_cutoff_eV"] == manifest.statistics["max_band_error_of_cutoff_eV"] > 0.01


def test_gauge(sources: Path) -> None:
    manifest = run_preprocess(config(*SOUND, gauge="mu_removed"), sources)
    assert manifest.gauge == "mu_removed"
    for member in manifest.members:
        data = load_member(sources / "dataset", member)
        assert gauge_of(data) == pytest.approx(0, abs=1e-12)
        assert member.fermi_energy == data.fermi_energy == pytest.approx(-1.25 - data.metadata["gauge_mu_eV"])


def test_elements_are_united(sources: Path, shared: Path) -> None:
    base = shared / "fixtures/deeph-e3-reference/water_small_e3nn035/dataset"
    members = [(name, str(base / name), "deeph_legacy") for name in ("4990", "4991")]
    bilayer = ("bilayer", str(shared / "fixtures/bilayer-graphene/0100"), "deeph")
    manifest = run_preprocess(config(("mixed", "raw/0", "deeph"), bilayer, max_failed_fraction=0.6), sources)
    assert [one.name for one in manifest.rejected] == ["bilayer"], "C has two different bases"
    assert "one basis per element" in manifest.rejected[0].reason
    manifest = run_preprocess(config(*members, bilayer, output="united"), sources)
    assert manifest.basis == {"H": (0, 0, 1), "C": (0, 0, 1, 1, 2), "O": (0, 0, 1, 1, 2)}
    assert set(manifest.pair_cutoffs) == {"C-C", "H-H", "H-O", "O-O"}


def test_unknown_code(sources: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 1 members rejected.*no reader for this code; found vasp"):
        run_preprocess(config(("a", "raw/0", "vasp")), sources)


@pytest.mark.parametrize("settings", [{"cutoff": -1.0}, {"members": []}, {"colour": 1}])
def test_wrong_configuration(settings: dict) -> None:
    with pytest.raises(InputError, match="wrong field"):
        config(*SOUND, **settings) if "members" not in settings else parse_config(PreprocessConfig, settings)
