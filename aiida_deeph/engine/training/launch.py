"""One training on many devices: torchrun, told by the configuration and by the scheduler what to start."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from aiida_deeph.engine.errors import DivergenceError, Interrupted
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.rendezvous import require_allocation
from aiida_deeph.engine.training.report import REPORT_FILE

#: Seconds that torchrun gives its processes to write a checkpoint once they are told to stop (its default is 30).
SECONDS_TO_STOP = 300


def needs_launch(config: TrainConfig, environment: Mapping[str, str]) -> bool:
    """Whether more processes are wanted than this one, and torchrun has not started it already."""
    return config.nodes * config.processes_per_node > 1 and "TORCHELASTIC_RUN_ID" not in environment


def torchrun_arguments(config: TrainConfig, environment: Mapping[str, str]) -> list[str]:
    """Options of torchrun on this node; the same command runs on each node of the job.

    :raises InputError: several nodes are wanted, and no scheduler says which.
    """
    arguments = [f"--nnodes={config.nodes}", f"--nproc-per-node={config.processes_per_node}", "--max-restarts=0"]
    if config.nodes == 1:
        # Two jobs may share a node: torchrun finds a free port for each.
        return [*arguments, "--standalone"]
    allocation = require_allocation(config.nodes, environment)
    return [
        *arguments,
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={allocation.endpoint}",
        f"--rdzv-id={allocation.job_id}",
    ]


def launch(config: TrainConfig, file: Path, *, quiet: bool = False) -> int:
    """Train with `config.nodes` times `config.processes_per_node` processes, and wait for them.

    :param file: the configuration, which each process reads again.
    :return: exit status of `deeph-engine train`; the processes themselves say on stderr why it is not 0.
    :raises InputError: several nodes are wanted, and no scheduler says which.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    arguments = torchrun_arguments(config, os.environ)
    # torch before 2.9 does not know it: processes that are told to stop have 30 seconds then.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SECONDS_TO_STOP))
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads or 1))
    report = Path(REPORT_FILE)
    report.unlink(missing_ok=True)
    try:
        main([*arguments, "-m", "aiida_deeph.engine.cli.main", "train", str(file), *(["--quiet"] if quiet else [])])
    except ChildFailedError as error:
        # A process that was killed has a negative status.
        return _status(report) or max(1, error.get_first_failure()[1].exitcode)
    except SignalException:
        return _status(report) or 1
    return 0


def _status(report: Path) -> int | None:
    """Exit status that the report tells of; None without a report."""
    try:
        status = json.loads(report.read_text(encoding="utf-8"))["status"]
    except (OSError, ValueError, KeyError):
        return None
    return {"diverged": DivergenceError.exit_status, "interrupted": Interrupted.exit_status}.get(status)


SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """While entered, SIGTERM and SIGINT ask for a stop instead of ending the process; a second one does end it.

    Under torchrun no number of them ends it: a scheduler sends SIGTERM to all processes of a job and torchrun passes
    its own on, so that each process gets two while it writes the checkpoint. torchrun kills in the end.

    :param max_seconds: ask for a stop after so long, too; None has no limit.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._signal: int | None = None
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        # Python allows handlers in the main thread only; elsewhere the time limit alone applies.
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._former = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            self._restore()

    @property
    def reason(self) -> str | None:
        """Why to stop (`SIGTERM`, `SIGINT`, `max_seconds`), or None."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "max_seconds"
        return None
