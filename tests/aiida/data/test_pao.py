"""Files of orbitals as nodes, families of them, and the command that installs them."""

from __future__ import annotations

import io
import json

import pytest
from aiida import orm
from aiida.plugins import GroupFactory
from click.testing import CliRunner

from aiida_deeph.cli.pao import command
from aiida_deeph.data.pao import PaoData, PaoFamily
from aiida_deeph.engine.errors import DataError, InputError
from tests.aiida.openmx_files import pao, pao_text, vps_text


@pytest.fixture(autouse=True)
def _profile(aiida_profile_clean):
    """A profile without families."""


@pytest.fixture
def database(tmp_path):
    """A folder like OpenMX's own, with a file of a virtual atom."""
    for name in ("C5.0", "C6.0", "H6.0", "Fe5.5H"):
        (tmp_path / "PAO").mkdir(exist_ok=True)
        (tmp_path / "PAO" / f"{name}.pao").write_text(pao_text(name))
    virtual = pao_text("H6.0").replace("AtomSpecies 1\n", "AtomSpecies 0.75\n")
    (tmp_path / "PAO" / "H075.pao").write_text(virtual)
    (tmp_path / "VPS").mkdir()
    for name in ("C_PBE19", "C_CA19", "H_PBE19", "Fe_PBE19H", "Fe_PBE19S"):
        (tmp_path / "VPS" / f"{name}.vps").write_text(vps_text(name.split("_")[0]))
    return tmp_path


def invoke(*words):
    result = CliRunner().invoke(command, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_node_knows_what_the_file_says():
    node = pao("Fe5.5H").store()
    assert (node.name, node.element, node.valence) == ("Fe5.5H", "Fe", 16.0)
    assert node.base.attributes.get("radius") == 5.5 and node.base.attributes.get("radius_units") == "bohr"
    assert node.head.counts == (3, 3, 3)
    assert isinstance(orm.load_node(node.pk), PaoData)


def test_real_files(shared):
    heads = {path.stem: PaoData(path).head for path in sorted((shared / "reference/openmx-data").glob("*.pao"))}
    assert set(heads) == {"Bi8.0", "C6.0", "Fe5.5H", "Mo7.0", "S7.0"}
    assert {name: head.valence for name, head in heads.items()}["Fe5.5H"] == 16.0
    assert heads["C6.0"].counts == (15, 15, 15, 15) and heads["Bi8.0"].radius == 8.0


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("C6.0.txt", None, InputError, "not a name of a file of orbitals"),
        ("carbon.pao", None, InputError, "not a name of a file of orbitals"),
        ("H6.0.pao", None, DataError, r"another element than the file's name says.*AtomSpecies 6; expected H"),
        ("C6.0.pao", ("PAO.Mul 3\n", ""), DataError, r"not a file of orbitals.*PAO.Mul"),
        ("C6.0.pao", ("pseudo.atomic.orbitals.L=2>\n", ""), DataError, r"cut off.*L=2>"),
    ],
)
def test_other_files_are_refused(name, change, error, message):
    text = pao_text("C6.0").replace(*(change or ("", "")))
    with pytest.raises(error, match=message):
        PaoData(io.BytesIO(text.encode()), filename=name)


def test_equal_files_are_one_node(database):
    path = database / "PAO" / "C6.0.pao"
    first = PaoData.get_or_create(path).store()
    assert PaoData.get_or_create(path).pk == first.pk
    path.write_text(pao_text("C6.0", count=4))
    assert not PaoData.get_or_create(path).is_stored


def test_family_of_several_files_per_element(database):
    family, left_out = PaoFamily.create_from_folder(database / "PAO", "mine")
    assert list(family.orbitals) == ["C5.0", "C6.0", "Fe5.5H", "H6.0"]
    assert list(left_out) == ["H075.pao"] and "AtomSpecies 0.75" in left_out["H075.pao"]
    assert family.get_orbitals("C5.0").name == "C5.0"
    with pytest.raises(InputError, match=r"no C7.0.pao; expected one of C5.0, C6.0"):
        family.get_orbitals("C7.0")
    with pytest.raises(InputError, match=r"no Bi8.0.pao; expected orbitals of Bi"):
        family.get_orbitals("Bi8.0")
    with pytest.raises(InputError, match="a family has this label"):
        PaoFamily.create_from_folder(database / "PAO", "mine")
    PaoFamily.create_from_folder(database / "PAO", "again")
    assert orm.QueryBuilder().append(PaoData).count() == 4


def test_folder_without_such_files(tmp_path):
    with pytest.raises(InputError, match=r"no files of orbitals.*found no \*.pao"):
        PaoFamily.create_from_folder(tmp_path, "mine")


def test_install_list_show(database):
    assert "no family is installed" in invoke("list")
    output = invoke("install", database, "--label", "openmx-2019", "--description", "of the test")
    assert "4 files, 3 elements" in output and "H075.pao is left out" in output
    assert "PseudoPotentialFamily openmx-2019" in output
    pseudos = GroupFactory("pseudo.family").collection.get(label="openmx-2019")
    assert {node.filename for node in pseudos.nodes} == {"C_PBE19.vps", "H_PBE19.vps", "Fe_PBE19H.vps"}
    assert "openmx-2019" in invoke("list") and "of the test" in invoke("list")
    assert invoke("show", "openmx-2019", "C").splitlines()[1].split() == (
        ["C6.0", "4.0", "electrons", "6.0", "Bohr", "up", "to", "s3p3d3"]
    )
    assert json.loads(invoke("show", "openmx-2019", "--json"))["Fe5.5H"]["valence"] == 16.0
    with pytest.raises(InputError, match=r"no such family of orbitals.*found other"):
        invoke("show", "other")
    with pytest.raises(InputError, match=r"element is not in the family.*expected one of C, Fe, H"):
        invoke("show", "openmx-2019", "Bi")


def test_pseudopotentials_are_left_to_aiida_pseudo_if_wished(database):
    invoke("install", database, "--label", "mine", "--no-pseudos")
    assert GroupFactory("pseudo.family").collection.count() == 0
