"""A training that runs: its progress, its monitor, its status on the command line, its processes on many GPUs."""

from __future__ import annotations

import json

import pytest
from aiida import orm
from aiida.common.links import LinkType
from click.testing import CliRunner

from aiida_deeph.calculations.metrics import clock, divergence, parse_rows, progress
from aiida_deeph.calculations.monitors import PROGRESS, watch_training
from aiida_deeph.cli.main import command
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.workflows.train import TrainWorkChain


def rows(*losses, seconds=2.0):
    return [
        {
            "epoch": n,
            "train_loss": loss,
            "validation_loss": loss,
            "validation_mae": None if loss is None else loss / 10,
            "learning_rate": 1e-3,
            "seconds": seconds * (n + 1),
        }
        for n, loss in enumerate(losses)
    ]


def text(metrics):
    return "".join(json.dumps(row) + "\n" for row in metrics)


def test_progress_at_the_pace_of_the_last_epochs():
    known = progress(rows(4.0, 2.0, 3.0), 10)
    assert (known.epoch, known.best_mae, known.seconds_left) == (3, 0.2, 14.0)
    assert known.line() == (
        "epoch 3/10 loss 3.000e+00 val 3.000e+00 eV^2 MAE 300.00 meV (best 200.00) lr 1.00e-03 ETA 0:00:14"
    )
    slow_start = [{**row, "seconds": row["seconds"] + 1000} for row in rows(*[1.0] * 30)]
    assert progress(slow_start, 40).seconds_left == pytest.approx(20)
    assert progress([], 10) is None
    assert progress(rows(1.0), 3).seconds_left == 4.0
    assert clock(3725) == "1:02:05"


def test_line_that_is_being_written_is_left_out():
    assert len(parse_rows(text(rows(1.0, 2.0))[:-9])) == 1


def test_divergence():
    assert divergence(rows(1.0, *[11.0] * 4), 10.0, 5) is None
    assert "more than 10 times the best (1 eV^2) for 5 epochs" in divergence(rows(1.0, *[11.0] * 5), 10.0, 5)
    # One good epoch begins the count anew.
    assert divergence(rows(1.0, *[11.0] * 4, 2.0, *[11.0] * 4), 10.0, 5) is None
    assert divergence(rows(1.0, None), 10.0, 5) == "loss is not finite in epoch 1"


@pytest.fixture
def running(aiida_profile, aiida_localhost, tmp_path):
    """A training job whose folder is there, and the function that writes its metrics."""
    job = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.train")
    job.base.links.add_incoming(orm.Dict({"epochs": 10}).store(), LinkType.INPUT_CALC, "parameters")
    job.store()
    job.set_process_state("waiting")
    job.set_process_label("TrainCalculation")
    job.set_remote_workdir(str(tmp_path))
    return job, lambda metrics: (tmp_path / "metrics.jsonl").write_text(text(metrics))


def test_monitor_stops_a_diverged_training(running):
    job, write = running
    with job.get_authinfo().get_transport() as transport:
        assert watch_training(job, transport) is None
        write(rows(2.0, 1.0, 3.0))
        assert watch_training(job, transport) is None
        assert job.base.extras.get(PROGRESS)["epoch"] == 3
        write(rows(1.0, *[20.0] * 3))
        assert "times the best" in watch_training(job, transport, patience=3)


def test_status_of_a_running_training(running, aiida_profile):
    job, write = running

    def show(*arguments):
        result = CliRunner().invoke(command, ["-p", aiida_profile.name, "train", "status", *map(str, arguments)])
        if isinstance(result.exception, DeepHError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    assert f"TrainCalculation<{job.pk}> waiting: no epoch has ended yet" in show(job.pk)
    write(rows(4.0, 2.0, 3.0))
    assert "epoch 3/10 loss 3.000e+00" in show(job.pk) and "ETA 0:00:14" in show(job.pk)
    assert json.loads(show(job.pk, "--json"))["learning_rate"] == 1e-3
    other = orm.WorkChainNode().store()
    with pytest.raises(InputError, match="no training"):
        show(other.pk)


@pytest.fixture
def dataset(aiida_profile, make_manifest, make_remote):
    return {"dataset": DatasetData(make_manifest()), "dataset_folder": make_remote("preprocessed")}


def test_gpus_of_the_options_are_processes_of_the_training(aiida_profile, engine_code, dataset):
    options = {"gpus_per_node": 4, "resources": {"num_machines": 2, "num_mpiprocs_per_machine": 8}}
    builder = TrainWorkChain.get_builder_from_protocol(engine_code, *dataset.values(), protocol="fast", options=options)
    assert (builder.train.parameters["processes_per_node"], builder.train.parameters["nodes"]) == (4, 2)
    assert builder.train.metadata.options.resources == {"num_machines": 2, "num_mpiprocs_per_machine": 1}
    assert builder.evaluate.metadata.options.resources["num_machines"] == 1
    assert builder.train.monitors["divergence"]["entry_point"] == "deeph.watch_training"
    alone = {"train": {"parameters": {"processes_per_node": 1, "nodes": 1}}}
    builder = TrainWorkChain.get_builder_from_protocol(
        engine_code, *dataset.values(), protocol="fast", options={"gpus_per_node": 4}, overrides=alone
    )
    assert builder.train.parameters["processes_per_node"] == 1


def test_job_on_several_nodes_is_started_once_on_each(prepare, dataset):
    parameters = orm.Dict({"nodes": 2, "processes_per_node": 4})
    resources = {"num_machines": 2, "num_mpiprocs_per_machine": 1}
    job = prepare(
        "deeph.train", {**dataset, "parameters": parameters, "metadata": {"options": {"resources": resources}}}
    )
    assert job.info.codes_info[0].withmpi is True and job.config["nodes"] == 2
    with pytest.raises(ValueError, match="resources do not fit a training on several nodes"):
        prepare("deeph.train", {**dataset, "parameters": parameters})
    assert prepare("deeph.train", {**dataset, "parameters": orm.Dict({})}).info.codes_info[0].withmpi is not True
