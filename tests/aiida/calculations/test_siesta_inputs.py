"""SIESTA jobs: the input against recorded ones, what is uploaded, and what is refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.folders import SandboxFolder
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_deeph.codes.siesta.calculation import SiestaCalculation
from aiida_deeph.engine.dft.keywords import grouped
from aiida_deeph.engine.dft.siesta.keywords import plain
from tests.aiida.lcao_files import psf, psml

FIXTURES = Path(__file__).parents[2] / "fixtures" / "siesta"


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


@pytest.fixture
def prepare_siesta(aiida_code_installed, tmp_path):
    """Function that validates the inputs as a submission does, and prepares the job: CalcInfo and text of the input."""
    code = aiida_code_installed(label="siesta", default_calc_job_plugin="deeph.siesta", filepath_executable="/bin/true")

    def run(inputs: dict):
        process = instantiate_process(get_manager().get_runner(), SiestaCalculation, code=code, **inputs)
        folder = SandboxFolder(tmp_path / "sandbox")
        info = process.prepare_for_submission(folder)
        text = (Path(folder.abspath) / "siesta.fdf").read_text()
        folder.erase()
        return info, text

    return run


def fdf(text: str) -> dict[str, object]:
    """Keywords and blocks of an fdf by plain name: words, or rows of words, numbers as numbers."""
    found: dict[str, object] = {}
    rows = iter(text.splitlines())
    for row in rows:
        words = row.split()
        if words and words[0] == "%block":
            lines = iter(rows.__next__, f"%endblock {words[1]}")
            found[plain(words[1])] = [[value(word) for word in line.split()] for line in lines]
        elif words:
            found[plain(words[0])] = [value(word) for word in words[1:]]
    return found


def value(word: str) -> object:
    try:
        return round(float(word.replace("d", "e")), 9)
    except ValueError:
        return word.lower()


def recorded(name: str, file: str | None = None) -> dict[str, object]:
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
        return fdf(archive.extractfile(f"{name}/{file or name}.fdf").read().decode())


def mesh(*divisions: int) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints_mesh(divisions)
    return node


def graphene() -> orm.StructureData:
    node = orm.StructureData(cell=[[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, 12]], pbc=(True, True, False))
    for y in (0.0, 1.4202816622):
        node.append_atom(symbols="C", position=(0.0, y, 6.0))
    return node


def iron() -> orm.StructureData:
    node = orm.StructureData(cell=(1.435 * np.array([[1, 1, -1], [-1, 1, 1], [1, -1, 1]])).tolist())
    node.append_atom(symbols="Fe", position=(0.0, 0.0, 0.0))
    return node


COMMON = {
    "XC.functional": "GGA",
    "XC.authors": "PBE",
    "DM.Tolerance": 1e-6,
    "MaxSCFIterations": 200,
}


def inputs_of(structure: orm.StructureData, keywords: dict, divisions: tuple, basis: dict, **others) -> dict:
    symbols = structure.get_symbols_set()
    return {
        "structure": structure,
        "parameters": orm.Dict(grouped({**COMMON, **keywords})),
        "kpoints": mesh(*divisions),
        "basis": orm.Dict(basis),
        "pseudos": {symbol: psml(symbol) for symbol in symbols},
        **others,
    }


def graphene_inputs(**others) -> dict:
    keywords = {
        "PAO.EnergyShift": "150 meV",
        "MeshCutoff": "200 Ry",
        "ElectronicTemperature": "300 K",
        "SCF.H.Tolerance": "1.0e-5 eV",
    }
    return {**inputs_of(graphene(), keywords, (9, 9, 1), {"C": "DZP"}), **others}


# What recorded inputs say otherwise, or not at all, with the same meaning: titles, geometry in other words.
GEOMETRY = {"systemname", "systemlabel", "latticeconstant", "latticevectors", "atomiccoordinatesformat"}
GEOMETRY |= {"atomiccoordinatesandatomicspecies", "paobasissize", "paobasissizes"}
OURS = {"scfmustconverge": ["true"], "forceauxcell": ["true"]}


def check_against(text: str, known: dict, without: set[str] = frozenset()) -> None:
    ours = fdf(text)
    for key in set(known) - GEOMETRY - without - {"writeeigenvalues", "writemdhistory", "bandlines"}:
        assert ours[key] == known[key], key
    extra = {key: words for key, words in ours.items() if key not in known and key not in GEOMETRY | without}
    assert extra == OURS


def test_graphene_as_it_was_recorded(prepare_siesta):
    _, text = prepare_siesta(graphene_inputs())
    known = recorded("graphene")
    # Bands along lines there.
    check_against(
        text, {key: words for key, words in known.items() if key != "bandlinesscale"} | {"spin": []}, {"spin"}
    )
    ours = fdf(text)
    assert ours["latticevectors"] == known["latticevectors"] and ours["spin"] == ["non-polarized"]
    assert ours["atomiccoordinatesandatomicspecies"] == known["atomiccoordinatesandatomicspecies"]
    assert ours["paobasissizes"] == [["c", "dzp"]] and known["paobasissize"] == ["dzp"]


@pytest.mark.parametrize("name", ["fe", "fenc"])
def test_magnets_as_they_were_recorded(prepare_siesta, name):
    points = orm.KpointsData()
    points.set_kpoints([[0, 0, 0], [0.123, 0.234, 0.345], [0.5, -0.5, 0.5], [0.071, -0.21, 0.44]])
    keywords = {"PAO.EnergyShift": "500 meV", "MeshCutoff": "300 Ry", "ElectronicTemperature": "1000 K"}
    theta, phi = np.radians([50.0, 35.0])
    direction = [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)]
    if name == "fe":
        keywords |= {"PAO.SplitNorm": 0.2, "SCF.H.Tolerance": "1.0e-5 eV"}
        spin = {"spin": orm.Str("collinear"), "moments": orm.Dict({"Fe": 2.3})}
        inputs = inputs_of(iron(), keywords, (6, 6, 6), {"Fe": "DZP"}, bands_kpoints=points, **spin)
    else:
        keywords |= {"SCF.H.Tolerance": "1.0e-4 eV"}
        moments = orm.Dict({"Fe": (2.3 * np.array(direction)).tolist()})
        spin = {"spin": orm.Str("noncollinear"), "moments": moments}
        inputs = inputs_of(iron(), keywords, (4, 4, 4), {"Fe": "SZP"}, bands_kpoints=points, **spin)
    _, text = prepare_siesta(inputs)
    known = recorded(name)
    if name == "fe":
        # `+` is as much as possible there.
        known["dminitspin"] = [[1.0, 2.3]]
    check_against(text, known)
    vectors = 2.87 * np.array(known["latticevectors"])
    assert np.allclose(np.array(fdf(text)["latticevectors"]), vectors)


def test_basis_in_lines_and_two_elements(prepare_siesta):
    node = orm.StructureData(cell=np.diag([5.0, 5.0, 5.0]).tolist())
    for symbol, x in (("H", -0.4), ("C", 0.7), ("H", 6.0)):
        node.append_atom(symbols=symbol, position=(x, 0.0, 0.0))
    rows = ["H 1", " n=1 0 1", "  4.0", "  1.0"]
    _, text = prepare_siesta(inputs_of(node, {}, (1, 1, 1), {"H": rows, "C": "dzp"}))
    ours = fdf(text)
    assert ours["paobasis"][0] == ["h", 1.0] and ours["paobasissizes"] == [["c", "dzp"]]
    assert ours["chemicalspecieslabel"] == [[1.0, 1.0, "h"], [2.0, 6.0, "c"]]
    # Atoms in their order, not wrapped.
    assert [row[0] for row in ours["atomiccoordinatesandatomicspecies"]] == [-0.4, 0.7, 6.0]
    assert [row[3] for row in ours["atomiccoordinatesandatomicspecies"]] == [1.0, 2.0, 1.0]


def test_files(prepare_siesta, make_remote):
    info, _ = prepare_siesta(graphene_inputs())
    assert [target for _, _, target in info.local_copy_list] == ["C.psml"]
    assert info.codes_info[0].stdin_name == "siesta.fdf" and info.codes_info[0].cmdline_params == []
    assert info.retrieve_list == ["siesta.out", "siesta.err", "C.ion.xml"]
    info, _ = prepare_siesta(graphene_inputs(pseudos={"C": psf("C"), "H": psf("H")}))
    assert [target for _, _, target in info.local_copy_list] == ["C.psf"]
    remote = make_remote("earlier")
    info, text = prepare_siesta(graphene_inputs(restart_folder=remote))
    assert info.remote_copy_list == [(remote.computer.uuid, f"{remote.get_remote_path()}/siesta.DM", "siesta.DM")]
    assert fdf(text)["dmusesavedm"] == ["true"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SaveHS": False}, r"keyword is not the user's.*always written"),
        ({"save-hs": False}, r"keyword is not the user's"),
        ({"TS.HS.Save": False}, r"keyword is not the user's"),
        ({"System_Label": "x"}, r"keyword is not the user's"),
        ({"kgrid_cutoff": "10 Ang"}, r"keyword is not the user's.*kpoints"),
        ({"MD.Steps": 4}, r"keyword is not the user's.*one geometry"),
        ({"Spin": "polarized"}, r"keyword is not the user's.*input spin"),
        ({"PAO.BasisSize": "DZP"}, r"keyword is not the user's.*input basis"),
        ({"MeshCutof": "100 Ry"}, r"unknown keyword.*expected MeshCutoff"),
        ({"Mesh_Cutoff": 100}, r"wrong value of a keyword.*MeshCutoff.*a number with its unit"),
        ({"MeshCutoff": "100 K"}, r"wrong value of a keyword.*one of Ry"),
        ({"XC.functional": "PBE"}, r"wrong value of a keyword.*one of LDA, GGA, VDW"),
        ({"ElectronicTemperature": "300 K", "electronic-temperature": "300 K"}, r"keyword stands twice"),
        ({"PS.lmax": ["C 2\n%endblock"]}, r"a list of lines"),
    ],
)
def test_keywords_that_are_refused(prepare_siesta, changes, message):
    with pytest.raises(ValueError, match=message):
        prepare_siesta(graphene_inputs(parameters=orm.Dict(grouped(changes))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"basis": {"H": "DZP"}}, r"element without basis; in basis; found no C"),
        ({"basis": {"C": "good"}}, r"basis is not understood.*basis.C"),
        ({"basis": {"C": ["Si 1", " n=2 0 1"]}}, r"basis is not understood.*begin with `C"),
        ({"pseudos": {"H": "H"}}, r"element without basis; in pseudos; found no C"),
        ({"pseudos": {"C": "H"}}, r"file of another element.*H.psml"),
        ({"spin_orbit": True}, r"spin-orbit coupling needs noncollinear spins"),
        ({"moments": {"C": 1.0}}, r"initial moment without spin"),
        ({"spin": "collinear", "moments": {"C": 9.0}}, r"initial moment exceeds the valence"),
    ],
)
def test_inputs_that_do_not_fit_each_other(prepare_siesta, changes, message):
    if "pseudos" in changes:
        changes = {"pseudos": {symbol: psml(of) for symbol, of in changes["pseudos"].items()}}
    with pytest.raises(ValueError, match=message):
        prepare_siesta(graphene_inputs(**changes))


def test_pseudopotential_without_spin_orbit_coupling(prepare_siesta):
    changes = {"spin": orm.Str("noncollinear"), "spin_orbit": orm.Bool(True)}
    prepare_siesta(graphene_inputs(**changes))
    with pytest.raises(ValueError, match=r"pseudopotential without spin-orbit coupling; in C: C.psf; found C pb nrl"):
        prepare_siesta(graphene_inputs(**changes, pseudos={"C": psf("C")}))
