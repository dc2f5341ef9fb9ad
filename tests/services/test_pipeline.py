"""The whole pipeline on PostgreSQL, RabbitMQ, two workers and SLURM."""

from __future__ import annotations

import pytest

from tests.services.tiny import GPU_FILE, N_LABELS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


def test_pipeline_ends_well(production, pipeline):
    assert pipeline.is_finished_ok, production.tree(pipeline)
    assert pipeline.outputs.output_parameters["n_members"] == N_LABELS
    assert set(pipeline.outputs.bands) == {"long"}
    assert pipeline.outputs.evaluation["mae_eV"] > 0


def test_every_job_went_through_slurm_once(production, pipeline):
    jobs = production.jobs(pipeline)
    states = {number: state for number, state in production.cluster.slurm.accounted("JobID,State")}
    assert len({job.get_job_id() for job in jobs}) == len(jobs) == N_LABELS + 6
    assert {states[job.get_job_id()] for job in jobs} == {"COMPLETED"}


def test_training_had_the_gpu_that_it_asked_for_and_nothing_else_did(production, pipeline):
    allocated = dict(production.cluster.slurm.accounted("JobID,AllocTRES"))
    for job in production.jobs(pipeline):
        assert ("gres/gpu=1" in allocated[job.get_job_id()]) == (job.process_label == "TrainCalculation")
    (training,) = production.jobs(pipeline, "TrainCalculation")
    assert production.file(training, GPU_FILE).read_text().strip() in {"0", "1"}
    # The device is none: torch has found no CUDA and has trained on the CPU.
    assert training.outputs.output_parameters["device"].startswith("cpu")


def test_profile_uses_the_services(production):
    text = production.verdi("status")
    assert "postgresql" in text.lower() and "rabbitmq" in text.lower(), text
    assert len(production.worker_pids()) == 2
