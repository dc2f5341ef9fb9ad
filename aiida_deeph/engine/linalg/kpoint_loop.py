"""The loop over k-points and spin channels: in one process or several, each solution kept as soon as it is there."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from aiida_deeph.engine.linalg.solutions import SolutionStore
from aiida_deeph.engine.ranks import Ranks
from aiida_deeph.engine.system import track

WORTH_KEEPING = 0.02
"""Seconds that a solution must take to be kept: to write those of thousands of tiny problems would cost more."""

Task = tuple[int, int]
Arrays = Mapping[str, NDArray[Any]]
Solve = Callable[[int, int], Arrays]


@dataclass(frozen=True)
class Loop:
    """How solutions at many k-points are obtained.

    :param store: keeps them and knows those of an earlier run; None keeps none.
    :param workers: processes, each with one k-point at a time; they share the memory of H and S.
    :param show_progress: of the bar; None shows it on a terminal.
    :param share: (n, count): every count-th task from the n-th on, all of them kept; None takes all tasks.
    :param ranks: processes side by side: each solves a part, and all know everything in the end.
    :param counts: name of a set of tasks -> how many of them were taken.
    """

    store: SolutionStore | None = None
    workers: int = 1
    show_progress: bool | None = None
    share: tuple[int, int] | None = None
    ranks: Ranks = field(default_factory=Ranks)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> Loop:
        """The same for what every share needs: all tasks, and all of them kept."""
        return self if self.share is None else replace(self, share=(0, 1))

    def run(self, name: str, tasks: Sequence[Task], solve: Solve) -> dict[Task, Arrays]:
        """The solution of each task, of those of the share if there is one.

        :param name: of this set of tasks among the solutions kept.
        :param tasks: spin channel and index of the k-point.
        :param solve: (channel, index) -> arrays by name.
        """
        if self.share is not None:
            tasks = tasks[self.share[0] :: self.share[1]]
        self.counts[name] = len(tasks)
        own = tasks[self.ranks.rank :: self.ranks.size]
        worth_keeping = WORTH_KEEPING if self.share is None else 0.0
        done: dict[Task, Arrays] = {}
        if self.store is not None:
            known = {task: self.store.get(_file(name, task)) for task in own}
            done = {task: arrays for task, arrays in known.items() if arrays is not None}
        left = [task for task in own if task not in done]

        def timed(channel: int, index: int) -> tuple[Arrays, float]:
            started = time.monotonic()
            return solve(channel, index), time.monotonic() - started

        show = self.show_progress if self.ranks.is_first else False
        for task, found in track(parallel(left, timed, self.workers), name, len(left), show):
            done[task], seconds = found
            if self.store is not None and seconds >= worth_keeping:
                self.store.put(_file(name, task), done[task])
        parts = self.ranks.collect(done)
        return parts[0] if len(parts) == 1 else {task: arrays for part in parts for task, arrays in part.items()}


def parallel(tasks: Sequence[Any], work: Callable[..., Any], workers: int) -> Iterator[tuple[Any, Any]]:
    """(task, work(*task)) for each task as it is done, by as many processes.

    Forked processes see the matrices without a copy; threads would wait for each other in Python code.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, work(*task)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_adopt, initargs=(work,)) as pool:
        futures = {pool.submit(_work, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_adopted: list[Callable[..., Any]] = []
"""What a worker process does; empty everywhere else."""


def _adopt(work: Callable[..., Any]) -> None:
    _adopted[:] = [work]


def _work(task: Sequence[Any]) -> Any:
    return _adopted[0](*task)


def _file(name: str, task: Task) -> str:
    return f"{name.replace(' ', '-')}-{task[0]}-{task[1]:05d}"
