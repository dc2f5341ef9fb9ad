"""One training on many devices: torchrun, told by the configuration and by the scheduler what to start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

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
