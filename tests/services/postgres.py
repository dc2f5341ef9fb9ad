"""PostgreSQL in a folder of its own."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path

from .base import LOOPBACK, Service, free_port, run

PROGRAMS = ("postgres", "initdb", "psql")
USER, PASSWORD = "aiida", "aiida"


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root: the user that its package made, if root starts it."""
    return "postgres" if os.getuid() == 0 else None


def service(folder: Path) -> tuple[Service, dict[str, object]]:
    """A new, empty server with one role that may create databases; its address."""
    user = unprivileged_user()
    data = folder / "data"
    folder.mkdir(parents=True)
    if user:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    as_user = {"user": user, "group": user} if user else {}
    run(
        *("initdb", "-D", str(data), "-A", "trust", "-U", USER, "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
        cwd=folder,
        **as_user,
    )
    port = free_port()
    settings = {
        "port": str(port),
        "listen_addresses": LOOPBACK,
        "unix_socket_directories": "",
        # What a crash of this machine would lose is of no use afterwards.
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": "200",
        "shared_buffers": "64MB",
    }
    server = Service(
        "postgres",
        folder,
        ["postgres", "-D", str(data), *(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))],
        healthy=lambda: "accepting" in run("pg_isready", "-h", LOOPBACK, "-p", str(port), check=False),
        user=user,
        # SIGTERM would wait until the last client has gone.
        stop_signal=signal.SIGINT,
    )
    return server, {"hostname": LOOPBACK, "port": port, "username": USER, "password": PASSWORD}


def create_database(address: dict[str, object], name: str) -> None:
    """A database for a profile."""
    run(
        *("psql", "-h", str(address["hostname"]), "-p", str(address["port"]), "-U", str(address["username"])),
        *("-d", "postgres", "-q", "-c", f'create database "{name}"'),
    )
