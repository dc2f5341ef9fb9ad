"""How much memory there is, and how much was used."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from aiida_deeph.engine.errors import DataError


def available_memory() -> int | None:
    """Bytes that this process may still take: free memory of the machine or of its cgroup, whichever is less."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration, ValueError):
        pass
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            limits.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no cgroup, or "max"
            continue
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits) if limits else None


def require_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse work that will not fit.

    :param needed: bytes.
    :raises DataError: naming what is needed and what there is.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise DataError(
            "not enough memory",
            where=what,
            found=f"{available / 2**30:.1f} GiB free",
            expected=f"{needed / 2**30:.1f} GiB",
            remedy=remedy,
        )


def peak_memory_GiB() -> float:  # noqa: N802  (the key of the results)
    """Largest resident memory of this process so far, GiB."""
    # Linux counts in kiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, total: int | None = None, show: bool | None = None
) -> Iterator[Item]:
    """The items, with a bar while they are consumed.

    :param total: number of items, if they have no length.
    :param show: None shows the bar on a terminal only.
    """
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    visible = console.is_terminal if show is None else show
    yield from rich_track(items, description, total=total, console=console, disable=not visible, transient=True)
