"""Moments by kind of atom: those of labels by PySCF, those that tell a model which magnetic state to predict."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from aiida import orm

from aiida_deeph.codes.pyscf.label import PyscfLabelWorkChain
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.io.deeph import write_deeph


@pytest.fixture
def radical() -> orm.StructureData:
    """Two carbon atoms of kinds of their own, and hydrogen."""
    node = orm.StructureData(cell=[[6.0, 0, 0], [0, 6.0, 0], [0, 0, 6.0]])
    for n, (symbol, kind) in enumerate((("C", "C1"), ("H", "H"), ("C", "C2"))):
        node.append_atom(position=(1.4 * n, 0.0, 0.0), symbols=symbol, name=kind)
    return node


def kmesh(*mesh: int) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints_mesh(mesh)
    return node


def test_moments_reach_pyscf(prepare, radical) -> None:
    inputs = {"structure": radical, "kpoints": kmesh(2, 1, 1), "parameters": orm.Dict({"smearing": 0.1})}
    job = prepare("deeph.pyscf", {**inputs, "moments": orm.Dict({"C1": 1.0, "C2": -1})})
    assert job.config["magnetic_moments"] == [1.0, 0.0, -1.0]
    assert prepare("deeph.pyscf", inputs).config["magnetic_moments"] is None


@pytest.mark.parametrize(
    ("moments", "message"),
    [({"C": 1.0}, "moment of an unknown kind"), ({"C1": "up"}, "not understood"), ({"C1": [1.0, 0, 0]}, "not along z")],
)
def test_wrong_moments_are_refused(prepare, radical, moments, message) -> None:
    inputs = {"structure": radical, "kpoints": kmesh(2, 1, 1), "moments": orm.Dict(moments)}
    with pytest.raises(ValueError, match=message):
        prepare("deeph.pyscf", inputs)


def test_label_takes_moments_of_its_kinds(radical) -> None:
    parameters = orm.Dict({"basis": "gth-szv", "moments": {"C1": 1.0, "C2": -1.0, "Fe": 2.0}})
    job = PyscfLabelWorkChain.job_inputs({"structure": radical, "parameters": parameters, "kpoints": kmesh(1, 1, 1)})
    assert job["moments"].get_dict() == {"C1": 1.0, "C2": -1.0}
    assert job["parameters"].get_dict() == {"basis": "gth-szv"}


def test_overlap_carries_moments_to_the_prediction(prepare, radical, make_model_folder) -> None:
    model = DeepHModelData(make_model_folder(kinds=("C_down", "C_up", "H")))
    inputs = {"structure": radical, "parameters": orm.Dict({"basis": "pyscf:gth-szv"}), "model": model}
    job = prepare("deeph.overlap", {**inputs, "magnetic_moments": orm.Dict({"C1": 2.0, "C2": [0, 0, -2.0]})})
    assert job.config["magnetic_moments"] == [[0.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, -2.0]]
    magnet = DeepHModelData(make_model_folder(name="magnet"))
    magnet.base.attributes.set("spin", "collinear")
    inputs["model"] = magnet
    with pytest.raises(ValueError, match=r"moments of a magnet are needed.*magnetic_moments"):
        prepare("deeph.overlap", inputs)
    with pytest.raises(ValueError, match="moment of an unknown kind"):
        prepare("deeph.overlap", {**inputs, "magnetic_moments": orm.Dict({"C": 2.0})})


def test_hamiltonian_node_holds_moments(hamiltonian, tmp_path) -> None:
    write_deeph(tmp_path / "magnet", replace(hamiltonian, moments=Moments([1.0, -0.5])))
    node = HamiltonianData(tmp_path / "magnet").store()
    assert "moments.json" in node.base.attributes.get("files")
    assert json.loads(node.base.repository.get_object_content("moments.json"))["nominal"] == [1.0, -0.5]
    assert node.load().moments.signs.tolist() == [1, -1]
