"""A profile as it is used in production: PostgreSQL, RabbitMQ, a daemon with workers, a computer with SLURM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import submit
from aiida.engine.daemon.client import DaemonClient, get_daemon_client
from aiida.manage import get_manager
from aiida.manage.configuration import create_profile, get_config, profile_context, reset_config
from aiida.manage.configuration.config import Config
from aiida.manage.configuration.settings import AiiDAConfigDir
from aiida.plugins import BrokerFactory

from aiida_deeph.processes.resumable import ABANDONED

from .base import started_at, wait_until
from .cluster import Cluster
from .postgres import create_database

WORKERS = 2
# AiiDA asks as often as the tests want to know.
OPTIONS = {
    "daemon.timeout": 30,
    "runner.poll.interval": 5,
    "transport.task_retry_initial_interval": 1,
    "transport.task_maximum_attempts": 3,
    "warnings.rabbitmq_version": False,
}


@dataclass
class Production:
    """The loaded profile and what belongs to it."""

    profile: str
    cluster: Cluster | None
    daemon: DaemonClient
    computer: orm.Computer

    # the daemon

    def start_daemon(self) -> None:
        """Start the daemon as `verdi daemon start` does."""
        self.daemon.start_daemon(number_workers=WORKERS)
        wait_until(lambda: len(self.worker_pids()) == WORKERS, 60, "all workers run")

    def worker_pids(self) -> list[int]:
        """Process ids of the daemon's workers."""
        answer = self.daemon.get_worker_info()
        return [int(pid) for pid in answer.get("info", {})]

    def kill_workers(self) -> None:
        """kill -9 of all workers; the daemon starts others."""
        kill(self.worker_pids())

    def kill_daemon(self) -> None:
        """kill -9 of the whole daemon, its workers included, as when the machine goes down."""
        pid = self.daemon.get_daemon_pid()
        assert pid is not None
        kill([pid, *children(pid)])

    def setup_codes(self) -> None:
        """Register deeph-engine as the README says, and prove it."""
        self.verdi("setup", "codes", "--computer", self.computer.label, program="aiida-deeph")

    # processes

    def submit(self, builder: Any, **options: Any) -> orm.ProcessNode:
        """Hand a process to the daemon."""
        return submit(builder, **options)

    def wait(self, node: orm.ProcessNode, seconds: float = 120) -> orm.ProcessNode:
        """Wait until a process has ended."""
        try:
            wait_until(lambda: node.is_terminated, seconds, f"{node.process_label}<{node.pk}> ends", pause=0.3)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.tree(node)}\n{self.log()}") from None
        return node

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until something is so."""
        wait_until(condition, seconds, what, pause=0.1)

    def tree(self, node: orm.ProcessNode) -> str:
        """A process and its children, with their states and reports."""
        from aiida.cmdline.utils.ascii_vis import format_call_graph
        from aiida.cmdline.utils.common import get_workchain_report

        report = get_workchain_report(node, "REPORT") if isinstance(node, orm.WorkChainNode) else ""
        return f"{format_call_graph(node)}\n{report}"

    def log(self) -> str:
        """The end of the daemon's log."""
        path = Path(self.daemon.daemon_log_file)
        return path.read_text(errors="replace")[-4000:] if path.is_file() else ""

    def jobs(self, node: orm.ProcessNode, label: str | None = None) -> list[orm.CalcJobNode]:
        """CalcJobs below a process that began, in the order of their submission."""
        found = [child for child in node.called_descendants if isinstance(child, orm.CalcJobNode)]
        found = [job for job in found if ABANDONED not in job.base.extras]
        return sorted((job for job in found if label in (None, job.process_label)), key=lambda job: job.pk)

    def abandoned(self, node: orm.ProcessNode) -> list[orm.ProcessNode]:
        """Processes below a process that never began, since a kill cut their submission off."""
        return [child for child in node.called_descendants if ABANDONED in child.base.extras]

    def running(self, node: orm.ProcessNode, label: str, seconds: float = 200) -> orm.CalcJobNode:
        """Wait for a CalcJob below a process whose SLURM job runs."""
        found: list[orm.CalcJobNode] = []

        def look() -> bool:
            jobs = [node] if isinstance(node, orm.CalcJobNode) else self.jobs(node, label)
            found[:] = [job for job in jobs if self.slurm_state(job) == "RUNNING" and not job.is_terminated]
            return bool(found)

        try:
            self.until(look, seconds, f"a job of {label} runs")
        except Exception as error:
            raise AssertionError(f"{error}\n{self.tree(node)}\n{self.log()}") from None
        return found[-1]

    def epochs(self, job: orm.CalcJobNode) -> int:
        """Epochs that a training has written down, running or not."""
        file = self.file(job, "metrics.jsonl")
        return len(file.read_text().splitlines()) if file.is_file() else 0

    def training_at(self, node: orm.ProcessNode, number: int, epoch: int) -> orm.CalcJobNode:
        """The n-th job of a training, once it has come so far."""
        jobs: list[orm.CalcJobNode] = []

        def look() -> bool:
            jobs[:] = self.jobs(node, "TrainCalculation")
            return len(jobs) >= number and bool(jobs[-1].get_remote_workdir()) and self.epochs(jobs[-1]) >= epoch

        self.until(look, 200, f"run {number} reaches epoch {epoch}")
        return jobs[-1]

    def slurm_state(self, job: orm.CalcJobNode) -> str:
        """State of a CalcJob's SLURM job, as the controller tells it."""
        number = job.get_job_id()
        if number is None:
            return ""
        return self.cluster.slurm.command("squeue", "-h", "-t", "all", "-j", number, "-o", "%T", check=False).strip()

    def file(self, job: orm.CalcJobNode, name: str) -> Path:
        """A file in a job's working directory."""
        return Path(job.get_remote_workdir()) / name

    def verdi(self, *arguments: str, program: str = "verdi", seconds: float = 120) -> str:
        """Run a command as a user would."""
        environment = {**os.environ, "AIIDA_PATH": str(get_config().dirpath), "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [str(Path(sys.executable).with_name(program)), "-p", self.profile, *arguments],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=seconds,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@contextmanager
def configuration(folder: Path) -> Iterator[Config]:
    """An AiiDA configuration of its own; the former one is loaded again afterwards."""
    former, path = Path(get_config(create=True).dirpath), os.environ.get("AIIDA_PATH")
    # AiiDA warns of a folder that it has to make.
    (folder / ".aiida").mkdir(parents=True)

    def use(directory: Path) -> Config:
        reset_config()
        AiiDAConfigDir.set(directory)
        return get_config(create=True)

    os.environ["AIIDA_PATH"] = str(folder)
    try:
        yield use(folder / ".aiida")
    finally:
        os.environ.pop("AIIDA_PATH")
        if path is not None:
            os.environ["AIIDA_PATH"] = path
        use(former)


@contextmanager
def production_profile(cluster: Cluster, name: str = "production") -> Iterator[Production]:
    """A new profile on running services, loaded, its daemon started."""
    create_database(cluster.database, name)
    storage = {
        **{f"database_{key}": value for key, value in cluster.database.items()},
        "database_name": name,
        "repository_uri": f"file://{cluster.folder / 'repository'}",
    }
    broker = {f"broker_{key}": value for key, value in cluster.broker.items()}
    services = {
        "storage_backend": "core.psql_dos",
        "storage_config": storage,
        "broker_backend": "core.rabbitmq",
        "broker_config": broker,
    }
    # Before the daemon starts: its workers ask SLURM.
    with variables(cluster.slurm.environment), running_profile(cluster.folder, name, services, cluster) as made:
        yield made


@contextmanager
def presto_profile(folder: Path, name: str = "presto") -> Iterator[Production]:
    """A new profile as `verdi presto` makes it, loaded, its daemon started: SQLite, ZeroMQ, jobs that run at once."""
    services = {
        "storage_backend": "core.sqlite_dos",
        "storage_config": {"filepath": str(folder / "storage")},
        "broker_backend": "core.zeromq",
        "broker_config": BrokerFactory("core.zeromq").get_default_config(),
    }
    with running_profile(folder, name, services) as made:
        yield made


@contextmanager
def running_profile(
    folder: Path, name: str, services: dict[str, Any], cluster: Cluster | None = None
) -> Iterator[Production]:
    """A new profile in a configuration of its own, loaded, its daemon started; without a cluster jobs run at once."""
    with configuration(folder / "aiida") as config:
        # The queues of a test profile vanish, tasks and all, when its last worker is killed.
        create_profile(config, name=name, email="test@localhost", is_test_profile=False, **services)
        for option, value in OPTIONS.items():
            config.set_option(option, value, scope=name)
        config.set_default_profile(name)
        config.store()
        with profile_context(name, allow_switch=True):
            daemon = get_daemon_client(name)
            scheduler = "core.direct" if cluster is None else "core.slurm"
            made = Production(name, cluster, daemon, make_computer(folder / "work", scheduler))
            made.start_daemon()
            try:
                yield made
            finally:
                if daemon.is_daemon_running:
                    daemon.stop_daemon(wait=True)
                get_manager().reset_broker()


@contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    former = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in former.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def kill(pids: list[int]) -> None:
    """SIGKILL, and wait until they are gone; some may have gone before."""
    known = {pid: start for pid in pids if (start := started_at(pid)) is not None}
    for pid in known:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(started_at(pid) != start for pid, start in known.items()), 60, "killed processes are gone")


def make_computer(workdir: Path, scheduler: str) -> orm.Computer:
    """This machine, through a scheduler."""
    computer = orm.Computer(
        label="cluster",
        hostname="localhost",
        transport_type="core.local",
        scheduler_type=scheduler,
        workdir=str(workdir),
    ).store()
    computer.set_minimum_job_poll_interval(1.0)
    computer.set_default_mpiprocs_per_machine(1)
    computer.configure(safe_interval=0, use_login_shell=False)
    return computer
