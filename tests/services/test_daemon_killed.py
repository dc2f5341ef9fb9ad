"""kill -9 of workers and of the whole daemon, in each phase of the pipeline."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.services.tiny import N_LABELS, pipeline_builder, weights

# What takes longest by the clock, and no CPU, starts first.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800), pytest.mark.usefixtures("overtime")]


def test_pipeline_survives_kills_in_every_phase_without_doing_anything_twice(production, engine, pipeline):
    node = production.submit(pipeline_builder(engine))
    production.running(node, "PyscfCalculation")
    production.kill_workers()
    production.running(node, "TrainCalculation")
    production.kill_daemon()
    production.start_daemon()
    production.running(node, "PredictCalculation")
    production.kill_daemon()
    production.start_daemon()
    production.wait(node, 300)
    assert node.is_finished_ok, production.tree(node)
    jobs = production.jobs(node)
    assert Counter(job.process_label for job in jobs) == Counter(job.process_label for job in production.jobs(pipeline))
    assert len(production.jobs(node, "PyscfCalculation")) == N_LABELS
    # What AiiDA has no record of, SLURM has: a job that was submitted twice would be there twice.
    submitted = Counter(name for _, name in production.cluster.slurm.accounted("JobID,JobName"))
    assert {submitted[f"aiida-{job.pk}"] for job in jobs} == {1}
    assert weights(node) == weights(pipeline)
    bands, undisturbed = node.outputs.bands["long"], pipeline.outputs.bands["long"]
    assert (bands.get_bands() == undisturbed.get_bands()).all()
