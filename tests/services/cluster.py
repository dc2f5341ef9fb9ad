"""All services at once, in one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import accounting, base, postgres, rabbitmq, slurm
from .base import Service, ServiceError, wait_until

PROGRAMS = (*postgres.PROGRAMS, *rabbitmq.PROGRAMS, *accounting.PROGRAMS, *slurm.PROGRAMS)
DESCRIPTION = "services.json"


def missing_programs() -> list[str]:
    """What would have to be installed first."""
    missing = []
    for name in PROGRAMS:
        try:
            base.program(name)
        except FileNotFoundError:
            missing.append(name)
    return missing


@dataclass(frozen=True)
class Cluster:
    """PostgreSQL, RabbitMQ and SLURM that run.

    :param folder: everything they write; other users of this machine must be able to enter it (PostgreSQL's).
    """

    folder: Path
    database: dict[str, Any]
    broker: dict[str, Any]

    @property
    def slurm(self) -> slurm.Slurm:
        return slurm.Slurm(self.folder / "slurm")

    @classmethod
    def start(cls, folder: Path) -> Cluster:
        """Start all services side by side and wait until each answers.

        :raises ServiceError: one does not; the others are stopped again.
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        try:
            with ThreadPoolExecutor(3) as pool:
                database, broker, batch = (
                    pool.submit(function, folder) for function in (_start_postgres, _start_rabbitmq, _start_slurm)
                )
                batch.result()
                cluster = cls(folder, database.result(), broker.result())
        except BaseException:
            stop(folder)
            raise
        (folder / DESCRIPTION).write_text(
            json.dumps({"database": cluster.database, "broker": cluster.broker}, indent=2) + "\n"
        )
        (folder / "environment.sh").write_text(f"export SLURM_CONF={cluster.slurm.configuration}\n")
        return cluster

    @classmethod
    def load(cls, folder: Path) -> Cluster:
        """Services that were started before."""
        return cls(folder, **json.loads((folder / DESCRIPTION).read_text()))

    def stop(self) -> None:
        """Cancel all jobs and end all services."""
        stop(self.folder)


def _start_postgres(folder: Path) -> dict[str, Any]:
    service, address = postgres.service(folder / "pg")
    service.start()
    return address


def _start_rabbitmq(folder: Path) -> dict[str, Any]:
    parts, address = rabbitmq.services(folder / "rmq")
    _start(parts)
    return address


def _start_slurm(folder: Path) -> None:
    authentication, socket = accounting.munge(folder / "munge")
    authentication.launch()
    storage = accounting.MariaDB.create(folder / "mariadb")
    storage.service().start()
    storage.make_database()
    authentication.wait()
    batch = slurm.Slurm(folder / "slurm")
    batch.folder.mkdir()
    accountant, port = accounting.slurmdbd(batch.folder, socket, storage, slurm.binding())
    batch.write(socket, port)
    accountant.start()
    batch.add_cluster()
    accounting.call_it_out_of_memory(storage, slurm.CLUSTER)
    parts = [batch.controller(), batch.node(slurm.NODE), batch.node(slurm.SPARE)]
    parts[0].start()
    for part in parts[1:]:
        part.launch()
    for part in parts[1:]:
        part.wait()


def _start(services: Sequence[Service]) -> None:
    for service in services:
        service.start()


def stop(folder: Path) -> list[str]:
    """Cancel all jobs and end whatever was recorded in a folder, the last started first; its names."""
    batch = slurm.Slurm(folder / "slurm")
    if base.pid_of(batch.folder, "slurmctld") is not None:
        batch.cancel_all()
        try:
            wait_until(lambda: not batch.jobs(), 20, "all jobs end")
        except ServiceError as error:
            print(error)
    ended = []
    order = ("slurmd-node1", "slurmd-node2", "slurmctld", "slurmdbd")
    for part, names in (
        ("slurm", order),
        ("mariadb", ("mariadb",)),
        ("munge", ("munge",)),
        ("rmq", ("rabbitmq", "epmd")),
        ("pg", ("postgres",)),
    ):
        ended += [name for name in names if base.stop(folder / part, name)]
    return ended
