"""Data of others as nodes that say where they come from, and families of orbitals and pseudopotentials of ABACUS."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.plugins import GroupFactory
from click.testing import CliRunner

from aiida_deeph.cli.data import command
from aiida_deeph.data.pao import PaoData, PaoFamily
from aiida_deeph.engine.errors import InputError
from tests.aiida.lcao_files import orb_text, upf
from tests.engine.dft.aims_files import known_hamiltonian, write_run


@pytest.fixture(autouse=True)
def _profile(aiida_profile_clean):
    """A profile without families."""


def run(*words) -> str:
    result = CliRunner().invoke(command, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def node_of(output: str) -> orm.Node:
    return orm.load_node(int(output.split("<")[1].split(">")[0]))


def test_deeph_folder_of_others(deeph_folder):
    node = node_of(run("import", deeph_folder))
    origin = f"{deeph_folder.parent.name}/deeph"
    assert node.base.extras.get("origin") == origin
    assert node.description == f"imported from the DeepH folder {origin}" and node.label == "deeph"


def test_output_of_fhi_aims(tmp_path):
    known = known_hamiltonian()
    folder = write_run(tmp_path / "mos2", known)
    node = node_of(run("import", folder, "--code", "aims"))
    assert node.n_atoms == 3 and node.has_hamiltonian
    assert node.base.extras.get("origin") == f"{tmp_path.name}/mos2"
    assert node.description == f"imported from output of aims (version 240920.1) in {tmp_path.name}/mos2"
    assert node.load().metadata["code"] == "aims"


def test_unknown_code(deeph_folder):
    with pytest.raises(InputError, match=r"no reader for this code.*found wien2k; expected one of deeph.*aims"):
        run("import", deeph_folder, "--code", "wien2k")


def test_orbitals_and_pseudopotentials_of_one_folder(tmp_path):
    for element in ("C", "H"):
        (tmp_path / f"{element}_gga_6au.orb").write_text(orb_text(element))
        (tmp_path / f"{element}.upf").write_bytes(upf(element).get_content(mode="rb"))
    (tmp_path / "H_none.orb").write_text("Element H\n")
    output = run("pao", "install", tmp_path, "--label", "mine")
    assert "2 files, 2 elements" in output and "H_none.orb is left out" in output
    family = PaoFamily.collection.get(label="mine")
    node = family.get_orbitals("C_gga_6au")
    assert (node.code, node.element, node.valence, node.n_orbitals) == ("abacus", "C", None, 5)
    assert [one.name for one in family.of_element("H")] == ["H_gga_6au"]
    pseudos = GroupFactory("pseudo.family").collection.get(label="mine")
    assert {one.element for one in pseudos.nodes} == {"C", "H"}
    assert run("pao", "show", "mine", "C").split()[:5] == ["C_gga_6au", "6.0", "Bohr", "up", "to"]
    with pytest.raises(InputError, match=r"no C_gga_8au.orb; expected one of C_gga_6au"):
        family.get_orbitals("C_gga_8au")


def test_orbitals_of_a_siesta_run(siesta_orbitals):
    node = PaoData(siesta_orbitals / "C.ion.xml")
    assert (node.code, node.name, node.element, node.valence) == ("siesta", "C", "C", 4.0)
    assert node.base.attributes.get("counts") == [2, 2, 1] and node.n_orbitals == 13
    assert node.base.attributes.get("radius") == pytest.approx(5.3826, abs=1e-3)


@pytest.fixture
def siesta_orbitals(tmp_path):
    """The folder of a recorded run."""
    import tarfile
    from pathlib import Path

    archive = Path(__file__).parents[2] / "fixtures" / "siesta" / "graphene.tar.xz"
    with tarfile.open(archive) as file:
        file.extract("graphene/C.ion.xml", tmp_path, filter="data")
    return tmp_path / "graphene"
