"""A worker that is killed: its tasks are handed out again, also where the broker looks for the dead too early."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from aiida.brokers.zeromq.communicator import ZeromqCommunicator
from aiida.brokers.zeromq.server import ZeromqBrokerServer

from aiida_deeph.calculations import broker_witness, daemon

pytestmark = pytest.mark.slow

# Takes a task and never ends it; its witness is called as in a daemon.
WORKER = """
import sys, time
from concurrent.futures import Future
from aiida.brokers.zeromq.communicator import ZeromqCommunicator
from aiida_deeph.calculations.daemon import _call_witness

def take(_, task):
    print("taken", flush=True)
    return Future()

communicator = ZeromqCommunicator(sys.argv[1])
communicator.start()
_call_witness(sys.argv[2])
communicator.add_task_subscriber(take)
time.sleep(600)
"""


class Late(ZeromqBrokerServer):
    """A broker that, once, looks for dead workers before their connections are gone: it finds none."""

    probes = 0

    def _probe_workers(self) -> None:
        self.probes += 1
        if self.probes > 1:
            super()._probe_workers()


@pytest.fixture
def broker(tmp_path):
    server = Late(tmp_path / "storage", tmp_path / "sockets")
    (tmp_path / "broker.sockets").write_text(str(tmp_path / "sockets"))
    server.start()
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            server.run_once(0.1)
        server.stop()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server
    ended.set()
    thread.join()


def test_tasks_of_a_killed_worker_are_handed_out_again(broker, tmp_path):
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, broker.router_endpoint, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    other = ZeromqCommunicator(broker.router_endpoint)
    other.start()
    try:
        other.task_send("work").result(timeout=10)
        assert worker.stdout.readline() == "taken\n"
        taken = threading.Event()
        other.add_task_subscriber(lambda _, task: taken.set())
        worker.kill()
        worker.wait()
        assert taken.wait(sum(broker_witness.PAUSES) + 10)
        assert broker.probes > 1
    finally:
        other.close()
        worker.kill()
        worker.stdout.close()


def test_witness_ends_where_the_broker_has_ended(tmp_path):
    witness = daemon._call_witness.__wrapped__(str(tmp_path))
    assert witness.stdin is not None
    witness.stdin.close()
    assert witness.wait(broker_witness.PAUSES[0] + 10) == 0
