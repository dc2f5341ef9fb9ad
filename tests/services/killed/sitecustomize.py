"""Found by every Python of a daemon that is to be killed: a worker ends by SIGKILL in the middle of a submission.

A ticket is a file `NUMBER.WINDOW.PROCESS` in the folder DEEPH_KILL_TICKETS: the worker that submits a child of this
class takes the ticket and dies. Windows: `stored` (the child is in the database, nothing else is), `checkpoint` (it has
its first checkpoint, no task), `sent` (the daemon knows of it, its parent has not been told). Besides, `uploaded`: the
worker that has uploaded a job of this class dies before it stores where.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import os
import signal
import sys
from typing import Any


def take(window: str, process: Any) -> None:
    """Die if there is a ticket for it."""
    if process.get_parent_calc() is not None:
        die(window, type(process).__name__)


def die(window: str, label: str) -> None:
    """Die if there is a ticket for it."""
    folder = os.environ["DEEPH_KILL_TICKETS"]
    for name in sorted(os.listdir(folder)):
        if name.endswith(f".{window}.{label}"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(os.path.join(folder, name), os.path.join(folder, f"{name}.used"))
                os.kill(os.getpid(), signal.SIGKILL)


def patch(process: Any, runners: Any, calcjob: Any) -> None:
    """Open the windows."""
    create, submit = process.Process._create_and_setup_db_record, runners.Runner.submit

    def stored(self: Any) -> Any:
        pid = create(self)
        take("stored", self)
        return pid

    def submitted(self: Any, what: Any, inputs: Any = None, **kwargs: Any) -> Any:
        made: list[Any] = []
        instantiate, send = self.instantiate_process, self.controller.continue_process

        def remember(*args: Any, **inputs: Any) -> Any:
            made.append(instantiate(*args, **inputs))
            return made[0]

        def tell(*args: Any, **options: Any) -> Any:
            take("checkpoint", made[0])
            answer = send(*args, **options)
            take("sent", made[0])
            return answer

        self.instantiate_process, self.controller.continue_process = remember, tell
        try:
            return submit(self, what, inputs, **kwargs)
        finally:
            del self.instantiate_process, self.controller.continue_process

    set_state = calcjob.CalcJobNode.set_state

    def uploaded(self: Any, state: Any) -> None:
        set_state(self, state)
        if state.value == "unstashing":
            die("uploaded", self.process_label)

    calcjob.CalcJobNode.set_state = uploaded
    process.Process._create_and_setup_db_record, runners.Runner.submit = stored, submitted


class Finder(importlib.abc.MetaPathFinder):
    """Patches AiiDA as soon as it has its runners."""

    NAME = "aiida.engine.runners"

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def executed(module: Any) -> None:
            execute(module)
            patch(sys.modules["aiida.engine.processes.process"], module, sys.modules["aiida.orm"])

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


if "DEEPH_KILL_TICKETS" in os.environ:
    sys.meta_path.insert(0, Finder())
