"""The loop over k-points and spin channels: in one process or several, each solution kept as soon as it is there."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from aiida_deeph.engine.linalg.dense import Eigenstates
from aiida_deeph.engine.linalg.store import StateStore
from aiida_deeph.engine.system import track

WORTH_KEEPING = 0.02
"""Seconds that a solution must take to be kept: to write those of thousands of tiny problems would cost more."""

Task = tuple[int, int]
Solve = Callable[[int, int], Eigenstates]


@dataclass(frozen=True)
class Loop:
    """How solutions at many k-points are obtained.

    :param store: keeps them and knows those of an earlier run; None keeps none.
    :param workers: processes, each with one k-point at a time; they share the memory of H and S.
    :param show_progress: of the bar; None shows it on a terminal.
    :param share: (n, count): every count-th task from the n-th on, all of them kept; None takes all tasks.
    """

    store: StateStore | None = None
    workers: int = 1
    show_progress: bool | None = None
    share: tuple[int, int] | None = None

    def run(self, name: str, tasks: Sequence[Task], solve: Solve) -> dict[Task, Eigenstates]:
        """The solution of each task, of those of the share if there is one.

        :param name: of this set of tasks among the solutions kept.
        :param tasks: spin channel and index of the k-point.
        :param solve: (channel, index) -> states.
        """
        if self.share is not None:
            tasks = tasks[self.share[0] :: self.share[1]]
        worth_keeping = WORTH_KEEPING if self.share is None else 0.0
        done: dict[Task, Eigenstates] = {}
        if self.store is not None:
            known = {task: self.store.get(_file(name, task)) for task in tasks}
            done = {task: states for task, states in known.items() if states is not None}
        left = [task for task in tasks if task not in done]

        def timed(channel: int, index: int) -> tuple[Eigenstates, float]:
            started = time.monotonic()
            return solve(channel, index), time.monotonic() - started

        for task, found in track(parallel(left, timed, self.workers), name, len(left), self.show_progress):
            done[task], seconds = found
            if self.store is not None and seconds >= worth_keeping:
                self.store.put(_file(name, task), done[task])
        return done


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
