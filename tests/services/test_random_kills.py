"""kill -9 at random moments, of a worker, of all workers or of the whole daemon, while pipelines of every kind run.

AIIDA_DEEPH_KILLS is the number of kills on each kind of profile (6 by default), AIIDA_DEEPH_KILLS_SEED their seed.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from aiida import orm
from aiida.common.links import LinkType

from tests.services.production import Production, kill, presto_profile
from tests.services.test_killed_while_submitting import JOBS
from tests.services.tiny import label_builder, validated_builder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("AIIDA_DEEPH_KILLS", "6"))
SEED = int(os.environ.get("AIIDA_DEEPH_KILLS_SEED", "1"))
RUNS = "runs.txt"
# Each job leaves a line where it ran: two, if it ran twice.
COUNTED = {"prepend_text": f"echo run >> {RUNS}"}


@pytest.fixture(params=[pytest.param("presto", marks=pytest.mark.own_profile), "production"])
def profile(request, tmp_path) -> Iterator[tuple[Production, orm.InstalledCode]]:
    """SQLite, ZeroMQ and jobs that run at once; PostgreSQL, RabbitMQ and SLURM."""
    if request.param == "production":
        yield request.getfixturevalue("production"), request.getfixturevalue("engine")
        return
    with presto_profile(tmp_path) as presto:
        presto.setup_codes()
        yield presto, orm.load_code(f"deeph-engine@{presto.computer.label}")


def strike(profile: Production, chance: random.Random) -> str:
    """One kill."""
    kind = chance.choice(["worker", "worker", "workers", "daemon"])
    if kind == "daemon":
        profile.kill_daemon()
        profile.start_daemon()
        return kind
    workers = profile.worker_pids()
    kill(workers if kind == "workers" else [chance.choice(workers)] if workers else [])
    return kind


def test_all_ends_none_is_lost_and_no_job_is_done_twice(profile):
    production, engine = profile
    chance = random.Random(SEED)
    builder = validated_builder(engine, **COUNTED)
    train = builder.train.train.metadata.options
    train["prepend_text"] = f"{train['prepend_text']}\n{COUNTED['prepend_text']}"
    nodes = [production.submit(builder), production.submit(label_builder(engine, **COUNTED))]
    kills: list[str] = []
    while len(kills) < KILLS and not all(node.is_terminated for node in nodes):
        time.sleep(chance.uniform(0.5, 6.0))
        kills.append(strike(production, chance))
    while len(kills) < KILLS:
        # The pipeline was faster than the kills: another one.
        nodes.append(production.submit(validated_builder(engine, seed=len(nodes), **COUNTED)))
        while len(kills) < KILLS and not nodes[-1].is_terminated:
            time.sleep(chance.uniform(0.5, 6.0))
            kills.append(strike(production, chance))
    for node in nodes:
        production.wait(node, 900)
        assert node.is_finished_ok, f"{kills}\n{production.tree(node)}"
        if node.process_label == "FullWorkChain":
            assert Counter(job.process_label for job in production.jobs(node)) == JOBS
        for job in production.jobs(node):
            runs = production.file(job, RUNS)
            assert runs.read_text().splitlines() == ["run"], job
        for child in production.abandoned(node):
            assert child.is_killed and child.is_sealed
            made = child.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.CALL_CALC)).all_nodes()
            # A function may have been cut off between its outputs: nobody takes the first of them.
            assert not made or isinstance(child, orm.CalcFunctionNode), made
            assert not [node for node in made if node.base.links.get_outgoing().all()]
    print(f"{len(kills)} kills: {dict(Counter(kills))}; abandoned: {sum(len(production.abandoned(n)) for n in nodes)}")
