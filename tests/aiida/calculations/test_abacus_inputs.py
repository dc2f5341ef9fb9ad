"""ABACUS jobs: the inputs against recorded ones, what is uploaded, and what is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.folders import SandboxFolder
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import DataFactory

from aiida_deeph.codes.abacus.calculation import AbacusCalculation
from aiida_deeph.engine.dft.abacus.stru import read_stru
from tests.aiida.lcao_files import orb, upf

FIXTURES = Path(__file__).parents[2] / "fixtures" / "abacus"


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


@pytest.fixture
def prepare_abacus(aiida_code_installed, tmp_path):
    """Function that validates the inputs as a submission does, and prepares the job: CalcInfo and folder."""
    code = aiida_code_installed(label="abacus", default_calc_job_plugin="deeph.abacus", filepath_executable="/bin/true")

    def run(inputs: dict):
        process = instantiate_process(get_manager().get_runner(), AbacusCalculation, code=code, **inputs)
        folder = SandboxFolder(tmp_path / "sandbox")
        info = process.prepare_for_submission(folder)
        target = tmp_path / "job"
        target.mkdir(exist_ok=True)
        for path in Path(folder.abspath).iterdir():
            (target / path.name).write_text(path.read_text())
        folder.erase()
        return info, target

    return run


def recorded(name: str, tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / name


def keywords(path: Path) -> dict[str, object]:
    """INPUT as keywords with their words, numbers as numbers."""
    rows = [row.split() for row in path.read_text().splitlines()[1:] if row.strip()]
    return {row[0]: [number(word) for word in row[1:]] for row in rows}


def number(word: str) -> object:
    try:
        return float(word)
    except ValueError:
        return word


def mesh(*divisions: int) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints_mesh(divisions)
    return node


def points(rows: list) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints(rows)
    return node


def structure(cell, *atoms) -> orm.StructureData:
    node = orm.StructureData(cell=np.array(cell, dtype=float).tolist())
    for symbol, *fractional in atoms:
        position = (np.array(fractional) @ np.array(cell)).tolist()
        node.append_atom(symbols=symbol.rstrip("0123456789"), position=position, name=symbol)
    return node


CELLS = {
    "graphene": [[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, 14]],
    "fe_nspin2": 1.435 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
    "gaas_soc_mag": 3.4 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
}
ATOMS = {
    "graphene": [("C", 0.3333333333, 0.6666666667, 0.5), ("C", 0.6666666667, 0.3333333333, 0.5)],
    "fe_nspin2": [("Fe", 0, 0, 0)],
    "gaas_soc_mag": [("Ga", 0, 0, 0), ("As", 0.26, 0.24, 0.255)],
}
# ecutwfc, scf_thr, nbands, mesh
NUMBERS = {
    "graphene": (60, 1e-12, 20, (9, 9, 1)),
    "fe_nspin2": (100, 1e-9, 20, (6, 6, 6)),
    "gaas_soc_mag": (80, 1e-9, 40, (3, 3, 3)),
}
FILES = {
    "C": ("C_gga_8au_100Ry_2s2p1d", "C_ONCV_PBE-1.0.upf"),
    "Fe": ("Fe_gga_6au_100Ry_4s2p2d1f", "Fe_ONCV_PBE-1.0.upf"),
    "Ga": ("Ga_dojo_6au", "Ga_dojo_soc.upf"),
    "As": ("As_dojo_6au", "As_dojo_soc.upf"),
}


def inputs_of(name: str, **changes) -> dict:
    cutoff, threshold, n_bands, divisions = NUMBERS[name]
    node = structure(CELLS[name], *ATOMS[name])
    symbols = node.get_symbols_set()
    settings = {
        "dft_functional": "pbe",
        "ks_solver": "scalapack_gvx",
        "ecutwfc": cutoff,
        "scf_thr": threshold,
        "scf_nmax": 100,
        "smearing_method": "gaussian",
        "smearing_sigma": 0.01,
        "nbands": n_bands,
    }
    values = {
        "structure": node,
        "parameters": orm.Dict(settings),
        "kpoints": mesh(*divisions),
        "orbitals": {symbol: orb(FILES[symbol][0]) for symbol in symbols},
        "pseudos": {symbol: upf(symbol, FILES[symbol][1]) for symbol in symbols},
    }
    return {**values, **changes}


SPINS = {
    "graphene": {},
    "fe_nspin2": {"spin": "collinear", "moments": {"Fe": 3.0}},
    "gaas_soc_mag": {"spin": "noncollinear", "spin_orbit": True},
}
# Where our inputs lie, what they say besides, and that is all.
PLACES = {"pseudo_dir": ["./DATA/"], "orbital_dir": ["./DATA/"]}
OURS = {"esolver_type": ["ksdft"], "gamma_only": [0.0], "kpoint_file": ["KPT"]}


@pytest.mark.parametrize("name", sorted(SPINS))
def test_as_it_was_recorded(prepare_abacus, tmp_path, name):
    run = recorded(name, tmp_path)
    _, job = prepare_abacus(inputs_of(name, **SPINS[name]))
    ours, known = keywords(job / "INPUT"), keywords(run / "scf" / "INPUT")
    extra = {**OURS, **PLACES, "nspin": [1.0]}
    if name == "gaas_soc_mag":
        extra |= {"noncolin": [1.0], "symmetry": [-1.0]}
    assert ours == {**extra, **known, **PLACES} | ({"symmetry": [-1.0]} if name == "gaas_soc_mag" else {})
    assert (job / "KPT").read_text() == (run / "scf" / "KPT").read_text()

    one, other = read_stru(job / "STRU"), read_stru(run / "STRU")
    assert one.labels == other.labels and one.orbital_files == other.orbital_files
    assert one.constant == pytest.approx(other.constant, rel=1e-9)
    np.testing.assert_allclose(one.cell, other.cell, atol=1e-9)
    np.testing.assert_allclose(one.fractional, other.fractional, atol=1e-9)
    text = (job / "STRU").read_text()
    assert all(f" {FILES[symbol][1]}\n" in text for symbol in one.labels)


def test_moments(prepare_abacus):
    node = structure(np.diag([5.0, 5, 5]), ("Fe1", 0, 0, 0), ("H", 0.5, 0, 0), ("Fe2", 0.5, 0.5, 0.5))
    files = {"orbitals": {"Fe": orb("Fe_1s"), "H": orb("H_1s")}, "pseudos": {"Fe": upf("Fe"), "H": upf("H")}}
    inputs = {**inputs_of("fe_nspin2"), "structure": node, **files}
    moments = orm.Dict({"Fe1": 2.0, "Fe2": -2.0})
    _, job = prepare_abacus({**inputs, "spin": orm.Str("collinear"), "moments": moments})
    rows = [line.split() for line in (job / "STRU").read_text().splitlines() if " mag " in line]
    assert [float(row[-1]) for row in rows] == [2.0, -2.0, 0.0]
    moments = orm.Dict({"Fe1": [1.0, 2.0, 0.0], "Fe2": -2.0})
    _, job = prepare_abacus({**inputs, "spin": orm.Str("noncollinear"), "moments": moments})
    rows = [line.split() for line in (job / "STRU").read_text().splitlines() if " mag " in line]
    assert [[float(x) for x in row[-3:]] for row in rows] == [[1, 2, 0], [0, 0, -2], [0, 0, 0]]
    # Without moments ABACUS would set its own.
    _, job = prepare_abacus({**inputs, "spin": orm.Str("collinear")})
    rows = [line.split() for line in (job / "STRU").read_text().splitlines() if " mag " in line]
    assert [float(row[-1]) for row in rows] == [1e-7] * 3


def test_atoms_are_grouped_by_element_and_not_wrapped(prepare_abacus):
    node = structure(np.diag([5.0, 5, 5]), ("H", -0.02, 0, 0), ("C", 1.27, 0, -0.7), ("H", 0.3, 0, 0))
    files = {"orbitals": {"C": orb("C_1s"), "H": orb("H_1s")}, "pseudos": {"C": upf("C"), "H": upf("H")}}
    _, job = prepare_abacus({**inputs_of("graphene"), "structure": node, **files})
    stru = read_stru(job / "STRU")
    assert stru.symbols == ("H", "H", "C")
    np.testing.assert_allclose(stru.fractional, [[-0.02, 0, 0], [0.3, 0, 0], [1.27, 0, -0.7]], atol=1e-12)


def test_files(prepare_abacus):
    info, _ = prepare_abacus(inputs_of("graphene"))
    names = {target for _, _, target in info.local_copy_list}
    assert names == {"DATA/C_gga_8au_100Ry_2s2p1d.orb", "DATA/C_ONCV_PBE-1.0.upf"}
    retrieved = [item if isinstance(item, str) else item[0] for item in info.retrieve_list]
    expected = ["abacus.out", "abacus.err", "OUT.ABACUS/running_scf.log", "OUT.ABACUS/warning.log"]
    assert retrieved == expected and info.codes_info[0].cmdline_params == []


def test_bands_start_from_the_density_of_a_run(prepare_abacus, make_remote, tmp_path):
    run = recorded("graphene", tmp_path)
    kpoints = points([[0.0, 0, 0], [0.137, 0.2113, 0], [0.31, -0.173, 0], [0.5, 0.25, 0], [0.05, 0.41, 0.29]])
    with pytest.raises(ValueError, match=r"bands without a density.*restart_folder"):
        prepare_abacus(inputs_of("graphene", bands_kpoints=kpoints))
    remote = make_remote("earlier")
    info, job = prepare_abacus(inputs_of("graphene", bands_kpoints=kpoints, restart_folder=remote))
    path = f"{remote.get_remote_path()}/OUT.ABACUS"
    assert info.remote_symlink_list == [(remote.computer.uuid, path, "RESTART")]
    ours, known = keywords(job / "INPUT"), keywords(run / "nscf" / "INPUT")
    same = ("calculation", "basis_type", "init_chg", "out_band", "symmetry", "ecutwfc", "smearing_sigma", "nbands")
    assert {name: ours[name] for name in same} == {name: known[name] for name in same}
    assert ours["read_file_dir"] == ["./RESTART/"] and "out_mat_hs2" not in ours
    rows = [line.split()[:3] for line in (job / "KPT").read_text().splitlines()[3:]]
    np.testing.assert_allclose(np.array(rows, dtype=float), kpoints.get_kpoints(), atol=1e-12)


def test_later_releases_call_the_matrices_otherwise(prepare_abacus):
    parameters = orm.Dict({"ecutwfc": 60, "out_hsr": 1})
    with pytest.raises(ValueError, match="one of 1"):
        prepare_abacus(inputs_of("graphene", parameters=orm.Dict({"out_hsr": 2})))
    _, job = prepare_abacus(inputs_of("graphene", parameters=parameters))
    values = keywords(job / "INPUT")
    assert values["out_hsr"] == [1.0] and "out_mat_hs2" not in values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_mat_hs2": 0}, r"keyword is not the user's.*always written"),
        ({"gamma_only": 1}, r"keyword is not the user's.*never folded"),
        ({"basis_type": "pw"}, r"keyword is not the user's"),
        ({"calculation": "relax"}, r"keyword is not the user's.*one geometry"),
        ({"nspin": 2}, r"keyword is not the user's.*input spin"),
        ({"kspacing": 0.1}, r"keyword is not the user's.*input kpoints"),
        ({"suffix": "x"}, r"keyword is not the user's"),
        ({"ecutwf": 100}, r"unknown keyword.*expected ecutwfc"),
        ({"ecutwfc": "100 Ry"}, r"wrong value of a keyword.*a number"),
        ({"mixing_type": "best"}, r"one of broyden, pulay, plain"),
    ],
)
def test_keywords_that_are_refused(prepare_abacus, changes, message):
    with pytest.raises(ValueError, match=message):
        prepare_abacus(inputs_of("graphene", parameters=orm.Dict(changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orbitals": {}}, r"element without basis; in orbitals; found no C"),
        ({"pseudos": {}}, r"element without basis; in pseudos; found no C"),
        ({"orbitals": {"C": "H_1s"}}, r"file of another element.*H_1s.orb"),
        ({"spin_orbit": True}, r"spin-orbit coupling needs noncollinear spins"),
        ({"spin": "collinear", "moments": {"C": 5.0}}, r"initial moment exceeds the valence"),
    ],
)
def test_inputs_that_do_not_fit_each_other(prepare_abacus, changes, message):
    if "orbitals" in changes:
        changes = {"orbitals": {symbol: orb(name) for symbol, name in changes["orbitals"].items()}}
    with pytest.raises(ValueError, match=message):
        prepare_abacus(inputs_of("graphene", **changes))


def test_pseudopotential_without_spin_orbit_coupling(prepare_abacus):
    changes = {"spin": orm.Str("noncollinear"), "spin_orbit": orm.Bool(True)}
    prepare_abacus(inputs_of("graphene", **changes))
    text = upf("C").get_content().replace("/>", ' has_so="F"\n/>')
    node = DataFactory("pseudo.upf")(io.BytesIO(text.encode()), filename="C.upf")
    with pytest.raises(ValueError, match=r"pseudopotential without spin-orbit coupling; in C: C.upf; found has_so"):
        prepare_abacus(inputs_of("graphene", **changes, pseudos={"C": node}))
