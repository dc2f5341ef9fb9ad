"""How many children fit into the daemon at a time without waiting for each other's slot."""

from __future__ import annotations

from aiida.manage import get_config_option

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
