"""What `processes/aiida_internals.py` leans on is as it was when it was written; a new aiida-core shows here first."""

from __future__ import annotations

import hashlib
import inspect
import re
import tomllib
from pathlib import Path

import aiida
import pytest
from aiida.engine import Process, WorkChain
from aiida.engine.daemon.client import DaemonClient
from aiida.engine.persistence import AiiDAPersister
from aiida.engine.processes.builder import ProcessBuilder, ProcessBuilderNamespace
from aiida.engine.processes.calcjobs.tasks import task_upload_job
from aiida.engine.processes.launcher import ProcessLauncher
from aiida.engine.runners import Runner
from aiida.orm import Node, ProcessNode
from plumpy.process_states import Waiting

from aiida_deeph.processes import aiida_internals

ROOT = Path(__file__).parents[2]

# First digits of the sha256 of each source, and what is taken from it.
SOURCES = {
    # Waiting for the first child: what subscribes, resolves and resumes; a step forgets what it waited for.
    WorkChain._on_awaitable_finished: "886b5470106e",
    WorkChain._action_awaitables: "3b27f0f20ba4",
    WorkChain._resolve_awaitable: "0590e77b5514",
    WorkChain._do_step: "45bbb83d8130",
    WorkChain.load_instance_state: "6f154dc72c42",
    WorkChain.on_wait: "9a60fa05c7c9",
    WorkChain._update_process_status: "d206838efd41",
    Waiting.resume: "f0d928bd1cff",
    # Submission in the order node, state, checkpoint, task, and that a task of an ended process is dropped;
    # that a job is marked as uploaded before its folder is stored.
    Runner.submit: "62a157b71f47",
    Process.on_create: "89645b6f1f16",
    Process.on_entered: "794f1a1c3276",
    Process._create_and_setup_db_record: "ed48dacb9620",
    AiiDAPersister.save_checkpoint: "e99c198213e8",
    ProcessLauncher._continue: "6d3c36881d5d",
    task_upload_job: "f34935a08beb",
    Node._store_from_cache: "6428be4d4e7c",
    ProcessNode.seal: "491a4e789fa7",
    # Builders, and the daemon's `verdi`.
    ProcessBuilder._inputs: "c43a41a78e5e",
    ProcessBuilderNamespace.__init__: "6045ffa168f4",
    DaemonClient._verdi_bin.fget: "c031eaf76bf4",
    DaemonClient._clean_potentially_stale_pid_file: "d573ff821aa2",
}


@pytest.mark.parametrize("function", SOURCES, ids=lambda function: function.__qualname__)
def test_source_that_is_leant_on_is_unchanged(function):
    found = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]
    assert found == SOURCES[function], (
        f"{function.__qualname__} of aiida-core {aiida.__version__} is another one: read it, mend aiida_internals.py "
        f"and resumable.py if need be, and write {found} here"
    )


def test_versions_that_are_allowed_are_those_that_were_read():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (allowed,) = (name for name in project["optional-dependencies"]["aiida"] if name.startswith("aiida-core"))
    assert allowed == "aiida-core>=2.9,<2.10"
    assert re.match(r"2\.9\.", aiida.__version__)


def test_nothing_private_of_aiida_is_used_elsewhere():
    private = re.compile(
        r"\b(?:_awaitables|_action_awaitables|_on_awaitable_finished|_resolve_awaitable|_update_process_status"
        r"|_port_namespace|_process_spec|_inputs\(|_verdi_bin|_clean_potentially_stale_pid_file|_process_scope)"
    )
    users = {
        path.name
        for path in (ROOT / "aiida_deeph").rglob("*.py")
        if "engine" not in path.parts and any(private.search(line) for line in path.read_text().splitlines())
    }
    assert users == {Path(aiida_internals.__file__).name}
