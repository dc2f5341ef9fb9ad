"""The one place that leans on what AiiDA keeps to itself; tests/aiida/test_aiida_internals.py says when that changes.

Each piece is here because the public interface cannot do it. The range of versions of aiida-core in pyproject.toml is
the one for which that test holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiida.common import AttributeDict
from aiida.engine import (
    Awaitable,
    AwaitableAction,
    AwaitableTarget,
    BaseRestartWorkChain,
    PortNamespace,
    ProcessBuilder,
    ProcessBuilderNamespace,
    ProcessState,
    WorkChain,
)
from aiida.engine.daemon.client import DaemonClient
from aiida.manage.configuration import get_profile
from plumpy.persistence import LoadSaveContext
from plumpy.processes import ConnectionClosed as ConnectionClosed  # type: ignore[attr-defined]

# What a mixin for workchains is to those who check types: what it is mixed into.
if TYPE_CHECKING:
    WorkChainHost = WorkChain
    RestartHost = BaseRestartWorkChain
else:
    WorkChainHost = RestartHost = object

# Where in the context the children are that a process waits for only until the first of them has ended.
FIRST = "pool_waiting."


class WaitForFirstMixin(WorkChainHost):
    """For WorkChains: wait until the first of several children has ended. AiiDA waits for all of them.

    AiiDA subscribes to a child when the process begins to wait for it, and tells `_on_awaitable_finished` when it has
    ended. A step that runs before all have ended forgets the others without ending their subscriptions: they are
    what wakes the process next time. So each child is subscribed to once in the life of a process.
    """

    def wait_for_first(self, children: Mapping[str, int]) -> None:
        """Let the next step of the outline run as soon as one child has ended; called at the end of a step.

        :param children: name -> pk of those that run.
        """
        watched: set[int] = self.__dict__.setdefault("_watched", set())
        # One at least, or the process would not wait.
        fresh = {name: pk for name, pk in children.items() if pk not in watched} or dict(list(children.items())[-1:])
        watched.update(fresh.values())
        self.__dict__["_ended_meanwhile"] = False
        self.ctx.pool_waiting = AttributeDict()
        self.to_context(**{f"{FIRST}{name}": awaitable(pk) for name, pk in fresh.items()})

    def _on_awaitable_finished(self, awaitable: Awaitable) -> None:
        current = next((one for one in self._awaitables if one.pk == awaitable.pk), None)
        if current is not None:
            super()._on_awaitable_finished(current)
        if self.state != ProcessState.WAITING:
            self.__dict__["_ended_meanwhile"] = True
        self._wake()

    def on_waiting(self) -> None:
        """Waits from now on, unless a child has ended while its step ran."""
        super().on_waiting()
        if self.__dict__.get("_ended_meanwhile"):
            self.call_soon(self._wake)

    def load_instance_state(self, saved_state: Any, load_context: LoadSaveContext) -> None:
        """A process that comes back to life looks at its children once: it has no subscriptions but to the latest."""
        super().load_instance_state(saved_state, load_context)  # type: ignore[no-untyped-call]
        self.call_soon(self._wake)

    def _wake(self) -> None:
        first = any(one.key.startswith(FIRST) for one in self._awaitables)
        if first and self.state == ProcessState.WAITING:
            self.resume()


def awaitable(pk: int) -> Awaitable:
    """What a workchain waits for, without loading the node."""
    fields = {"pk": pk, "action": AwaitableAction.ASSIGN, "target": AwaitableTarget.PROCESS, "outputs": False}
    return Awaitable(**fields)


def input_ports(builder: ProcessBuilderNamespace) -> PortNamespace:
    """Input ports behind a builder, or a part of one."""
    ports: PortNamespace = builder._port_namespace
    return ports


def refusal(builder: ProcessBuilder) -> tuple[str, str] | None:
    """Why inputs would be refused at submission, and the port; None if they are valid."""
    ports = input_ports(builder)
    error = ports.validate(ports.pre_process(builder._inputs(prune=True)))
    return None if error is None else (error.message, error.port)


def flat_inputs(builder: ProcessBuilder) -> dict[str, Any]:
    """All inputs that are set, by their dotted name."""
    found: dict[str, Any] = {}

    def collect(values: Mapping[str, Any], above: str) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                collect(value, f"{above}{key}.")
            else:
                found[f"{above}{key}"] = value

    collect(builder._inputs(prune=True), "")
    return found


def own_daemon(verdi: str) -> DaemonClient:
    """The daemon of the loaded profile, run by a `verdi` of ours; the file that a killed daemon left is removed.

    AiiDA takes the first `verdi` on PATH, which is another one, or none, where the environment is not activated.

    :param verdi: path of the program.
    """

    class OwnDaemonClient(DaemonClient):
        @property
        def _verdi_bin(self) -> str:
            return verdi

    profile = get_profile()
    assert profile is not None
    client = OwnDaemonClient(profile)
    client._clean_potentially_stale_pid_file()
    return client
