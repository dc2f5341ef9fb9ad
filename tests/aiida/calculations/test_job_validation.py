"""Wrong inputs are refused before submission, with one line that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import CalculationFactory

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData

pytestmark = pytest.mark.usefixtures("aiida_profile")


@pytest.fixture
def refused(prepare):
    """Function (entry point, inputs, words): the inputs are refused in one line that holds the words."""

    def check(entry_point, inputs, *words):
        with pytest.raises(ValueError) as caught:
            prepare(entry_point, inputs)
        message = str(caught.value)
        assert "\n" not in message
        for word in words:
            assert word in message, message

    return check


def kpoints(mesh=(1, 1, 3), offset=(0.0, 0.0, 0.0)):
    node = orm.KpointsData()
    node.set_kpoints_mesh(mesh, offset)
    return node


def path():
    node = orm.KpointsData()
    node.set_kpoints(np.array([[0.0, 0, 0], [0, 0, 0.5]]))
    return node


@pytest.fixture
def dataset(make_manifest, make_remote):
    return {"dataset": DatasetData(make_manifest()), "dataset_folder": make_remote("preprocessed")}


@pytest.mark.parametrize("plugin", [None, "core.arithmetic.add"])
def test_code_of_another_plugin(aiida_code_installed, chain, plugin):
    code = aiida_code_installed(label="other", default_calc_job_plugin=plugin)
    inputs = {"structure": chain, "kpoints": kpoints()}
    with pytest.raises(ValueError, match=r"code is not deeph-engine.*aiida-deeph setup codes"):
        instantiate_process(get_manager().get_runner(), CalculationFactory("deeph.pyscf"), code=code, **inputs)


def test_unknown_field(refused, chain):
    inputs = {"structure": chain, "kpoints": kpoints(), "parameters": orm.Dict({"bassis": "gth-szv"})}
    refused("deeph.pyscf", inputs, "bassis", "nearest: basis")


def test_wrong_value(refused, dataset):
    refused(
        "deeph.train", {**dataset, "parameters": orm.Dict({"learning_rate": -1})}, "learning_rate", "greater than 0"
    )


def test_cutoff_of_zero(refused, make_remote):
    inputs = {"labels": {"a": make_remote()}, "reader": orm.Str("pyscf"), "parameters": orm.Dict({"cutoff": 0})}
    refused("deeph.preprocess", inputs, "cutoff", "greater than 0")


def test_field_that_another_input_gives(refused, chain):
    inputs = {"structure": chain, "kpoints": kpoints(), "parameters": orm.Dict({"kmesh": [1, 1, 1]})}
    refused("deeph.pyscf", inputs, "kmesh", "other inputs")


@pytest.mark.parametrize(
    ("name", "node", "words"),
    [
        ("kpoints", path, "k-points are no mesh"),
        ("kpoints", lambda: kpoints(offset=(0.5, 0.5, 0.5)), "k-mesh is shifted"),
        ("bands_kpoints", kpoints, "k-points are no list"),
    ],
)
def test_wrong_kind_of_kpoints(refused, chain, name, node, words):
    refused("deeph.pyscf", {"structure": chain, "kpoints": kpoints(), name: node()}, words)


def test_site_without_a_definite_element(refused, chain):
    chain.append_atom(symbols=["C", "N"], weights=[0.5, 0.5], position=(3, 3, 0), name="CN")
    refused("deeph.pyscf", {"structure": chain, "kpoints": kpoints()}, "definite element", "CN")


def test_no_labels(refused):
    refused("deeph.preprocess", {"labels": {}, "reader": orm.Str("pyscf")}, "no labels")


def test_labels_without_their_reader_or_with_one_name_twice(refused, make_remote, deeph_folder):
    labels, hamiltonians = {"a": make_remote()}, {"a": HamiltonianData(deeph_folder)}
    refused("deeph.preprocess", {"labels": labels}, "no reader")
    inputs = {"labels": labels, "hamiltonians": hamiltonians, "reader": orm.Str("pyscf")}
    refused("deeph.preprocess", inputs, "name stands twice", "found a")


def test_numerical_orbitals_are_files_of_every_element(refused, chain):
    file = orm.SinglefileData.from_string("orbitals", filename="C6.0.pao")
    names = {"C": "C6.0-s2p2d1", "H": "H5.0-s2p1"}
    inputs = {"structure": chain, "orbitals": {"C": file}}
    for basis in ("openmx:orbitals", "openmx:/data/openmx", "pyscf:gth-szv"):
        parameters = orm.Dict({"basis": basis, "orbitals": names})
        refused("deeph.overlap", {**inputs, "parameters": parameters}, "do not fit the basis", "file of each of C, H")


def test_split_without_test_member(refused, dataset):
    split = {"train": 0.8, "validation": 0.19, "test": 0.001}
    refused("deeph.train", {**dataset, "parameters": orm.Dict({"split": split})}, "split leaves no test member")


def test_dataset_with_an_element_unknown_to_the_model(refused, dataset, make_model_folder):
    model = DeepHModelData(make_model_folder(("C", "N")))
    refused("deeph.evaluate", {**dataset, "model": model}, "element unknown to the model", "found H")
    refused("deeph.train", {**dataset, "initial_model": model}, "element unknown to the model", "found H")


def test_structure_with_an_element_unknown_to_the_model(refused, chain, make_model_folder, make_remote, deeph_folder):
    model = DeepHModelData(make_model_folder(("C", "N")))
    basis = orm.Dict({"basis": "pyscf:gth-szv"})
    refused("deeph.overlap", {"structure": chain, "model": model, "parameters": basis}, "element unknown", "found H")
    refused("deeph.predict", {"model": model, "overlap": HamiltonianData(deeph_folder)}, "element unknown", "found H")
    remote = make_remote("overlap", creator="deeph.overlap", structure=chain)
    refused("deeph.predict", {"model": model, "overlap_folder": remote}, "element unknown", "found H")


def test_element_without_basis(refused, chain):
    inputs = {"structure": chain, "parameters": orm.Dict({"basis": {"C": "pyscf:gth-szv"}})}
    refused("deeph.overlap", inputs, "element without basis", "found H")


def test_no_basis(refused, chain):
    refused("deeph.overlap", {"structure": chain}, "basis", "it is required")


@pytest.mark.parametrize("name", ["BASIS", "/somewhere/BASIS_MOLOPT"])
def test_basis_file_that_is_not_given(refused, chain, name):
    inputs = {
        "structure": chain,
        "parameters": orm.Dict({"basis": f"cp2k:{name}:SZV-MOLOPT-SR-GTH"}),
        "basis_file": orm.SinglefileData.from_string("", filename="BASIS_MOLOPT"),
    }
    refused("deeph.overlap", inputs, "basis file is not given", f"found {name}")


def test_two_ranges(refused, chain, make_model_folder):
    parameters = orm.Dict({"basis": "pyscf:gth-szv", "cutoff": 5.0})
    inputs = {"structure": chain, "model": DeepHModelData(make_model_folder()), "parameters": parameters}
    refused("deeph.overlap", inputs, "two ranges", "cutoff")


def test_none_or_two_folders(refused, make_remote, deeph_folder):
    refused("deeph.dos", {}, "give one DeepH folder", "found none")
    both = {"hamiltonian": HamiltonianData(deeph_folder), "hamiltonian_folder": make_remote()}
    refused("deeph.dos", both, "give one DeepH folder", "hamiltonian and hamiltonian_folder")


def test_none_or_two_sets_of_kpoints(refused, deeph_folder):
    node = HamiltonianData(deeph_folder)
    refused("deeph.bands", {"hamiltonian": node}, "k-points are unclear", "found none")
    both = {"hamiltonian": node, "kpoints": path(), "parameters": orm.Dict({"kpath": "G-Z"})}
    refused("deeph.bands", both, "k-points are unclear", "kpoints and parameters.kpath")


def test_folder_on_another_computer(refused, make_remote, aiida_computer_local):
    other = aiida_computer_local(label="other")
    remote = orm.RemoteData(remote_path="/scratch/x", computer=other).store()
    inputs = {"labels": {"a": make_remote(), "b": remote}, "reader": orm.Str("pyscf")}
    refused("deeph.preprocess", inputs, "input labels.b", "found other", "expected localhost")


def test_cleaned_folder(refused, make_remote):
    remote = make_remote()
    remote.base.extras.set(orm.RemoteData.KEY_EXTRA_CLEANED, True)
    refused("deeph.dos", {"hamiltonian_folder": remote}, "folder was cleaned", "hamiltonian_folder")
