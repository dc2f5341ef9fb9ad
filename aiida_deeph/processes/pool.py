"""A bounded number of children at a time, refilled as each one ends."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine.processes.workchains.awaitable import Awaitable, AwaitableAction, AwaitableTarget
from aiida.manage import get_config_option
from plumpy import ProcessState

from aiida_deeph.processes.resumable import ResumableMixin

ENDED = ("finished", "excepted", "killed")


class PoolMixin(ResumableMixin):
    """For WorkChains that run many children of one kind: the outline holds

        while_(cls.pool_open)(cls.fill_pool)

    and the class says which children there are (`pool_members`), how one is submitted (`submit_member`) and what is
    done with one that ended (`member_ended`). A WorkChain normally sleeps until all children that it waits for have
    ended; here it wakes at the first, so that no batch waits for its slowest member.

    In the context: `pool_next` (how many were submitted) and `pool_running` (name -> pk), nothing of those that ended:
    it is written to the database at every step, which a thousand names would make slow.
    """

    def pool_members(self) -> list[str]:
        """Names of all children, in the order of their submission; the same as long as the pool is open."""
        raise NotImplementedError

    def pool_size(self) -> int:
        """Largest number of children at a time."""
        raise NotImplementedError

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit the child of this name, through `submit_once`."""
        raise NotImplementedError

    def member_ended(self, name: str, node: orm.ProcessNode) -> orm.ProcessNode | None:
        """Look at a child that ended; called once for each per run of the step.

        :returns: the child that takes its place, submitted so that a repeated step finds it again; usually none.
        """

    def pool_stopped(self) -> bool:
        """Whether no further child shall be submitted; those that run are still waited for."""
        return False

    def start_pool(self) -> None:
        """Empty the pool; a step of the outline before the loop."""
        self.ctx.pool_running = {}
        self.ctx.pool_next = 0

    def pool_open(self) -> bool:
        """Whether children run or are still to be submitted."""
        left = self.ctx.pool_next < len(self.pool_members())
        return bool(self.ctx.pool_running) or (left and not self.pool_stopped())

    def fill_pool(self) -> None:
        """Take out the children that ended, submit as many as there is room for, and wait for the next to end."""
        ctx = self.ctx
        running = dict(ctx.pool_running)
        ended = terminated(running.values())
        for name, pk in list(running.items()):
            if pk in ended:
                sequel = self.member_ended(name, orm.load_node(pk))
                if sequel is None:
                    del running[name]
                else:
                    running[name] = sequel.pk
        members = self.pool_members()
        while len(running) < self.pool_size() and ctx.pool_next < len(members) and not self.pool_stopped():
            name = members[ctx.pool_next]
            running[name] = self.submit_member(name).pk
            ctx.pool_next += 1
        ctx.pool_running = running
        ctx.pool_waiting = AttributeDict()
        self.to_context(**{f"pool_waiting.{name}": awaitable(pk) for name, pk in running.items()})

    def pool_status(self) -> str:
        """One line for the status column of `verdi process list`."""
        n_running = len(self.ctx.pool_running)
        return f"{self.ctx.pool_next - n_running} of {len(self.pool_members())} done, {n_running} running"

    def _update_process_status(self) -> None:
        if not (self._awaitables and "pool_running" in self.ctx and self.ctx.pool_running):
            self.__dict__.pop("_pool_said", None)
            super()._update_process_status()
            return
        # AiiDA asks for it at every child that is waited for; the database need not hear the same sentence again.
        status = self.pool_status()
        if self.__dict__.get("_pool_said") != status:
            self.__dict__["_pool_said"] = status
            self.set_status(status)

    # One subscription per child and life of this process: a child that is waited for again after a refill is not
    # subscribed to again, but looked at, in case that it ended between the step and this wait.
    def _action_awaitables(self) -> None:
        watched: set[int] = self.__dict__.setdefault("_watched", set())
        ended = terminated({one.pk for one in self._awaitables} & watched)
        for one in list(self._awaitables):
            if one.pk not in watched:
                watched.add(one.pk)
                callback = functools.partial(self.call_soon, self._on_awaitable_finished, one)
                self.runner.call_on_process_finish(one.pk, callback)
            elif one.pk in ended:
                self.call_soon(self._on_awaitable_finished, one)
        if len(self.ctx.get("pool_running", ())) > len(self._awaitables) > 0:
            self.call_soon(self._wake)

    def _wake(self) -> None:
        if self.state == ProcessState.WAITING:
            self.resume()

    def _on_awaitable_finished(self, awaitable: Awaitable) -> Any:
        current = next((known for known in self._awaitables if known.pk == awaitable.pk), None)
        if current is None:
            return
        if not current.key.startswith("pool_waiting."):
            super()._on_awaitable_finished(current)
            return
        # The next step looks at the children itself.
        self._resolve_awaitable(current, current.pk)
        self._wake()


def awaitable(pk: int) -> Awaitable:
    """What a workchain waits for, without loading the node."""
    fields = {"pk": pk, "action": AwaitableAction.ASSIGN, "target": AwaitableTarget.PROCESS, "outputs": False}
    return Awaitable(**fields)


def terminated(pks: Iterable[int]) -> set[int]:
    """Those of some processes that have ended; one query, whatever their number."""
    wanted = list(pks)
    if not wanted:
        return set()
    filters = {"id": {"in": wanted}, "attributes.process_state": {"in": list(ENDED)}}
    return set(orm.QueryBuilder().append(orm.ProcessNode, filters=filters, project="id").all(flat=True))


# For the parents above and for what else runs: workflows that wait keep their slot.
RESERVE = 10


def at_most(wanted: int, slots_per_child: int) -> int:
    """Children in flight: as many as wanted, unless they and their own children exceed the slots of one worker.

    A worker takes `daemon.worker_process_slots` processes (200 by default) and a workchain keeps its slot while it
    waits: with all slots taken by parents, none of their jobs could ever begin.
    """
    slots: int = get_config_option("daemon.worker_process_slots")
    reserve = min(RESERVE, slots // 4)
    return max(1, min(wanted, (slots - reserve) // slots_per_child))
