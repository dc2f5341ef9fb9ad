"""What SLURM needs to account for jobs: munge, MariaDB and slurmdbd. Without it `sacct` knows nothing, and AiiDA cannot
tell a job that ran out of memory or time from one that failed."""

from __future__ import annotations

import os
import pwd
import secrets
from dataclasses import dataclass
from pathlib import Path

from .base import LOOPBACK, Service, answers, free_port, run

PROGRAMS = ("munged", "munge", "mariadbd", "mariadb-install-db", "mariadb", "slurmdbd")
DATABASE, USER = "slurm_acct_db", "slurm"


def this_user() -> str:
    """Name of the user who runs this."""
    return pwd.getpwuid(os.getuid()).pw_name


def munge(folder: Path) -> tuple[Service, Path]:
    """The authentication of SLURM's daemons, with a key of its own; its socket."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    key, socket = folder / "munge.key", folder / "munge.sock"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    arguments = {"key-file": key, "socket": socket, "pid-file": folder / "munged.pid", "seed-file": folder / "seed"}
    service = Service(
        "munge",
        folder,
        ["munged", "--foreground", "--force", *(f"--{name}={value}" for name, value in arguments.items())],
        healthy=lambda: socket.is_socket() and "MUNGE:" in run("munge", "-S", str(socket), "-n", check=False),
    )
    return service, socket


@dataclass(frozen=True)
class MariaDB:
    """A database server with one empty database."""

    folder: Path
    port: int
    password: str

    @property
    def socket(self) -> Path:
        return self.folder / "m.sock"

    @classmethod
    def create(cls, folder: Path) -> MariaDB:
        """Make the files of a new server."""
        folder.mkdir(parents=True)
        data = folder / "data"
        run(
            *("mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={this_user()}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
        )
        return cls(folder, free_port(), secrets.token_hex(8))

    def service(self) -> Service:
        """The server."""
        settings = {
            "datadir": self.folder / "data",
            "socket": self.socket,
            "pid-file": self.folder / "server.pid",
            "port": self.port,
            "bind-address": LOOPBACK,
            "user": this_user(),
            "innodb-buffer-pool-size": "64M",
            "innodb-lock-wait-timeout": 900,
            "innodb-flush-log-at-trx-commit": 0,
        }
        command = ["mariadbd", "--no-defaults", *(f"--{name}={value}" for name, value in settings.items())]
        return Service(
            "mariadb", self.folder, command, healthy=lambda: self.execute("select 1", check=False).strip() == "1"
        )

    def execute(self, statement: str, check: bool = True) -> str:
        """Run a statement as the server's root."""
        return run("mariadb", "--no-defaults", "-S", str(self.socket), "-u", "root", "-N", "-e", statement, check=check)

    def make_database(self) -> None:
        """The database of slurmdbd, and its user."""
        who = f"'{USER}'@'{LOOPBACK}'"
        self.execute(
            f"create database {DATABASE}; create user {who} identified by '{self.password}';"
            f"grant all on {DATABASE}.* to {who};"
        )


# A node with cgroups tells that a job ran out of memory. One without kills the job just as well, but tells only that
# signal 9 ended it (FAILED 0:9); here the database puts in what the cgroups would have told.
FAILED, OUT_OF_MEMORY = 5, 11
TRIGGER = """\
create trigger {database}.memory before update on {database}.{cluster}_job_table for each row
set new.state = if(new.state = {failed} and new.exit_code = 9, {out_of_memory}, new.state)
"""


def call_it_out_of_memory(storage: MariaDB, cluster: str) -> None:
    """Make the accounting say OUT_OF_MEMORY of jobs that SLURM killed for their memory."""
    storage.execute(TRIGGER.format(database=DATABASE, cluster=cluster, failed=FAILED, out_of_memory=OUT_OF_MEMORY))


SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={socket}
DbdHost=localhost
DbdAddr={loopback}
DbdPort={port}
CommunicationParameters={binding}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.server.pid
StorageType=accounting_storage/mysql
StorageHost={loopback}
StoragePort={storage.port}
StorageUser={storage_user}
StoragePass={storage.password}
StorageLoc={database}
"""


def slurmdbd(folder: Path, munge_socket: Path, storage: MariaDB, binding: str) -> tuple[Service, int]:
    """The accounting daemon; its port. It looks for its configuration beside that of SLURM."""
    port = free_port()
    configuration = folder / "slurmdbd.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        SLURMDBD.format(
            socket=munge_socket,
            loopback=LOOPBACK,
            binding=binding,
            port=port,
            user=this_user(),
            folder=folder,
            storage=storage,
            storage_user=USER,
            database=DATABASE,
        )
    )
    service = Service(
        "slurmdbd",
        folder,
        ["slurmdbd", "-D"],
        healthy=lambda: answers(port),
        environment={"SLURM_CONF": str(folder / "slurm.conf")},
    )
    return service, port
