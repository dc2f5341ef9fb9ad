"""Trainings that are cut off, killed, starved of memory and disk, fed with damaged data; and what becomes of each."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.plugins import CalculationFactory
from safetensors.numpy import load as load_tensors

from aiida_deeph.workflows.train import TrainWorkChain
from tests.services.tiny import LONG, TRAINING, WALLTIME, train_builder, weights

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

# Takes 1500 MiB unless the edges are taken in small enough portions.
HUNGRY = """\
python3 - <<'END'
import json, time
edges = json.load(open("config.json")).get("max_edges_per_batch")
if edges is None or edges > {edges}:
    memory = bytearray(1500 << 20)
    memory[::4096] = b"1" * len(memory[::4096])
    time.sleep(60)
END
"""


def test_cancelled_and_killed_training_ends_as_if_nothing_had_happened(production, engine, pipeline, long_training):
    node = production.submit(train_builder(engine, pipeline, LONG))
    slurm = production.cluster.slurm
    # scancel sends SIGTERM: a checkpoint is written.
    first = production.training_at(node, 1, 2)
    slurm.command("scancel", first.get_job_id())
    production.wait(first)
    assert first.exit_status == 410, first.exit_message
    # SIGKILL leaves no time for one: the last of those that are written as it goes counts.
    second = production.training_at(node, 2, production.epochs(first) + 2)
    for pid in slurm.processes(second.get_job_id()):
        if "deeph-engine" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    production.wait(node)
    assert node.is_finished_ok, production.tree(node)
    _, second, third = production.jobs(node, "TrainCalculation")
    assert second.exit_status == 400, second.exit_message
    assert second.inputs.restart_folder.creator.pk == first.pk
    assert third.inputs.restart_folder.creator.pk == second.pk
    assert weights(node) == weights(production.wait(long_training))
    assert len(node.outputs.history.get_array("epoch")) == LONG["epochs"]


@pytest.fixture(scope="module")
def faulty(production, engine, pipeline, tmp_path_factory) -> dict[str, Any]:
    """Faults that do not need to be watched, all submitted at once."""
    folder = tmp_path_factory.mktemp("faulty")
    members = pipeline.outputs.dataset.members
    half = max(member.n_pairs for member in members) * TRAINING["batch_size"] // 2
    made: dict[str, Any] = {"half": half}
    made["memory"] = production.submit(
        train_builder(
            engine, pipeline, options={"max_memory_kb": 1200 * 1024, "prepend_text": HUNGRY.format(edges=half)}
        )
    )
    made["diverged"] = production.submit(
        train_builder(
            engine,
            pipeline,
            {"learning_rate": 5e3, "precision": "float32"},
            max_divergences=1,
        )
    )
    # 200 KiB a file are enough for the model and too little for a checkpoint: as on a disk that runs full.
    made["room"] = folder / "room"
    made["full"] = production.submit(
        train_builder(engine, pipeline, options={"prepend_text": f"[ -e {made['room']} ] || ulimit -f 200"})
    )
    for fault, damage in DAMAGES.items():
        dataset = folder / fault / "dataset"
        shutil.copytree(
            Path(pipeline.outputs.dataset_folder.get_remote_path()) / "dataset",
            dataset,
            ignore=shutil.ignore_patterns("graphs"),
        )
        damage(dataset, dataset / "members" / member(pipeline) / "hamiltonian.h5")
        remote = orm.RemoteData(remote_path=str(dataset.parent), computer=production.computer).store()
        builder = CalculationFactory("deeph.train").get_builder()
        builder.code, builder.dataset, builder.dataset_folder = engine, pipeline.outputs.dataset, remote
        builder.parameters = orm.Dict(TRAINING)
        builder.metadata.options = {**WALLTIME, "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}
        made[fault] = production.submit(builder)
    return made


def member(pipeline: orm.WorkChainNode) -> str:
    """Name of a member that is trained on."""
    (training,) = [job for job in pipeline.called_descendants if job.process_label == "TrainCalculation"]
    return training.outputs.output_parameters["split"]["train"][0]["name"]


def truncate(dataset: Path, file: Path) -> None:
    """Cut a file of a member in half."""
    os.truncate(file, file.stat().st_size // 2)


def change(dataset: Path, file: Path) -> None:
    """Change one bit of a member."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def lose(dataset: Path, file: Path) -> None:
    """As if the scratch file system had been purged."""
    shutil.rmtree(dataset)


DAMAGES = {"truncated": truncate, "changed": change, "lost": lose}


def test_out_of_memory_is_answered_by_smaller_portions_of_the_same_batch(production, pipeline, faulty):
    node = production.wait(faulty["memory"], 300)
    assert node.is_finished_ok, production.tree(node)
    first, *_, last = production.jobs(node, "TrainCalculation")
    # The verdict is that of SLURM's accounting.
    assert first.exit_status == 110
    states = dict(production.cluster.slurm.accounted("JobID,State"))
    assert states[first.get_job_id()] == "OUT_OF_MEMORY"
    assert last.inputs.parameters["max_edges_per_batch"] == faulty["half"]
    assert last.inputs.parameters["batch_size"] == TRAINING["batch_size"]
    ours, whole = load_tensors(weights(node)), load_tensors(weights(pipeline))
    assert ours.keys() == whole.keys()
    # The same effective batch: other roundings, in double precision, are all that may differ.
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, whole[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_divergence_lowers_the_rate_and_in_the_end_keeps_the_best_model(production, faulty):
    node = production.wait(faulty["diverged"], 300)
    assert node.exit_status == TrainWorkChain.exit_codes.ERROR_DIVERGED.status, production.tree(node)
    assert "diverged 2 times" in node.exit_message
    first, second = production.jobs(node, "TrainCalculation")
    assert (first.exit_status, second.exit_status) == (420, 420)
    assert second.inputs.parameters["learning_rate"] == 0.5 * first.inputs.parameters["learning_rate"]
    assert second.inputs.initial_model.uuid == first.outputs.model.uuid
    assert "model" in node.outputs and "history" in node.outputs


def test_full_disk_stops_the_training_until_there_is_room(production, pipeline, faulty):
    node = faulty["full"]
    production.until(lambda: node.paused, 300, "the training waits for room")
    (first,) = production.jobs(node, "TrainCalculation")
    assert first.exit_status == 440, first.exit_message
    assert "no space left" in node.process_status
    # What exists is attached: the model of the first epochs.
    assert "model" in first.outputs
    faulty["room"].touch()
    production.verdi("process", "play", str(node.pk))
    production.wait(node, 300)
    assert node.is_finished_ok, production.tree(node)
    assert weights(node) == weights(pipeline)


@pytest.mark.parametrize("fault", ["truncated", "changed"])
def test_damaged_member_is_refused_by_name_before_training(production, pipeline, faulty, fault):
    node = production.wait(faulty[fault], 300)
    assert node.exit_status == 310, node.exit_message
    assert "file of a member changed" in node.exit_message
    assert f"members/{member(pipeline)}/hamiltonian.h5" in node.exit_message
    assert "history" not in node.outputs


def test_dataset_that_is_gone_is_missed_by_name(production, faulty):
    node = production.wait(faulty["lost"], 300)
    assert node.exit_status == 310, node.exit_message
    assert "members/" in node.exit_message and "no file" in node.exit_message
