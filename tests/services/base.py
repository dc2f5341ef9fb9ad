"""A program that runs in the background: started, watched until it answers, ended by its recorded process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Debian keeps daemons, and the programs of PostgreSQL, where a user's PATH does not look.
FURTHER_FOLDERS = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/lib/rabbitmq/bin",
    *map(str, Path("/usr/lib/postgresql").glob("*/bin")),
)


class ServiceError(RuntimeError):
    """A service did not come up, or did not end."""


def program(name: str) -> str:
    """Path of a program.

    :raises FileNotFoundError: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *FURTHER_FOLDERS])
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"program {name} is not installed")
    return found


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], seconds: float, what: str, pause: float = 0.1) -> None:
    """Ask until the answer is true.

    :raises ServiceError: it still is not after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


def run(*command: str, check: bool = True, environment: Mapping[str, str] | None = None, **options: object) -> str:
    """Output of a command.

    :raises ServiceError: it failed.
    """
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        **options,
    )
    if check and done.returncode:
        raise ServiceError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def answers(port: int, request: bytes = b"") -> bool:
    """Whether something listens on a port and, if it is sent a request, answers."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            if not request:
                return True
            connection.sendall(request)
            return bool(connection.recv(1))
    except OSError:
        return False


def started_at(pid: int) -> str | None:
    """When a process started, in ticks since boot: with its id it names one process and no later one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


@dataclass
class Service:
    """One background process.

    :param folder: where `NAME.log` and `NAME.pid` are written.
    :param healthy: whether it answers; asked until it does.
    :param user: run it as this user, if root starts it.
    :param stop_signal: what ends it in an orderly way.
    """

    name: str
    folder: Path
    command: Sequence[str]
    healthy: Callable[[], object]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    seconds: float = 60.0

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def launch(self) -> None:
        """Start the process and record its id; it goes on when this program ends."""
        as_user = {"user": self.user, "group": self.user} if self.user else {}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [program(self.command[0]), *self.command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                cwd=self.folder,
                start_new_session=True,
                **as_user,
            )
        _children[process.pid] = process
        record(self.folder, self.name, process.pid, self.stop_signal)

    def wait(self) -> None:
        """Wait until it answers.

        :raises ServiceError: it ended, or does not answer in time; with the end of its log.
        """

        def ready() -> bool:
            if pid_of(self.folder, self.name) is None:
                raise ServiceError(f"{self.name} ended")
            return bool(self.healthy())

        try:
            wait_until(ready, self.seconds, f"{self.name} answers")
        except ServiceError as error:
            raise ServiceError(f"{error}\n{self.log.read_text(errors='replace')[-3000:]}") from None

    def start(self) -> None:
        """Launch and wait."""
        self.launch()
        self.wait()


# Those that this very program started: once ended they stay zombies until they are asked for their status.
_children: dict[int, subprocess.Popen] = {}


def record(folder: Path, name: str, pid: int, stop_signal: int = signal.SIGTERM) -> None:
    """Write down a process that `stop` shall end."""
    (folder / f"{name}.pid").write_text(f"{pid} {started_at(pid)} {int(stop_signal)}\n")


def pid_of(folder: Path, name: str) -> int | None:
    """Process id of a service that was recorded and still runs."""
    try:
        pid, start, _ = (folder / f"{name}.pid").read_text().split()
    except (OSError, ValueError):
        return None
    if int(pid) in _children:
        _children[int(pid)].poll()
    return int(pid) if started_at(int(pid)) == start else None


def stop(folder: Path, name: str, seconds: float = 30.0, by: int | None = None) -> bool:
    """End a recorded process and wait until it is gone; False if it was gone before.

    :param by: signal to send instead of its own.
    :raises ServiceError: not even SIGKILL ends it.
    """
    pid = pid_of(folder, name)
    if pid is None:
        return False
    os.kill(pid, by or int((folder / f"{name}.pid").read_text().split()[2]))
    try:
        wait_until(lambda: pid_of(folder, name) is None, seconds, f"{name} ends")
    except ServiceError:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid_of(folder, name) is None, 10, f"{name} ends by SIGKILL")
    (folder / f"{name}.pid").unlink(missing_ok=True)
    return True
