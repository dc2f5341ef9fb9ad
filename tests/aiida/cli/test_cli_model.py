"""The model card, and the archive of everything behind a model, read in a profile that knows nothing of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import DeepHError, InputError
from tests.aiida.commands import run_command

SETTINGS = {"basis": "gth-szv", "pseudo": "gth-pbe", "kmesh": [1, 1, 9]}
TRAINING = {
    "config": {"batch_size": 2, "learning_rate": 5e-3, "network": {"lmax": 3}},
    "split": {"train": [{"name": "a"}] * 3, "test": [{"name": "b"}]},
    "epochs": 150,
    "seconds": 12.5,
    "device": "one GPU",
    "torch": "2.13.0",
}


ELSEWHERE = """
import json, sys
from aiida import load_profile, orm
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida.tools.archive import import_archive
load_profile(SqliteTempBackend.create_profile("empty"))
before = orm.QueryBuilder().append(orm.Node).count()
import_archive(sys.argv[1])
from aiida_deeph.report.model_card import model_card
from aiida_deeph.workflows.model_basis import basis_of
model = orm.load_node(sys.argv[2])
nodes = [node.uuid for (node,) in orm.QueryBuilder().append(orm.Node).all()]
weights = model.base.repository.get_object_content("weights.safetensors")
found = {"before": before, "nodes": nodes, "card": model_card(model), "basis": basis_of(model), "weights": weights}
print(json.dumps(found))
"""


@pytest.fixture
def run(aiida_profile):
    """Function that runs `aiida-deeph ARGUMENTS`; an error of ours is raised."""
    return partial(run_command, aiida_profile)


def job(computer, name, caller=None, **inputs):
    node = orm.CalcJobNode(computer=computer, process_type=f"aiida.calculations:deeph.{name}")
    for label, value in inputs.items():
        node.base.links.add_incoming(value if value.is_stored else value.store(), LinkType.INPUT_CALC, label)
    if caller is not None:
        node.base.links.add_incoming(caller, LinkType.CALL_CALC, name)
    node.store()
    node.set_process_state("finished")
    node.set_exit_status(0)
    return node


def output(node, label, value):
    value.base.links.add_incoming(node, LinkType.CREATE, label)
    return value.store()


@pytest.fixture
def trained(aiida_profile_clean, aiida_localhost, make_manifest, make_model_folder):
    """A model at the end of a graph: two DFT runs, preprocess, training, test, and their workchains."""
    datasets, trainings = orm.WorkChainNode().store(), orm.WorkChainNode().store()
    labels = {}
    for name in ("a", "b"):
        mesh = orm.KpointsData()
        mesh.set_kpoints_mesh([1, 1, 9])
        dft = job(aiida_localhost, "pyscf", datasets, kpoints=mesh, parameters=orm.Dict({"basis": "gth-szv"}))
        output(dft, "output_parameters", orm.Dict({"seconds": 4.0}))
        remote = orm.RemoteData(remote_path=f"/scratch/{name}", computer=aiida_localhost)
        labels[f"labels__{name}"] = output(dft, "remote_folder", remote)
    preprocess = job(aiida_localhost, "preprocess", datasets, reader=orm.Str("pyscf"), **labels)
    rejected = [{"name": "bad", "reason": "not Hermitian"}]
    dataset = output(preprocess, "dataset", DatasetData(make_manifest(rejected=rejected)))
    report = orm.Dict({"failed": {"c": "SCF not converged"}}).store()
    report.base.links.add_incoming(datasets, LinkType.RETURN, "output_parameters")
    train = job(aiida_localhost, "train", trainings, dataset=dataset)
    data = {"labels": {"code": "pyscf", "version": "2.14", "settings": SETTINGS}, "codes": ["pyscf"], "n_members": 2}
    model = output(train, "model", DeepHModelData(make_model_folder(data=data, training=TRAINING)))
    test = job(aiida_localhost, "evaluate", trainings, model=model, dataset=dataset)
    output(test, "output_parameters", orm.Dict({"mae_eV": 0.004, "max_eV": 0.05}))
    for (process,) in orm.QueryBuilder().append(orm.ProcessNode).all():
        process.set_process_state("finished")
        process.seal()
    return model


def test_card_tells_where_a_model_comes_from(run, trained):
    card = json.loads(run("model", "show", trained.pk, "--json"))
    assert card["data"]["codes"] == "pyscf" and card["data"]["code version"] == "2.14"
    assert card["data"]["settings"] == SETTINGS and card["data"]["k-points"] == "1 x 1 x 9"
    assert card["data"]["failed"] == {"c": "SCF not converged", "bad": "not Hermitian"}
    assert card["errors"] == {"validation_mae_eV": 0.003, "test_mae_eV": 0.004, "test_max_eV": 0.05}
    assert card["cost"] == {"training (s)": 12.5, "device": "one GPU", "DFT (s)": 8.0}
    assert card["training"]["train cells"] == 3 and card["network"]["lmax"] == 3
    assert [text.split(":")[0] for text in card["cite"].values()] == ["DeepH-E3", "DeepH", "AiiDA", "PySCF"]
    text = run("model", "show", trained.pk)
    assert "not Hermitian" in text and "doi:10.1063/5.0006074" in text


def test_card_of_a_model_without_history(run, aiida_profile, make_model_folder):
    node = DeepHModelData(make_model_folder(name="alone")).store()
    card = json.loads(run("model", "show", node.pk, "--json"))
    assert card["data"]["basis (l of the shells)"] == {"C": [0, 1], "H": [0, 1]}
    assert "failed" not in card["data"] and card["cost"] == {}


@pytest.mark.slow
def test_archive_holds_everything_behind_a_model(run, trained, tmp_path):
    file = tmp_path / "model.aiida"
    run("model", "export", trained.pk, "--archive", file)
    nodes = {node.uuid for (node,) in orm.QueryBuilder().append(orm.Node).all()}
    before = json.loads(run("model", "show", trained.pk, "--json"))
    with pytest.raises(InputError, match="cannot export"):
        run("model", "export", trained.pk, "--archive", file)
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path)}
    arguments = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, str(file), trained.uuid]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["before"] == 0 and set(found["nodes"]) == nodes
    for title in ("data", "errors", "cost", "cite"):
        assert found["card"][title] == before[title]
    # What a prediction takes of it: the files of the model, and the basis of the overlap.
    assert found["basis"] == "pyscf:gth-szv"
    assert found["weights"] == trained.base.repository.get_object_content("weights.safetensors")


def test_workflow_that_still_runs_cannot_be_archived(run, aiida_profile_clean, make_model_folder, tmp_path):
    running = orm.CalcJobNode(process_type="aiida.calculations:deeph.train").store()
    node = DeepHModelData(make_model_folder())
    node.base.links.add_incoming(running, LinkType.CREATE, "model")
    with pytest.raises(InputError, match=r"cannot export.*sealed"):
        run("model", "export", node.store().pk, "--archive", tmp_path / "model.aiida")


def test_model_by_the_workflow_that_made_it_into_a_relative_folder(run, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workflow = orm.WorkChainNode()
    workflow.set_process_label("FullWorkChain")
    workflow.store()
    trained.base.links.add_incoming(workflow, LinkType.RETURN, "model")
    run("model", "export", workflow.pk, "here")
    assert (tmp_path / "here" / "model.json").is_file()
    card = run("model", "show", workflow.pk, "--json")
    assert "cite" in card and card == run("model", "show", trained.pk, "--json")
    empty = orm.WorkChainNode()
    empty.store()
    with pytest.raises(InputError, match="process has no such output"):
        run("model", "show", empty.pk)


def test_export_needs_one_target(run, trained, tmp_path):
    with pytest.raises(InputError, match="FOLDER or --archive"):
        run("model", "export", trained.pk)
    run("model", "export", trained.pk, tmp_path / "folder")
    assert (tmp_path / "folder" / "model.json").is_file()


@pytest.mark.slow
def test_checkpoint_of_the_reference_code(run, shared):
    folder = shared / "fixtures" / "deeph-e3-reference" / "water_small_e3nn035" / "model"
    run("model", "import", "--reference", folder, "--label", "water")
    query = orm.QueryBuilder().append(DeepHModelData, filters={"label": "water"})
    model = query.one()[0]
    assert set(model.elements) == {"H", "O"}
    assert model.model_description.origin["e3nn"].startswith("0.3")


@pytest.mark.slow
def test_folder_that_is_no_checkpoint_of_the_reference_code(run, tmp_path):
    with pytest.raises(DeepHError, match=r"not imported; in .*folder"):
        (tmp_path / "folder").mkdir()
        run("model", "import", "--reference", tmp_path / "folder")
