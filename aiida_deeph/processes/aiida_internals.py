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
from plumpy import workchains
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


class OutlineMixin(WorkChainHost):
    """For WorkChains: a checkpoint of an earlier version, whose outline was another one, is continued.

    AiiDA finds the step of a checkpoint by its place. Where the outline has changed there, the step of the same name
    counts, or else the first one: steps may be repeated, and find again what was submitted before.
    """

    def load_instance_state(self, saved_state: Any, load_context: LoadSaveContext) -> None:
        """Take up the step that the checkpoint means."""
        saved = saved_state.get(self._STEPPER_STATE)
        outline: Any = self.spec().get_outline()
        changed = saved is not None and not _fits(outline, saved)
        plain = {key: value for key, value in saved_state.items() if not changed or key != self._STEPPER_STATE}
        super().load_instance_state(plain, load_context)  # type: ignore[no-untyped-call]
        if changed:
            self._stepper = _stepper_at(outline, self, _step_of(saved)) or outline.create_stepper(self)


def _parts(instruction: Any) -> list[Any]:
    """What an instruction of an outline consists of, by the place that a checkpoint names; none of a single step."""
    if isinstance(instruction, workchains._Block):
        return list(instruction)
    if isinstance(instruction, workchains._If):
        return [conditional.body for conditional in instruction]
    return [instruction.body] if isinstance(instruction, workchains._While) else []


def _fits(instruction: Any, saved: Mapping[str, Any]) -> bool:
    """Whether a saved stepper belongs to an instruction."""
    parts, name = _parts(instruction), saved.get("_fn")
    if not parts or name is not None:
        return not parts and name == instruction._fn.__name__
    place, inner = saved.get("_pos", 0), saved.get(workchains.STEPPER_STATE)
    if ("_pos" in saved) == isinstance(instruction, workchains._While):
        return False
    return inner is None or (place < len(parts) and _fits(parts[place], inner))


def _step_of(saved: Mapping[str, Any] | None) -> str | None:
    """Name of the step that a saved stepper stands at, if it stands at one."""
    while saved is not None and "_fn" not in saved:
        saved = saved.get(workchains.STEPPER_STATE)
    return None if saved is None else saved["_fn"]


def _stepper_at(instruction: Any, process: WorkChain, name: str | None) -> Any:
    """A stepper that stands at the step of a name; None if there is no such step below an instruction."""
    parts = _parts(instruction)
    if not parts:
        return instruction.create_stepper(process) if instruction._fn.__name__ == name else None
    for place, part in enumerate(parts):
        inner = _stepper_at(part, process, name)
        if inner is not None:
            stepper = instruction.create_stepper(process)
            stepper._child_stepper = inner
            if not isinstance(instruction, workchains._While):
                stepper._pos = place
            return stepper
    return None


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
