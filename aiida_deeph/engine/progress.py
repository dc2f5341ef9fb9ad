"""Progress of long loops: a bar on stderr, only where someone looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

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
