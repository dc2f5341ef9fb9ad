"""OpenMX jobs: the input file as it is written, what is uploaded, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.folders import SandboxFolder
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_deeph.codes.openmx.calculation import OpenmxCalculation
from aiida_deeph.engine.dft.keywords import grouped
from tests.aiida import openmx_files
from tests.aiida.openmx_files import pao, vps

SETTINGS = {"scf": {"XcType": "GGA-PBE", "energycutoff": 200.0, "maxIter": 100, "criterion": 1e-8}}


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


@pytest.fixture
def openmx_code(aiida_code_installed):
    """A code of OpenMX that is never run."""
    return aiida_code_installed(label="openmx", default_calc_job_plugin="deeph.openmx", filepath_executable="/bin/true")


def mesh(*divisions: int) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints_mesh(divisions)
    return node


def graphene() -> orm.StructureData:
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, 20]])
    node = orm.StructureData(cell=cell.tolist(), pbc=(True, True, False))
    for third in (0, 1):
        node.append_atom(symbols="C", position=(np.array([third / 3, 2 * third / 3, 0.5]) @ cell).tolist())
    return node


def graphene_inputs(**changes) -> dict:
    values = {
        "structure": graphene(),
        "parameters": orm.Dict(SETTINGS),
        "kpoints": mesh(9, 9, 1),
        "basis": orm.Dict({"C": "s2p2d1"}),
        "orbitals": {"C": pao("C6.0")},
        "pseudos": {"C": vps("C_PBE19")},
    }
    return {**values, **changes}


def magnet_inputs(spin: str, moments: dict, **changes) -> dict:
    """Two kinds of iron and a hydrogen atom that lies outside the cell."""
    node = orm.StructureData(cell=(np.diag([2.87, 2.87, 2.87])).tolist())
    node.append_atom(symbols="Fe", position=(0.0, 0.0, 0.0), name="Fe1")
    node.append_atom(symbols="H", position=(-0.7, 4.0, 1.435))
    node.append_atom(symbols="Fe", position=(1.435, 1.435, 1.435), name="Fe2")
    values = {
        "structure": node,
        "parameters": orm.Dict(SETTINGS),
        "kpoints": mesh(7, 7, 7),
        "basis": orm.Dict({"Fe": "s3p2d1", "H": "s2p1"}),
        "orbitals": {"Fe": pao("Fe5.5H"), "H": pao("H6.0")},
        "pseudos": {"Fe": vps("Fe_PBE19H"), "H": vps("H_PBE19")},
        "spin": orm.Str(spin),
        "moments": orm.Dict(moments),
    }
    return {**values, **changes}


@pytest.fixture
def prepare_openmx(openmx_code, tmp_path):
    """Function that validates the inputs as a submission does, and prepares the job: CalcInfo and text of the input."""

    def run(inputs: dict):
        process = instantiate_process(get_manager().get_runner(), OpenmxCalculation, code=openmx_code, **inputs)
        folder = SandboxFolder(tmp_path / "sandbox")
        info = process.prepare_for_submission(folder)
        text = (Path(folder.abspath) / "openmx.dat").read_text()
        folder.erase()
        return info, text

    return run


def test_graphene_with_bands(prepare_openmx, file_regression):
    kpoints = orm.KpointsData()
    path = [[0, 0, 0], [1 / 6, 1 / 6, 0], [1 / 3, 1 / 3, 0], [5 / 12, 1 / 6, 0], [0.5, 0, 0], [0.1, 0.2, 0.3]]
    kpoints.set_kpoints(path, labels=[(0, "GAMMA"), (2, "K"), (4, "M")])
    _, text = prepare_openmx(graphene_inputs(bands_kpoints=kpoints))
    file_regression.check(text, extension=".dat")


def test_collinear_magnet(prepare_openmx, file_regression):
    values = [["Fe", "1s", 0.0, "1d", 4.0]]
    parameters = {
        "SCF": {"xctype": "gga-pbe", "Mixing": {"Type": "simple"}, "Hubbard.U": True},
        "Hubbard": {"U.values": values},
    }
    inputs = magnet_inputs("collinear", {"Fe1": 3.0, "Fe2": -3.0}, parameters=orm.Dict(parameters))
    file_regression.check(prepare_openmx(inputs)[1], extension=".dat")


def test_noncollinear_magnet_with_spin_orbit_coupling(prepare_openmx, file_regression):
    inputs = magnet_inputs("noncollinear", {"Fe1": [0.0, 2.0, 2.0], "Fe2": 1.5}, spin_orbit=orm.Bool(True))
    file_regression.check(prepare_openmx(inputs)[1], extension=".dat")


def test_files_lie_below_the_working_directory(prepare_openmx):
    info, text = prepare_openmx(graphene_inputs())
    staged = {target: source for _, source, target in info.local_copy_list}
    assert staged == {"DFT_DATA/PAO/C6.0.pao": "C6.0.pao", "DFT_DATA/VPS/C_PBE19.vps": "C_PBE19.vps"}
    assert "DATA.PATH ./DFT_DATA\n" in text
    assert info.retrieve_list == ["openmx.std", "openmx.err", "openmx.out"]
    assert info.codes_info[0].cmdline_params == ["openmx.dat", "-nt", "1"]
    assert info.remote_copy_list == []


def test_threads_are_the_cores_of_a_process(prepare_openmx):
    resources = {"num_machines": 1, "num_mpiprocs_per_machine": 2, "num_cores_per_mpiproc": 4}
    metadata = {"options": {"resources": resources, "withmpi": True}}
    info, _ = prepare_openmx(graphene_inputs(metadata=metadata))
    assert info.codes_info[0].cmdline_params == ["openmx.dat", "-nt", "4"]


def test_restart_takes_the_density_of_an_earlier_run(prepare_openmx, make_remote):
    remote = make_remote("earlier")
    info, text = prepare_openmx(graphene_inputs(restart_folder=remote))
    path = f"{remote.get_remote_path()}/openmx_rst"
    assert info.remote_copy_list == [(remote.computer.uuid, path, "openmx_rst")]
    assert "scf.restart on\n" in text


def test_files_of_elements_that_are_not_there_stay_at_home(prepare_openmx):
    inputs = graphene_inputs()
    inputs["orbitals"]["H"], inputs["pseudos"]["H"] = pao("H6.0"), vps("H_PBE19")
    info, _ = prepare_openmx(inputs)
    assert len(info.local_copy_list) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"HS.fileout": False}, r"keyword is not the user's.*HS.fileout"),
        ({"data.path": "/somewhere"}, r"keyword is not the user's.*data.path"),
        ({"System.Name": "x"}, r"keyword is not the user's.*System.Name"),
        ({"Atoms.UnitVectors.Unit": "AU"}, r"keyword is not the user's.*input structure"),
        ({"Definition.of.Atomic.Species": []}, r"keyword is not the user's.*inputs basis, orbitals and pseudos"),
        ({"Band.Nkpath": 3}, r"keyword is not the user's.*bands_kpoints"),
        ({"scf.SpinPolarization": "on"}, r"keyword is not the user's.*input spin"),
        ({"scf.restart": True}, r"keyword is not the user's.*restart_folder"),
        ({"MD.Type": "Opt"}, r"keyword is not the user's.*one geometry"),
        ({"scf.EnergyCutof": 100}, r"unknown keyword.*expected scf.energycutoff"),
        ({"scf.XcType": "PBE"}, r"wrong value of a keyword.*scf.XcType.*expected one of LDA"),
        ({"scf.maxIter": 0}, r"wrong value of a keyword.*at least 1"),
        ({"scf.criterion": "small"}, r"wrong value of a keyword.*expected a number"),
        ({"scf.energycutoff": True}, r"wrong value of a keyword.*expected a number"),
        ({"scf.XcType": "LDA", "SCF.XCTYPE": "LDA"}, r"keyword stands twice"),
        ({"scf.Ngrid": [10, 10]}, r"a list of 3 numbers"),
        ({"scf.SO.factor": ["C s 1.0\nscf.SO.factor>"]}, r"lines without < and >"),
    ],
)
def test_keywords_that_are_refused(prepare_openmx, changes, message):
    with pytest.raises(ValueError, match=message):
        prepare_openmx(graphene_inputs(parameters=orm.Dict(grouped(changes))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"basis": {"C": "s2p2d9"}}, r"not so many orbitals of this l.*d9 of s2p2d9; expected at most 3 in C6.0.pao"),
        ({"basis": {"C": "s2p2f1"}}, r"not so many orbitals of this l.*f1 of s2p2f1; expected at most 0"),
        ({"basis": {"C": "DZP"}}, r"basis name is not understood"),
        ({"basis": {"H": "s1"}}, r"element without basis; in basis; found no C"),
        ({"orbitals": {"H": "H6.0"}}, r"element without basis; in orbitals; found no C"),
        ({"pseudos": {"H": "H_PBE19"}}, r"element without basis; in pseudos; found no C"),
        ({"orbitals": {"C": "H6.0"}}, r"file of another element.*H6.0.pao"),
        ({"spin": "up"}, r"unknown spin `up`, expected one of none, collinear, noncollinear"),
        ({"spin_orbit": True}, r"spin-orbit coupling needs noncollinear spins"),
        ({"moments": {"C": 1.0}}, r"initial moment without spin"),
        ({"spin": "collinear", "moments": {"C": 5.0}}, r"initial moment exceeds the valence"),
        ({"spin": "collinear", "moments": {"C2": 1.0}}, r"moment of an unknown kind.*C2"),
        ({"spin": "collinear", "moments": {"C": [1.0, 0.0, 0.0]}}, r"moment is not along z"),
        ({"spin": "noncollinear", "moments": {"C": [1.0, 0.0]}}, r"moment is not understood"),
    ],
)
def test_inputs_that_do_not_fit_each_other(prepare_openmx, changes, message):
    nodes = {"orbitals": pao, "pseudos": vps}
    for name, value in changes.items():
        if name in nodes:
            changes = {**changes, name: {symbol: nodes[name](file) for symbol, file in value.items()}}
    with pytest.raises(ValueError, match=message):
        prepare_openmx(graphene_inputs(**changes))


def test_orbitals_and_pseudopotential_of_different_valence(prepare_openmx, monkeypatch):
    monkeypatch.setitem(openmx_files.VALENCES, "Fe", 14.0)
    soft = vps("Fe_PBE19S")
    monkeypatch.undo()
    inputs = magnet_inputs("none", {}, pseudos={"Fe": soft, "H": vps("H_PBE19")})
    with pytest.raises(
        ValueError, match=r"do not belong together; in Fe; found 16 valence electrons in Fe5.5H.pao, 14"
    ):
        prepare_openmx(inputs)


def test_shifted_meshes_and_meshes_of_bands_are_refused(prepare_openmx):
    shifted = orm.KpointsData()
    shifted.set_kpoints_mesh([3, 3, 1], offset=[0.5, 0, 0])
    with pytest.raises(ValueError, match="k-mesh is shifted"):
        prepare_openmx(graphene_inputs(kpoints=shifted))
    with pytest.raises(ValueError, match="k-points are no list"):
        prepare_openmx(graphene_inputs(bands_kpoints=mesh(3, 3, 1)))


def test_codes_are_not_mixed_up(prepare, prepare_openmx, openmx_code, engine_code, chain):
    process = get_manager().get_runner()
    with pytest.raises(ValueError, match="code is not OpenMX"):
        instantiate_process(process, OpenmxCalculation, code=engine_code, **graphene_inputs())
    from aiida.plugins import CalculationFactory

    with pytest.raises(ValueError, match=r"code is not deeph-engine.*deeph.openmx"):
        instantiate_process(
            process, CalculationFactory("deeph.pyscf"), code=openmx_code, structure=chain, kpoints=mesh(1, 1, 3)
        )


def test_equal_inputs_have_equal_hashes():
    """Nothing in the inputs depends on where or when they were made, so that a second run is taken from the cache."""
    first, second = ([node.store().base.caching.get_hash() for node in (pao("C6.0"), vps("C_PBE19"))] for _ in range(2))
    assert first == second
