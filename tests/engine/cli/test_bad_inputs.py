"""Bad inputs by hand, through the command line: each ends with one clear line, and nothing is left behind.

A case is a name, what is prepared in an empty folder beside `good` (a DeepH folder), the arguments, words of the line.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aiida_deeph.engine.cli import main as cli
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.deeph_legacy import write_legacy
from tests.engine.chain import gaussian_chain

Prepare = Callable[[Path], object]
SEED = {"seed": 0}
XYZ = '2\nLattice="5 0 0 0 5 0 0 0 5" pbc="T T T"\n{}\n{}\n'


def nothing(_: Path) -> None:
    """Only the good folder."""


def text(name: str, content: str) -> Prepare:
    return lambda folder: (folder / name).write_text(content)


def info(**changes: Any) -> Prepare:
    """`info.json` of the good folder with other values; None takes a key away."""

    def change(folder: Path) -> None:
        path = folder / "good/info.json"
        values = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return change


def matrix(name: str, **arrays: Any) -> Prepare:
    """Datasets of a matrix file replaced; a function takes the old values."""

    def change(folder: Path) -> None:
        with h5py.File(folder / "good" / name, "r+") as file:
            for key, value in arrays.items():
                values = value(file[key][...]) if callable(value) else value
                del file[key]
                file[key] = values

    return change


def with_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[0] = value
        return values

    return change


def instead(name: str, how: str) -> Prepare:
    """Something that is no plain file in the place of one."""

    def change(folder: Path) -> None:
        path = folder / "good" / name
        path.unlink()
        {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "absent": lambda: None, "empty": path.touch}[how]()

    return change


def without(*names: str) -> Prepare:
    return lambda folder: [(folder / "good" / name).unlink() for name in names]


def data(change: Callable[..., Any], name: str = "bad") -> Prepare:
    return lambda folder: write_deeph(folder / name, change(gaussian_chain(**SEED)))


def moved(found: Any, positions: Callable[[np.ndarray], np.ndarray], scale: float = 1.0) -> Any:
    s = found.structure
    return replace(found, structure=Structure(s.symbols, scale * positions(s.positions), scale * s.cell, s.pbc))


def cut_by_threshold(found: Any) -> Any:
    kept = found.overlap.norms() > 0.02
    return replace(found, overlap=found.overlap.selected(kept), metadata={"pair_threshold": 1e-7})


def members(*names: str, **settings: Any) -> str:
    listed = [{"name": name.replace("/", "_"), "path": name, "code": "deeph"} for name in names]
    return json.dumps({"members": listed, **settings})


def legacy(name: str, content: str | None) -> Prepare:
    def change(folder: Path) -> None:
        write_legacy(folder / "old", gaussian_chain(**SEED))
        (folder / "old" / name).unlink() if content is None else (folder / "old" / name).write_text(content)

    return change


def dataset(**changes: Any) -> Prepare:
    """A dataset `stranger` whose one member is changed, and a configuration that extends it."""

    def change(folder: Path) -> None:
        member = {
            "name": "a", "uuid": "u", "path": "members/a", "sha256": {"POSCAR": "0" * 64}, "n_atoms": 1, "n_pairs": 1,
            **changes,
        }  # fmt: skip
        values = {"format_version": 1, "members": [member], "basis": {"H": [0, 0]}, "spin": "none", "pair_cutoffs": {}}
        (folder / "stranger").mkdir()
        (folder / "stranger/manifest.json").write_text(json.dumps(values))
        (folder / "c.json").write_text(json.dumps({"extend": "stranger"}))

    return change


def both(*steps: Prepare) -> Prepare:
    return lambda folder: [step(folder) for step in steps]


def link(name: str, target: str) -> Prepare:
    return lambda folder: (folder / name).symlink_to(target)


def tar_of_nothing(folder: Path) -> None:
    tarfile.open(folder / "packed", "w").close()
    (folder / "c.json").write_text(members("packed"))


def tar_that_climbs(folder: Path) -> None:
    with tarfile.open(folder / "packed", "w") as archive:
        entry = tarfile.TarInfo("../../outside")
        archive.addfile(entry)
    (folder / "c.json").write_text(members("packed"))


CHECK, CONVERT = ("check", "good"), ("convert", "--code", "deeph", "good", "out")
BAD = ("convert", "--code", "deeph", "bad", "out")
DRAW = ("structure", "draw", "s.xyz", "-n", "1", "-o", "out")
TWIST = ("structure", "twist", "graphene", "graphene", "-o", "out.xyz")
PREPROCESS = ("preprocess", "c.json")
H2 = XYZ.format("H 0 0 0", "H 0 0 0.74")
CIF = """data_x
_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4
_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90
loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z
_atom_site_occupancy
Ga1 Ga 0 0 0 0.5\nIn1 In 0 0 0 0.5\nAs1 As 0.5 0.5 0.5 1.0
"""
POSCAR = "x\n1.0\n5 0 0\n0 5 0\n0 0 5\nH\n{}\nCartesian\n0 0 0\n"
CASES: list[tuple[str, Prepare, tuple[str, ...], str]] = [
    # info.json
    ("pbc of words", info(pbc=["False", "True", "True"]), CHECK, r"info.json, pbc.0; found 'False'"),
    ("two directions", info(pbc=[True, True]), CHECK, r"info.json, pbc"),
    ("orthogonal basis", info(orthogonal_basis=True), CHECK, "bases without overlap are not supported"),
    ("negative electrons", info(occupation=-1.0), CHECK, r"occupation; found -1.0.*greater than or equal to 0"),
    ("NaN Fermi level", info(fermi_energy_eV=float("nan")), CHECK, r"fermi_energy_eV; found nan"),
    ("infinite electrons", info(occupation=float("inf")), CHECK, "occupation; found inf"),
    ("Fermi level of words", info(fermi_energy_eV="high"), CHECK, "fermi_energy_eV; found 'high'"),
    ("no basis", info(elements_orbital_map=None), CHECK, "elements_orbital_map; found nothing"),
    ("empty basis", info(elements_orbital_map={}), CHECK, "elements_orbital_map"),
    ("basis of another element", info(elements_orbital_map={"C": [0, 0]}), CHECK, "element without basis.*found H"),
    ("negative l", info(elements_orbital_map={"H": [-1, 0]}), CHECK, "shells of an element are wrong"),
    ("other shells", info(elements_orbital_map={"H": [0, 1]}), CHECK, "block shape does not fit the basis"),
    ("spinful of words", info(spinful="no"), CHECK, "spinful; found 'no'"),
    ("spin contradicts itself", info(spinful=True), CHECK, "contradicts itself"),
    ("unknown spin", info(spin_mode="sideways"), CHECK, "spin_mode 'sideways' is none of"),
    ("another number of atoms", info(atoms_quantity=99), CHECK, "POSCAR and info.json disagree; .*found 99 atoms"),
    ("metadata of words", info(metadata="none"), CHECK, "metadata; found 'none'"),
    ("info.json is a list", text("good/info.json", "[]"), CHECK, "not a DeepH folder.*found list"),
    ("info.json is deep", text("good/info.json", "[" * 100_000), CHECK, "not a DeepH folder.*recursion"),
    ("info.json is cut", text("good/info.json", '{"spinful": fa'), CHECK, "not a DeepH folder"),
    ("no POSCAR", without("POSCAR"), CHECK, "POSCAR cannot be read"),
    ("a billion atoms in a line", text("good/POSCAR", POSCAR.format(10**9)), CHECK, "found 9 lines; expected 10+ atom"),
    ("a coordinate is missing", text("good/POSCAR", POSCAR.format(2)), CHECK, "POSCAR cannot be read"),
    # matrices
    ("neither H nor S", without("hamiltonian.h5", "overlap.h5"), CONVERT, "neither H nor S; in good"),
    ("neither H nor S to check", without("hamiltonian.h5", "overlap.h5"), CHECK, "neither H nor S; in good"),
    ("H is a folder", instead("hamiltonian.h5", "folder"), CONVERT, r"hamiltonian.h5; found a folder"),
    ("H is a pipe", instead("hamiltonian.h5", "pipe"), CONVERT, r"hamiltonian.h5; found a pipe"),
    ("H is empty", instead("hamiltonian.h5", "empty"), CONVERT, "HDF5 file cannot be read"),
    ("S is a folder", instead("overlap.h5", "folder"), CHECK, r"overlap.h5; found a folder"),
    ("NaN in H", matrix("hamiltonian.h5", entries=with_first(np.nan)), CONVERT, "gate failed; in good; found H finite"),
    ("infinity in S", matrix("overlap.h5", entries=with_first(np.inf)), CONVERT, "gate failed; .*found S finite"),
    ("H is not Hermitian", matrix("hamiltonian.h5", entries=with_first(3.0)), CONVERT, "found .*H "),
    (
        "no pairs",
        matrix("hamiltonian.h5", atom_pairs=np.zeros((0, 5), int), chunk_shapes=np.zeros((0, 2), int),
               chunk_boundaries=np.zeros(1, int), entries=np.zeros(0)),
        CONVERT,
        "matrix without entries",
    ),
    ("too few entries", matrix("hamiltonian.h5", entries=lambda values: values[:-1]), CONVERT, "is inconsistent"),
    ("entries are words", matrix("hamiltonian.h5", entries=[b"a", b"b"]), CONVERT, "HDF5 dataset is refused.*numbers"),
    ("atom out of range", matrix("overlap.h5", atom_pairs=lambda p: p + 50), CONVERT, "atom index outside"),
    # positions that do not belong to the matrices
    ("atoms permuted", data(lambda d: moved(d, lambda p: p[[3, 1, 2, 0, 4, 5]])), BAD, "found S by distance"),
    ("lengths in Bohr", data(lambda d: moved(d, lambda p: p, 1.89)), BAD, "are lengths in Bohr"),
    ("H in a strange unit", data(lambda d: replace(d, hamiltonian=d.hamiltonian * 1e-3)), BAD, "is H in eV"),
    ("S cut by a threshold", data(cut_by_threshold), BAD, "was a threshold set"),
    # legacy folders
    ("legacy without elements", legacy("element.dat", None), ("convert", "--code", "deeph_legacy", "old", "out"),
     "not a legacy DeepH folder"),
    ("legacy with element 0", legacy("element.dat", "0\n" * 6), ("check", "old"), "not a legacy DeepH folder.*atomic"),
    ("legacy with element 900", legacy("element.dat", "900\n" * 6), ("check", "old"), "not a legacy DeepH folder"),
    ("legacy info is a list", legacy("info.json", "[]"), ("check", "old"), "not a legacy DeepH folder"),
    ("legacy spin of words", legacy("info.json", '{"aiida_deeph": {"spin_mode": "up"}}'), ("check", "old"),
     "spin_mode 'up' is none of"),
    ("legacy extra is no object", legacy("info.json", '{"aiida_deeph": 3}'), ("check", "old"), "expected a JSON obj"),
    ("legacy Fermi level of words", legacy("info.json", '{"fermi_level": "x"}'), ("check", "old"), "fermi_energy_eV"),
    ("legacy shells of words", legacy("orbital_types.dat", "s p\n"), ("check", "old"), "orbital types cannot be read"),
    # structures
    ("two atoms on one spot", text("s.xyz", XYZ.format("H 0 0 0", "H 0 0 0.1")), DRAW, "two atoms are too close"),
    ("atoms closer than half a bond", text("s.xyz", XYZ.format("C 0 0 0", "C 0 0 0.6")), DRAW, "0.39 times the sum"),
    ("two frames", text("s.xyz", H2 + H2), DRAW, "several structures in one file; .*found 2 frames"),
    ("no atoms", text("s.xyz", "0\n\n"), DRAW, "structure"),
    ("an atom without element", text("s.xyz", XYZ.format("X 0 0 0", "H 0 0 2")), DRAW, "atom without element"),
    ("more atoms declared than lines", text("s.xyz", "1000000000\n\nH 0 0 0\n"), DRAW, "structure is incomplete"),
    ("a coordinate is NaN", text("s.xyz", XYZ.format("H nan 0 0", "H 0 0 2")), DRAW, "NaN or infinite coordinates"),
    ("a coordinate is huge", text("s.xyz", XYZ.format("H 1e12 0 0", "H 0 0 2")), DRAW, "structure is too large"),
    ("a cell without volume", text("s.xyz", H2.replace("0 5 0 0 0 5", "5 0 0 0 0 5")), DRAW, "cell has no volume"),
    ("partial occupancies", text("s.cif", CIF), ("structure", "draw", "s.cif", "-n", "1", "-o", "out"),
     "site without a definite element; .*remedy: choose an ordered supercell"),
    ("amplitude larger than a bond", text("s.xyz", H2), (*DRAW, "--amplitude", "1"), "amplitude is larger than a bond"),
    ("supercell of a billion", text("s.xyz", H2), (*DRAW, "--supercell", "1000000000", "1", "1"), "too many atoms"),
    ("a design that is deep", both(text("s.xyz", H2), text("d.yaml", "[" * 5000)), (*DRAW, "--design", "d.yaml"),
     "design cannot be read"),
    ("a billion cells", text("s.xyz", H2), (*DRAW, "-n", "1000000000"), "too many cells; in n; found 1000000000"),
    ("a common cell of 1e12 atoms", nothing, (*TWIST, "--angle", "3", "--max-atoms", "1000000000000"), "max_atoms; "),
    ("twist with m of a billion", nothing, (*TWIST, "-m", "1000000000"), "too many atoms"),
    ("twist of a layer unknown", nothing, ("structure", "twist", "graphen", "BN", "--angle", "3", "-o", "o.xyz"),
     "unknown layer; found graphen"),
    ("twist of no angle", nothing, TWIST, "exactly one of m and angle"),
    # what is written where
    ("output is a device", text("s.xyz", H2), (*TWIST[:-1], "/dev/null", "-m", "2"), "found a device"),
    ("output is a link", link("out.xyz", "elsewhere"), (*TWIST, "-m", "2"), "found a symbolic link"),
    ("output folder is a link", link("out", "good"), CONVERT, "found a symbolic link"),
    ("bands onto a link", link("b.json", "x"), ("bands", "good", "--mesh", "1", "1", "1", "--output", "b.json"),
     "found a symbolic link"),
    ("folder of another structure", both(info(), lambda f: write_deeph(f / "out", gaussian_chain(seed=1)),
                                         without("hamiltonian.h5")), CONVERT, "folder holds other data"),
    # datasets
    ("a dataset stands there", both(text("c.json", members("good")), lambda f: (f / "dataset").mkdir(),
                                    text("dataset/manifest.json", "{}")), PREPROCESS, "another output, or --over"),
    ("a member that climbs", dataset(name="../../good"), PREPROCESS, r"members.0.name; .*found '../../good'"),
    ("a path that climbs", dataset(path="members/../../good"), PREPROCESS, "members.0.path"),
    ("an absolute path", dataset(path="/etc"), PREPROCESS, "members.0.path; .*found '/etc'"),
    ("a file that climbs", dataset(sha256={"../x": "0" * 64}), PREPROCESS, "members.0.sha256"),
    ("no hashes", dataset(sha256={}), PREPROCESS, "members.0.sha256; .*found {}"),
    ("a manifest of a newer format", both(dataset(), text("stranger/manifest.json", '{"format_version": 9}')),
     PREPROCESS, "dataset of a newer format"),
    ("a manifest that is a list", both(dataset(), text("stranger/manifest.json", "[1]")), PREPROCESS,
     "not a dataset folder"),
    ("a member's name with a slash", text("c.json", members("good").replace('"good"', '"a/b"', 1)), PREPROCESS,
     "members.0.name"),
    ("an empty archive", tar_of_nothing, PREPROCESS, "archive is empty"),
    ("an archive that climbs", tar_that_climbs, PREPROCESS, "archive cannot be read"),
    ("a code unknown", text("c.json", members("good").replace('"deeph"', '"vasp"')), PREPROCESS,
     "no reader for this code"),
    ("a difference unknown", text("c.json", members("good", allow=["colour"])), PREPROCESS, "allow.0"),
    ("a cutoff of nothing", text("c.json", members("good", cutoff=0)), PREPROCESS, "cutoff"),
    ("a configuration that is deep", text("c.json", '{"a":' * 50_000), PREPROCESS, "configuration cannot be read"),
    ("a configuration in Latin-1", lambda f: (f / "c.json").write_bytes(b'{"\xe9": 1}'), PREPROCESS,
     "configuration cannot be read"),
    ("a configuration of code", text("c.yaml", "!!python/object/apply:os.system [ls]"), ("preprocess", "c.yaml"),
     "configuration cannot be read"),
    ("a configuration is a number", text("c.json", "3"), PREPROCESS, "top level"),
    ("functional misspelt", text("c.json", '{"xc": "pbee"}'), ("pyscf", "c.json"), "functional unknown.*mean pbe"),
    ("functional of nothing", text("c.json", '{"xc": " "}'), ("pyscf", "c.json"), "no functional; in xc"),
    ("basis misspelt", text("c.json", '{"basis": "def2-svpp", "pseudo": null}'), ("pyscf", "c.json"),
     "basis unknown to PySCF; .*found 'def2-svpp'.*mean def2svp"),
    ("a basis that is a file", text("c.json", '{"basis": "../../etc/passwd"}'), ("pyscf", "c.json"),
     "basis unknown to PySCF"),
    ("a mesh of no points", text("c.json", '{"kmesh": [0, 1, 1]}'), ("pyscf", "c.json"), "kmesh.0; .*found 0"),
    ("an infinite cutoff", text("c.json", '{"ke_cutoff": 1e400}'), ("pyscf", "c.json"), "ke_cutoff; .*found inf"),
    ("bands around infinity", nothing, ("bands", "good", "--kpath", "G-X", "--around", "inf"), "around.*found .inf"),
    ("a cutoff that is NaN", text("c.json", members("good").replace("{", '{"cutoff": NaN, ', 1)), PREPROCESS, "cutoff"),
    ("a cutoff that leaves no bands", text("c.json", members("good", cutoff=1.5)), PREPROCESS,
     "bands with the cutoff|S\\(k\\)"),
    ("a model that is none", nothing, ("predict", "--model", "good", "--structure", "good", "--output", "p"),
     "not a model folder; .*model.json"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_bad_input_ends_with_one_clear_line(
    tmp_path: Path, monkeypatch, capsys, prepare: Prepare, arguments: tuple[str, ...], words: str
) -> None:
    write_deeph(tmp_path / "good", gaussian_chain(**SEED))
    prepare(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["deeph-engine", *arguments])
    with pytest.raises(SystemExit) as verdict:
        cli.main()
    out, err = capsys.readouterr()
    assert verdict.value.code in (1, 2), out
    assert err.count("\n") == 1 and err.startswith("deeph-engine: "), err
    assert re.search(words, err), err
    assert "unexpected" not in err and "Traceback" not in err and "Error" not in err.split(";")[0]
    # A preprocessing leaves its report; everything else leaves nothing.
    assert {path.name for path in tmp_path.iterdir()} <= before | {"dataset"}


def test_there_are_sixty_of_them() -> None:
    assert len({case[0] for case in CASES}) == len(CASES) >= 60
