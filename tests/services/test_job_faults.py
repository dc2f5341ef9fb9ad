"""Jobs that are cancelled, whose node fails, whose controller is down; labels that fail for good; killed parents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiida import orm

from aiida_deeph.workflows.dataset import DatasetWorkChain
from tests.services import base, slurm
from tests.services.tiny import SCF, WALLTIME, hydrogen_chain, label_builder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


def hang_once(flag: Path) -> str:
    """Shell lines that keep the first job that reads them busy for longer than any test lasts."""
    return f"[ -e {flag} ] || {{ touch {flag}; sleep 600; }}"


def test_cancelled_job_is_done_again(production, engine, tmp_path):
    flag = tmp_path / "flag"
    node = production.submit(label_builder(engine, prepend_text=hang_once(flag)))
    production.until(flag.exists, 200, "the job runs")
    (job,) = production.jobs(node)
    production.cluster.slurm.command("scancel", job.get_job_id())
    production.wait(node, 200)
    assert node.is_finished_ok, production.tree(node)
    first, second = production.jobs(node)
    assert (first.exit_status, second.exit_status) == (400, 0)
    assert "retry 1 of 2" in production.tree(node)


def test_job_of_a_node_that_failed_is_done_again(production, engine, tmp_path):
    flag = tmp_path / "flag"
    batch = production.cluster.slurm
    options = {"queue_name": slurm.SPARE_PARTITION, "prepend_text": hang_once(flag)}
    node = production.submit(label_builder(engine, **options))
    production.until(flag.exists, 200, "the job runs")
    batch.command("scontrol", "update", f"nodename={slurm.SPARE}", "state=down", "reason=test")
    production.until(lambda: len(production.jobs(node)) == 2, 200, "the job is submitted again")
    # If it has not come back by itself.
    batch.command("scontrol", "update", f"nodename={slurm.SPARE}", "state=resume", check=False)
    production.wait(node, 200)
    assert node.is_finished_ok, production.tree(node)
    first, second = production.jobs(node)
    assert (first.exit_status, second.exit_status) == (140, 0)
    assert dict(batch.accounted("JobID,State"))[first.get_job_id()] == "NODE_FAIL"
    assert "exit status 140: retry 1 of 2" in production.tree(node)


def test_controller_that_is_down_pauses_the_job_and_play_resumes_it(production, engine):
    batch = production.cluster.slurm
    assert base.stop(batch.folder, "slurmctld")
    try:
        node = production.submit(label_builder(engine))
        # AiiDA tries again with growing pauses, then waits for a person.
        production.until(lambda: any(job.paused for job in production.jobs(node)), 200, "the job pauses")
        (job,) = production.jobs(node)
        assert job.get_job_id() is None
    finally:
        batch.controller().start()
    # Whatever else ran has paused too, if it was looked at meanwhile.
    production.verdi("process", "play", "--all")
    production.wait(node, 200)
    assert node.is_finished_ok, production.tree(node)
    names = [name for _, name in batch.accounted("JobID,JobName")]
    assert names.count(f"aiida-{job.pk}") == 1


# Jobs of six atoms end without results, those of eight get a single SCF cycle whatever they were told.
SABOTAGE = """\
case $(head -n 1 structure.xyz) in
6) exit 1 ;;
8) sed -i 's/"max_cycle": *[0-9]*/"max_cycle": 1/' config.json ;;
esac
"""


def dataset_builder(engine: orm.InstalledCode, structures: dict[str, orm.StructureData], **options: Any) -> Any:
    """Labels of given structures, and their dataset."""
    overrides = {
        # The shortest chain needs so many: with less its H is folded, and rejected.
        "label": {"kpoints": [7, 1, 1], "pair_cutoff": 5.0, "parameters": SCF, "options": {**WALLTIME, **options}},
        "preprocess": {"metadata": {"options": WALLTIME}},
        "max_failed_fraction": 0.5,
    }
    codes = {"engine": engine, "dft": engine}
    return DatasetWorkChain.get_builder_from_protocol(codes, structures, protocol="fast", overrides=overrides)


def test_failed_labels_are_left_out_and_named(production, engine):
    structures = {f"chain_{n}": hydrogen_chain(n) for n in (2, 4, 6, 8)}
    node = production.wait(production.submit(dataset_builder(engine, structures, prepend_text=SABOTAGE)), 300)
    assert node.is_finished_ok, production.tree(node)
    failed = node.outputs.output_parameters["failed"]
    assert set(failed) == {"chain_6", "chain_8"}
    assert "failed again after all retries" in failed["chain_6"]
    assert "did not converge, whatever was tried" in failed["chain_8"]
    assert {member.name for member in node.outputs.dataset.members} == {"chain_2", "chain_4"}
    # One run, two retries; one run, two changes of its parameters.
    assert len(production.jobs(node, "PyscfCalculation")) == 2 + 3 + 3


@pytest.mark.parametrize("how", [(), ("-F",)], ids=["kill", "kill -F"])
def test_killed_parent_takes_its_children_and_their_jobs_along(production, engine, tmp_path, how):
    structures = {"a": hydrogen_chain(2), "b": hydrogen_chain(4)}
    node = production.submit(dataset_builder(engine, structures, prepend_text="sleep 600"))
    production.until(lambda: len(running(production, node)) == 2, 200, "both labels run")
    jobs = production.jobs(node)
    production.verdi("process", "kill", *how, str(node.pk))
    production.until(lambda: all(child.is_terminated for child in [node, *node.called_descendants]), 60, "all end")
    production.until(lambda: not running(production, node), 60, "no job of them runs")
    assert node.is_killed and all(job.is_killed for job in jobs)


def running(production: Any, node: orm.ProcessNode) -> list[orm.CalcJobNode]:
    """CalcJobs whose SLURM job runs."""
    return [job for job in production.jobs(node) if production.slurm_state(job) in ("PENDING", "RUNNING")]
