"""Services, a profile on them, and what all tests of faults share: one tiny dataset and one tiny model."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # As in the tests of the AiiDA wing: AiiDA makes its configuration folder when it is imported, and warns.
    warnings.simplefilter("ignore")
    if "AIIDA_PATH" not in os.environ:
        os.environ["AIIDA_PATH"] = tempfile.mkdtemp(prefix="aiida-deeph-tests-")
        atexit.register(shutil.rmtree, os.environ["AIIDA_PATH"], ignore_errors=True)
    from aiida import orm

from tests.services.cluster import Cluster, missing_programs
from tests.services.production import Production, production_profile
from tests.services.tiny import LONG, label_builder, pipeline_builder, train_builder

REQUIRE_ALL = os.environ.get("AIIDA_DEEPH_REQUIRE_ALL") == "1"


def pytest_configure(config: pytest.Config) -> None:
    # AiiDA's own warnings, about which the package can do nothing.
    config.addinivalue_line("filterwarnings", "ignore:Object of type <DbNode> not in session")
    config.addinivalue_line(
        "filterwarnings", "ignore:.*psycopg.Connection.* was deleted while still open:ResourceWarning"
    )


@pytest.fixture(scope="session")
def services() -> Iterator[Cluster]:
    """PostgreSQL, RabbitMQ and SLURM; skipped without the programs."""
    missing = missing_programs()
    if missing:
        message = f"not installed: {', '.join(missing)}"
        if REQUIRE_ALL:
            pytest.fail(f"{message}, and AIIDA_DEEPH_REQUIRE_ALL=1")
        pytest.skip(message)
    # Not below pytest's folder, which only its owner may enter: PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="deeph-"))
    try:
        cluster = Cluster.start(folder)
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def production(services: Cluster) -> Iterator[Production]:
    """The profile, loaded as long as the tests of this folder run; its daemon; codes as the README registers them."""
    with production_profile(services) as made:
        made.setup_codes()
        yield made
    # A connection that AiiDA leaves open warns when it is collected: here, where that is ignored.
    gc.collect()


@pytest.fixture(scope="package")
def engine(production: Production) -> orm.InstalledCode:
    """deeph-engine on the cluster."""
    return orm.load_code(f"deeph-engine@{production.computer.label}")


@pytest.fixture(scope="package")
def pipeline(production: Production, engine: orm.InstalledCode) -> orm.WorkChainNode:
    """The whole pipeline as it ended; the training has asked for one GPU."""
    return production.wait(production.submit(pipeline_builder(engine)), 400)


@pytest.fixture(scope="package")
def long_training(production: Production, engine: orm.InstalledCode, pipeline: orm.WorkChainNode) -> orm.WorkChainNode:
    """A long training on the pipeline's dataset that nothing has happened to, as submitted."""
    return production.submit(train_builder(engine, pipeline, LONG))


@dataclass(frozen=True)
class Overtime:
    """Workflows whose first job SLURM ends at its walltime."""

    training: orm.WorkChainNode
    label: orm.WorkChainNode


@pytest.fixture(scope="package")
def overtime(production: Production, engine: orm.InstalledCode, pipeline: orm.WorkChainNode) -> Iterator[Overtime]:
    """A training and a label with a minute of walltime, the least that SLURM knows, both made to idle through it."""
    flag = production.cluster.folder / "overtime"
    idle = f"[ -e {flag} ] || {{ touch {flag}; sleep 600; }}"
    minute = {"max_wallclock_seconds": 60}
    label = production.submit(label_builder(engine, **minute, prepend_text=idle))
    # Without its own limit it would stop by itself in time.
    training = production.submit(train_builder(engine, pipeline, {**LONG, "max_seconds": 3600.0}, minute))
    job = production.training_at(training, 1, 2)
    number = job.get_job_id()
    stopped = production.cluster.slurm.processes(number)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    yield Overtime(training, label)
