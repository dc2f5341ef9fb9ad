"""The quickstart's own AiiDA profile: SQLite, the built-in ZeroMQ broker, localhost, and nothing else."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.errors import DeepHError, InputError

if TYPE_CHECKING:
    from aiida.orm import Computer, InstalledCode

ENGINE_LABEL = "deeph-engine"
# Patterns with a wildcard need not be installed: plugins of others are extras.
PLUGINS = [record.plugin for record in records().values() if record.plugin is not None]
OF_OTHERS = [f"aiida.calculations:{plugin}*" for plugin in PLUGINS if not plugin.startswith("deeph.")]
CACHED = ("aiida.calculations:deeph.*", *OF_OTHERS)


def program_beside_python(name: str) -> Path:
    """Path of a program installed in the same environment as the running Python.

    :raises InputError: it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise InputError(
            "program not found beside Python",
            where=path.parent,
            found="nothing",
            expected=name,
            remedy="install aiida-deeph with pip",
        )
    return path


def load_or_create(name: str) -> bool:
    """Load the profile `name`, making it first if it does not exist; the default profile stays what it is.

    :returns: whether the profile is new.
    :raises InputError: a profile of this name exists but has no broker, so that no daemon can run.
    """
    with warnings.catch_warnings():
        # "Creating AiiDA configuration folder" is what a first run is meant to do; AiiDA says so at its import.
        warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")
        from aiida.manage.configuration import create_profile, get_config, load_profile
        from aiida.plugins import BrokerFactory

        config = get_config(create=True)
    new = name not in config.profile_names
    if new:
        default = config.default_profile_name
        profile = create_profile(
            config,
            name=name,
            email="aiida@localhost",
            storage_backend="core.sqlite_dos",
            storage_config={},
            broker_backend="core.zeromq",
            broker_config=BrokerFactory("core.zeromq").get_default_config(),
        )
        config.set_option("runner.poll.interval", 1, scope=name)
        config.set_option("caching.enabled_for", list(CACHED), scope=name)
        if default is not None:
            config.set_default_profile(default, overwrite=True)
        config.store()
    else:
        profile = config.get_profile(name)
        if profile.process_control_backend is None:
            raise InputError(
                "profile has no message broker",
                where=f"profile {name}",
                expected="one that can run a daemon",
                remedy="choose another name with --profile",
            )
    load_profile(name, allow_switch=True)
    return new


def localhost() -> Computer:
    """The computer `localhost`, made at the first call: direct scheduler, no waiting between connections."""
    from aiida.common.exceptions import NotExistent
    from aiida.manage.configuration import get_config, get_profile
    from aiida.orm import Computer

    try:
        return Computer.collection.get(label="localhost")
    except NotExistent:
        computer = Computer(
            label="localhost",
            hostname="localhost",
            description="this machine",
            transport_type="core.local",
            scheduler_type="core.direct",
            workdir=str(Path(get_config().dirpath) / "scratch" / get_profile().name),
        ).store()
        computer.configure(safe_interval=0)
        computer.set_minimum_job_poll_interval(1)
        computer.set_default_mpiprocs_per_machine(1)
        return computer


def code(label: str, path: Path, plugin: str, prepend: str = "") -> InstalledCode:
    """The code `label` on localhost; a code of this label at another path gets a number at the end of its label.

    :param prepend: shell lines before the program starts.
    """
    from aiida.orm import InstalledCode, QueryBuilder

    computer = localhost()
    query = QueryBuilder().append(InstalledCode, filters={"label": {"like": f"{label}%"}})
    existing = query.all(flat=True)
    for node in existing:
        if (
            str(node.filepath_executable) == str(path)
            and node.default_calc_job_plugin == plugin
            and node.prepend_text == prepend
            and node.computer.pk == computer.pk
        ):
            return node
    return InstalledCode(
        label=label if not existing else f"{label}-{len(existing) + 1}",
        computer=computer,
        filepath_executable=str(path),
        default_calc_job_plugin=plugin,
        prepend_text=prepend,
        with_mpi=False,
    ).store()


@contextlib.contextmanager
def daemon(workers: int) -> Iterator[None]:
    """A daemon for the loaded profile, stopped at the end if it was started here.

    Processes that are then unfinished stay so and go on when a daemon of this profile runs again.

    :raises DeepHError: the daemon does not start.
    """
    from aiida.engine.daemon.client import DaemonException

    from aiida_deeph.processes.aiida_internals import own_daemon

    client = own_daemon(str(program_beside_python("verdi")))
    started = not client.is_daemon_running
    if started:
        try:
            client.start_daemon(number_workers=workers, timeout=60)
        except DaemonException as error:
            raise DeepHError(
                "AiiDA's daemon does not start",
                where=f"profile {client.profile.name}",
                found=error,
                remedy=f"see the log {client.daemon_log_file}",
            ) from None
    try:
        yield
    finally:
        if started:
            with contextlib.suppress(DaemonException):
                client.stop_daemon(wait=True, timeout=60)
