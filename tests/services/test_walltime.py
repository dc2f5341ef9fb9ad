"""Jobs that SLURM ended at their walltime. They were submitted before all other tests: SLURM counts minutes."""

from __future__ import annotations

import pytest

from tests.services.tiny import LONG, weights

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


def test_training_goes_on_from_the_checkpoint_that_it_wrote_at_its_walltime(production, long_training, overtime):
    node = production.wait(overtime.training, 300)
    assert node.is_finished_ok, production.tree(node)
    first, second = production.jobs(node, "TrainCalculation")
    assert first.exit_status == 120, first.exit_message
    # SIGTERM came, and there was time for a checkpoint before SIGKILL.
    assert first.outputs.output_parameters["reason"] == "SIGTERM"
    assert second.inputs.restart_folder.creator.pk == first.pk
    assert len(node.outputs.history.get_array("epoch")) == LONG["epochs"]
    assert weights(node) == weights(production.wait(long_training))


def test_label_gets_twice_the_time(production, overtime):
    node = production.wait(overtime.label, 300)
    assert node.is_finished_ok, production.tree(node)
    first, second = production.jobs(node)
    assert first.exit_status == 120, first.exit_message
    times = [job.get_option("max_wallclock_seconds") for job in (first, second)]
    assert times == [60, 120]


def test_accounting_agrees(production, overtime):
    states = dict(production.cluster.slurm.accounted("JobID,State"))
    for node in (overtime.training, overtime.label):
        first = production.jobs(node)[0]
        assert states[first.get_job_id()] == "TIMEOUT"
