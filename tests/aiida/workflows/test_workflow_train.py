"""Training: what is done when a run is cut off, diverges or runs out of memory."""

from __future__ import annotations

import io

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.calculations.train import PROGRESS_FILE
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.workflows.train import TrainWorkChain


@pytest.fixture
def train(start, step, engine_code, make_manifest, make_remote):
    """A training after its setup."""
    builder = TrainWorkChain.get_builder_from_protocol(
        engine_code, DatasetData(make_manifest()), make_remote("dataset"), protocol="fast"
    )
    process = start(builder)
    step(process, process.setup)
    return process


@pytest.fixture
def model(make_model_folder):
    """Function that makes an unstored model."""
    return lambda name: DeepHModelData(make_model_folder(name=name))


def history(n_epochs: int) -> orm.ArrayData:
    node = orm.ArrayData()
    node.set_array("epoch", np.arange(1, n_epochs + 1))
    return node


def with_checkpoint() -> orm.FolderData:
    node = orm.FolderData()
    node.base.repository.put_object_from_filelike(io.BytesIO(b"{}"), PROGRESS_FILE)
    return node


@pytest.fixture
def turn(train, step, ended_job, remote):
    """Function that lets a job of the training end and inspects it."""

    def make(status, **outputs):
        outputs.setdefault("remote_folder", remote())
        parameters = {"parameters": orm.Dict(train.ctx.inputs["parameters"].get_dict())}
        job = ended_job("deeph.train", status, outputs=outputs, inputs=parameters)
        train.ctx.iteration += 1
        train.ctx.setdefault("children", []).append(job)
        return step(train, train.inspect_process), job

    return make


def test_interrupted_training_goes_on_from_its_checkpoint(train, turn):
    verdict, job = turn(410)
    assert verdict.status == 0
    assert train.ctx.inputs["restart_folder"].uuid == job.outputs.remote_folder.uuid


def test_diverged_training_goes_on_from_the_best_weights_with_a_lower_rate(train, turn, model):
    before = train.ctx.inputs["parameters"]["learning_rate"]
    turn(410)
    verdict, job = turn(420, model=model("best"))
    assert verdict.status == 0
    assert train.ctx.inputs["parameters"]["learning_rate"] == before / 2
    assert train.ctx.inputs["initial_model"].uuid == job.outputs.model.uuid
    # The checkpoint belongs to the old learning rate.
    assert "restart_folder" not in train.ctx.inputs
    turn(410)
    assert "initial_model" not in train.ctx.inputs


def test_training_that_its_monitor_stopped_has_diverged(train, turn, model):
    before = train.ctx.inputs["parameters"]["learning_rate"]
    status = TrainWorkChain._process_class.exit_codes.STOPPED_BY_MONITOR.status
    verdict, job = turn(status, model=model("best"))
    assert verdict.status == 0
    assert train.ctx.inputs["parameters"]["learning_rate"] == before / 2
    assert train.ctx.inputs["initial_model"].uuid == job.outputs.model.uuid


def test_divergence_again_and_again_ends_with_the_best_model_as_output(train, turn, model):
    turn(420, model=model("first"))
    for _ in range(2):
        assert turn(420)[0].status == 0
    verdict, _ = turn(420)
    assert verdict.status == TrainWorkChain.exit_codes.ERROR_DIVERGED.status
    assert "diverged 4 times" in verdict.message
    assert train.outputs["model"].uuid == train.ctx.children[0].outputs.model.uuid


@pytest.mark.parametrize("status", [110, 430])
def test_out_of_memory_halves_the_edges(train, turn, status):
    # 54 pairs a member, two members a batch.
    assert turn(status)[0].status == 0
    assert train.ctx.inputs["parameters"]["max_edges_per_batch"] == 54
    assert turn(status)[0].status == 0
    assert train.ctx.inputs["parameters"]["max_edges_per_batch"] == 27
    assert train.ctx.inputs["parameters"]["batch_size"] == 2


def test_out_of_memory_with_a_single_edge_is_the_end(train, turn):
    train._change(max_edges_per_batch=1)
    assert turn(430)[0] == TrainWorkChain.exit_codes.ERROR_OUT_OF_MEMORY


@pytest.mark.parametrize("status", [100, 120, 140, 400])
def test_a_run_that_was_cut_off_goes_on_if_it_came_far_enough(train, turn, status):
    assert turn(status)[0].status == 0
    assert "restart_folder" not in train.ctx.inputs
    _, job = turn(status, retrieved=with_checkpoint())
    assert train.ctx.inputs["restart_folder"].uuid == job.outputs.remote_folder.uuid
    # Cut off once more, before a checkpoint of its own: the former one still counts. The history of a run that was
    # continued holds the epochs of the former one, too, and says nothing.
    turn(status, history=history(11))
    assert train.ctx.inputs["restart_folder"].uuid == job.outputs.remote_folder.uuid


def test_a_checkpoint_that_is_gone_means_from_the_one_before_and_then_from_the_beginning(train, turn, model):
    train.ctx.inputs["initial_model"] = train.ctx.start_model = model("given").store()
    _, first = turn(410)
    turn(120, retrieved=with_checkpoint())
    assert turn(415)[0].status == 0
    assert train.ctx.inputs["restart_folder"].uuid == first.outputs.remote_folder.uuid
    assert "initial_model" not in train.ctx.inputs
    assert turn(415)[0].status == 0
    assert "restart_folder" not in train.ctx.inputs
    # A fine-tuning begins with the model that it was given.
    assert train.ctx.inputs["initial_model"].uuid == train.ctx.start_model.uuid
    assert turn(415)[0].status == TrainWorkChain.exit_codes.ERROR_UNHANDLED_FAILURE.status


def test_full_disk_makes_the_training_wait_with_its_checkpoint(train, turn):
    verdict, job = turn(440, retrieved=with_checkpoint())
    assert verdict.status == 0
    assert train.paused and "no space left" in train.node.process_status
    assert train.ctx.inputs["restart_folder"].uuid == job.outputs.remote_folder.uuid


def test_refused_input_is_not_retried(train, turn):
    assert turn(210)[0].status == TrainWorkChain.exit_codes.ERROR_UNHANDLED_FAILURE.status


def test_model_is_tested_on_what_it_has_not_seen(train, turn, step, model, ended_job):
    outputs = {"model": model("final"), "history": history(2), "output_parameters": orm.Dict({"epochs": 2})}
    verdict, _ = turn(0, **outputs)
    assert verdict is None
    step(train, train.results)
    evaluate = step(train, train.run_evaluate)["evaluate"]
    assert evaluate.inputs.parameters["members"] == "test"
    assert evaluate.inputs.model.uuid == train.outputs["model"].uuid
    assert evaluate.label == "evaluate"
    train.ctx.evaluate = ended_job("deeph.evaluate", 310)
    verdict = step(train, train.inspect_evaluate)
    assert verdict.status == TrainWorkChain.exit_codes.ERROR_EVALUATION_FAILED.status
    train.ctx.evaluate = ended_job(
        "deeph.evaluate", 0, outputs={"output_parameters": orm.Dict({"mae_eV": 0.1}), "errors": orm.Dict({})}
    )
    assert step(train, train.inspect_evaluate) is None
    assert train.outputs["evaluation"]["mae_eV"] == 0.1


@pytest.mark.parametrize("status", [430, 440])
def test_full_machine_makes_the_test_of_a_model_wait(train, turn, step, model, ended_job, status):
    turn(0, model=model("final"), history=history(2), output_parameters=orm.Dict({"epochs": 2}))
    step(train, train.results)
    first = step(train, train.run_evaluate)["evaluate"]
    train.ctx.evaluate = ended_job("deeph.evaluate", status)
    assert step(train, train.inspect_evaluate) is None
    assert train.paused and train.evaluation_open()
    train.play()
    assert step(train, train.run_evaluate)["evaluate"].pk != first.pk
    train.ctx.evaluate = ended_job("deeph.evaluate", 0, outputs={"output_parameters": orm.Dict({"mae_eV": 0.1})})
    assert step(train, train.inspect_evaluate) is None and not train.evaluation_open()


def test_options_reach_every_job(engine_code, make_manifest, make_remote):
    builder = TrainWorkChain.get_builder_from_protocol(
        engine_code,
        DatasetData(make_manifest()),
        make_remote(),
        options={"queue_name": "gpu", "max_wallclock_seconds": 60},
        overrides={"train": {"metadata": {"options": {"account": "me"}}}},
    )
    for job in (builder.train, builder.evaluate):
        assert job.metadata.options.queue_name == "gpu"
        assert job.metadata.options.max_wallclock_seconds == 60
    assert builder.train.metadata.options.account == "me"
    assert "account" not in builder.evaluate.metadata.options


def test_options_of_a_step_are_stronger_than_those_of_all(engine_code, make_manifest, make_remote):
    builder = TrainWorkChain.get_builder_from_protocol(
        engine_code,
        DatasetData(make_manifest()),
        make_remote(),
        options={"queue_name": "cpu", "max_wallclock_seconds": 60},
        overrides={"train": {"metadata": {"options": {"queue_name": "gpu", "gpus_per_node": 2}}}},
    )
    assert builder.train.metadata.options.queue_name == "gpu"
    assert builder.train.metadata.options.max_wallclock_seconds == 60
    assert builder.train.parameters["processes_per_node"] == 2
    assert builder.evaluate.metadata.options.queue_name == "cpu"


def test_wrong_settings_are_refused(engine_code, make_manifest, make_remote):
    with pytest.raises(Exception, match="learning_rat"):
        TrainWorkChain.get_builder_from_protocol(
            engine_code,
            DatasetData(make_manifest()),
            make_remote(),
            overrides={"train": {"parameters": {"learning_rat": 1}}},
        )
