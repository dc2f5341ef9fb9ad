"""A bounded number of children at a time, refilled as each one ends."""

from __future__ import annotations

from collections.abc import Iterable

from aiida import orm
from aiida.manage import get_config_option

from aiida_deeph.processes.aiida_internals import WaitForFirstMixin
from aiida_deeph.processes.resumable import ResumableMixin, process_node

ENDED = ("finished", "excepted", "killed")


class PoolMixin(WaitForFirstMixin, ResumableMixin):
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
                sequel = self.member_ended(name, process_node(pk))
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
        self.wait_for_first(running)

    def awaited(self) -> set[int]:
        """Children that run."""
        return set(self.ctx.get("pool_running", {}).values())

    def pool_status(self) -> str:
        """One line for the status column of `verdi process list`."""
        n_running = len(self.ctx.pool_running)
        return f"{self.ctx.pool_next - n_running} of {len(self.pool_members())} done, {n_running} running"

    def set_status(self, status: str | None) -> None:
        """In place of the numbers of all children that AiiDA would write down: how far the pool is, if that is news."""
        if self.ctx.get("pool_running") and (status is None or status.startswith("Waiting for child processes")):
            status = self.pool_status()
        if self.__dict__.get("_said") != (status,):
            self.__dict__["_said"] = (status,)
            super().set_status(status)


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
