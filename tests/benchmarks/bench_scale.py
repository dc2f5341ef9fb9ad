"""What a label costs the engine: worker CPU, memory, database rows and repository bytes, beside a bare trivial CalcJob.

    python tests/benchmarks/bench_scale.py                    # a profile of its own: SQLite, ZeroMQ
    python tests/benchmarks/bench_scale.py --profile NAME     # any profile with a broker, e.g. PostgreSQL and RabbitMQ

The DFT is a stand-in that copies the recorded output of one PySCF run, so that only the engine is measured. One daemon
worker first runs the trivial jobs (`core.arithmetic.add`), then one DatasetWorkChain; both with the same number in
flight, on the same computer. CPU seconds are those of the worker, children (bash, ps) left out. The dataset refuses its
labels in the end, since all hold the matrices of one structure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROWS = ("db_dbnode", "db_dblink", "db_dblog", "db_dbcomment")
ENDED = ("finished", "excepted", "killed")


@dataclass(frozen=True)
class Sample:
    """State of worker and storage after a number of processes.

    :param cpu: of the worker since its start, s.
    :param rss: of the worker, MB.
    :param rows: of the database.
    :param repository: bytes of the files of nodes.
    :param database: bytes of the database.
    """

    done: int
    wall: float
    cpu: float
    rss: float
    rows: int
    repository: int
    database: int


class Meter:
    """Reads the one worker of the daemon and the storage of the profile."""

    def __init__(self) -> None:
        import psutil
        from aiida.engine.daemon.client import get_daemon_client

        client = get_daemon_client()
        if client.is_daemon_running:
            raise SystemExit(
                "the daemon of this profile runs already: stop it, the measurement needs one worker of its own"
            )
        client.start_daemon(number_workers=1)
        deadline = time.monotonic() + 60
        while not (workers := client.get_worker_info().get("info", {})):
            if time.monotonic() > deadline:
                raise SystemExit("the daemon's worker did not start")
            time.sleep(0.2)
        self.worker = psutil.Process(int(next(iter(workers))))
        self.client = client
        self.start = time.monotonic()

    def sample(self, done: int) -> Sample:
        """Now."""
        times = self.worker.cpu_times()
        rows, repository, database = storage()
        rss = self.worker.memory_info().rss / 1e6
        wall = time.monotonic() - self.start
        return Sample(done, wall, times.user + times.system, rss, rows, repository, database)


def storage() -> tuple[int, int, int]:
    """Rows of the database, bytes of the repository, bytes of the database."""
    from aiida.manage import get_manager
    from sqlalchemy import text

    backend = get_manager().get_profile_storage()
    session = backend.get_session()
    rows = sum(session.execute(text(f"select count(*) from {table}")).scalar() for table in ROWS)
    if session.bind.dialect.name == "sqlite":
        size = session.execute(text("select page_count * page_size from pragma_page_count(), pragma_page_size()"))
    else:
        size = session.execute(text("select pg_database_size(current_database())"))
    database = int(size.scalar())
    session.commit()
    objects = backend.get_repository()._container.count_objects()
    total = backend.get_repository()._container.get_total_size()
    assert objects is not None
    return rows, int(total.total_size_loose + total.total_size_packed), database


def embedded_profile(name: str) -> None:
    """A new profile with SQLite and the broker that AiiDA brings along."""
    from aiida_deeph.quickstart.profile import load_or_create

    load_or_create(name)
    from aiida.manage.configuration import get_config

    # As a fresh profile has it: no cache, which would answer the equal jobs of this measurement.
    get_config().unset_option("caching.enabled_for", scope=name)
    get_config().store()


def recorded_output(folder: Path) -> None:
    """One small PySCF run whose output the stand-in copies."""
    folder.mkdir(parents=True)
    (folder / "structure.xyz").write_text(
        '2\nLattice="5 0 0 0 5 0 0 0 2.2" Properties=species:S:1:pos:R:3 pbc="F F T"\nH 0 0 0\nH 0 0 0.8\n'
    )
    config = {"structure": "structure.xyz", "kmesh": [1, 1, 3], "basis": "gth-szv", "ke_cutoff": 30.0, "threads": 1}
    (folder / "config.json").write_text(json.dumps(config))
    engine = Path(sys.executable).with_name("deeph-engine")
    subprocess.run([engine, "pyscf", "config.json"], cwd=folder, check=True, capture_output=True)


def codes(recorded: Path) -> tuple[Any, Any, Any]:
    """The engine, the stand-in and bash on localhost."""
    from aiida_deeph.quickstart.profile import code, localhost

    localhost()
    stand_in = recorded.parent / "stand_in.sh"
    stand_in.write_text(f"#!/bin/bash\ncp {recorded}/results.json {recorded}/pyscf.h5 .\n")
    stand_in.chmod(0o755)
    engine = Path(sys.executable).with_name("deeph-engine")
    return (
        code("deeph-engine", engine, "deeph.train"),
        code("stand-in", stand_in, "deeph.pyscf"),
        code("bash", Path(shutil.which("bash") or "/bin/bash"), "core.arithmetic.add"),
    )


def count_ended(label: str, after: int) -> int:
    """Processes of a class that have ended, of those younger than a node."""
    from aiida import orm

    filters = {
        "attributes.process_label": label,
        "attributes.process_state": {"in": list(ENDED)},
        "id": {">": after},
    }
    return orm.QueryBuilder().append(orm.ProcessNode, filters=filters).count()


def newest() -> int:
    """PK of the newest node."""
    from aiida import orm

    return orm.QueryBuilder().append(orm.Node, project="id").order_by({orm.Node: {"id": "desc"}}).first(flat=True) or 0


def run_trivial(meter: Meter, bash: Any, number: int, in_flight: int) -> tuple[list[Sample], float]:
    """Bare jobs, a bounded number at a time; samples, and the CPU seconds of their submission in this process."""
    from aiida import engine, orm
    from aiida.plugins import CalculationFactory

    first = newest()
    builder = CalculationFactory("core.arithmetic.add").get_builder()
    builder.code = bash
    builder.metadata.options.resources = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
    submitted, ended, cpu = 0, 0, 0.0
    samples = [meter.sample(0)]
    while ended < number:
        while submitted < number and submitted - ended < in_flight:
            builder.x, builder.y = orm.Int(submitted), orm.Int(1)
            begin = time.process_time()
            engine.submit(builder)
            cpu += time.process_time() - begin
            submitted += 1
        time.sleep(0.2)
        ended = count_ended("ArithmeticAddCalculation", first)
    samples.append(meter.sample(number))
    print(samples[-1], f"submission {cpu:.2f} s", file=sys.stderr, flush=True)
    return samples, cpu


def run_labels(
    meter: Meter, codes: tuple[Any, Any], marks: list[int], in_flight: int, deadline: float
) -> tuple[list[Sample], Any]:
    """One dataset of labels by the stand-in; samples at the marks and at the end, and the node of the workchain."""
    from aiida import engine, orm

    from aiida_deeph.workflows.dataset import DatasetWorkChain

    parent = orm.StructureData(cell=[[5.0, 0, 0], [0, 5.0, 0], [0, 0, 2.2]], pbc=(False, False, True))
    for z in (0.0, 0.8):
        parent.append_atom(symbols="H", position=(0.0, 0.0, z))
    builder = DatasetWorkChain.get_builder_from_protocol(
        {"engine": codes[0], "dft": codes[1]},
        {"parent": parent},
        protocol="fast",
        overrides={"perturbation": {"n": marks[-1], "amplitude": 0.05}, "max_concurrent": in_flight},
    )
    first = newest()
    node = engine.submit(builder)
    samples, left = [meter.sample(0)], list(marks)
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        done = count_ended("PyscfCalculation", first)
        if done >= left[0]:
            samples.append(meter.sample(done))
            print(samples[-1], file=sys.stderr, flush=True)
            left = [mark for mark in left if mark > done]
        if node.is_terminated and left:
            raise SystemExit(f"{node.process_label}<{node.pk}> ended early: [{node.exit_status}] {node.exit_message}")
    while not node.is_terminated and time.monotonic() < deadline:
        time.sleep(0.2)
    samples.append(meter.sample(samples[-1].done))
    return samples, node


def slope(samples: list[Sample], key: str) -> float:
    """Growth per process between the first mark and the last, from a straight line."""
    import numpy as np

    return float(np.polyfit([one.done for one in samples], [getattr(one, key) for one in samples], 1)[0])


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", help="an existing profile; without it, a new one in a scratch folder")
    parser.add_argument("--labels", type=int, nargs="+", default=[50, 100, 150, 200], help="where to sample")
    parser.add_argument("--trivial", type=int, default=100, help="trivial jobs")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3600.0, help="give up what is left after so long")
    parser.add_argument("--json", type=Path, help="where to write all samples")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds

    scratch = Path(tempfile.mkdtemp(prefix="bench-scale-"))
    if arguments.profile is None:
        os.environ["AIIDA_PATH"] = str(scratch)
        embedded_profile("scale")
    else:
        from aiida import load_profile

        load_profile(arguments.profile)
    recorded_output(scratch / "recorded")
    engine, stand_in, bash = codes(scratch / "recorded")
    # However this ends, no daemon is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    meter = Meter()
    from aiida.engine.daemon.client import DaemonException

    try:
        warm_up, _ = run_trivial(meter, bash, 5, arguments.in_flight)
        trivial, submission = run_trivial(meter, bash, arguments.trivial, arguments.in_flight)
        labels, node = run_labels(meter, (engine, stand_in), sorted(arguments.labels), arguments.in_flight, deadline)
    finally:
        try:
            meter.client.stop_daemon(wait=True, timeout=60)
        except DaemonException as error:
            print(f"the daemon did not stop: {error}", file=sys.stderr)
    bare = (trivial[-1].cpu - trivial[0].cpu) / arguments.trivial
    whole = (labels[-1].cpu - labels[0].cpu) / labels[-1].done
    growth = slope(labels[1:-1], "cpu")
    result = {
        "profile": arguments.profile or "embedded (SQLite, ZeroMQ)",
        "dataset": f"{node.process_state.value}, exit status {node.exit_status}",
        "trivial_worker_cpu_s": bare,
        "trivial_submission_cpu_s": submission / arguments.trivial,
        "label_cpu_s": whole,
        "label_cpu_slope_s": growth,
        "ratio": whole / (bare + submission / arguments.trivial),
        "ratio_of_slopes": growth / (bare + submission / arguments.trivial),
        "ratio_without_submission": whole / bare,
        "extrapolated_1000_labels_cpu_s": labels[1].cpu - labels[0].cpu + growth * (1000 - labels[1].done),
        "label_rows": slope(labels[:-1], "rows"),
        "label_repository_bytes": slope(labels[:-1], "repository"),
        "label_database_bytes": slope(labels[:-1], "database"),
        "trivial_rows": slope(trivial, "rows"),
        "trivial_repository_bytes": slope(trivial, "repository"),
        "trivial_database_bytes": slope(trivial, "database"),
        "warm_up": [asdict(one) for one in warm_up],
        "trivial": [asdict(one) for one in trivial],
        "labels": [asdict(one) for one in labels],
    }
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
