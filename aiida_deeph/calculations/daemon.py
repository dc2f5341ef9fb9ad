"""What a daemon worker needs for its processes, whichever it loads first."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

from aiida.brokers.zeromq.service import ZeromqBrokerService
from aiida.engine import Process
from aiida.manage.configuration import get_config, get_profile

from aiida_deeph.calculations import broker_witness


def attend(process: Process) -> None:
    """Called by each process that comes to life: in a daemon worker, give the worker its witness."""
    profile = get_profile()
    if process.runner.is_daemon_runner and profile is not None and profile.process_control_backend == "core.zeromq":
        _call_witness(get_config().filepaths(profile)["broker_service"]["dir"])


@lru_cache(maxsize=1)
def _call_witness(broker: str) -> subprocess.Popen[bytes]:
    """Start the witness of this process, once; the open pipe tells it that the worker is alive."""
    sockets_file = ZeromqBrokerService.FilepathLayout(broker).sockets_file
    return subprocess.Popen(
        [sys.executable, "-I", "-S", broker_witness.__file__, str(sockets_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
