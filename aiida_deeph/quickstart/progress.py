"""Progress bars that follow the tree of a running process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aiida import orm
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@dataclass(frozen=True)
class Stage:
    """One bar.

    :param title: what stands before it.
    :param member: whether a job belongs to this stage.
    :param total: number of jobs to come.
    """

    title: str
    member: Callable[[orm.CalcJobNode], bool]
    total: int


def full_stages(n_labels: int, n_targets: int, n_validation: int) -> list[Stage]:
    """The bars of a FullWorkChain: labels first, then the single steps."""

    def of(*names: str) -> Callable[[orm.CalcJobNode], bool]:
        return lambda job: bool(job.process_label) and job.process_label.removesuffix("Calculation") in names

    predicted = n_targets + n_validation
    return [
        Stage("DFT labels and validation", of("Pyscf", "Cp2k", "Cp2kFixed"), n_labels + n_validation),
        Stage("Dataset", of("Preprocess"), 1),
        Stage("Training", of("Train"), 1),
        Stage("Test", of("Evaluate"), 1),
        Stage("Prediction", of("Overlap", "Predict"), 2 * predicted),
        Stage("Bands and DOS", of("Bands", "Dos"), predicted + n_targets),
    ]


def job_counts(process: orm.ProcessNode, stages: Sequence[Stage]) -> list[tuple[int, int]]:
    """Jobs that ended and jobs that run, per stage."""
    jobs = [node for node in process.called_descendants if isinstance(node, orm.CalcJobNode)]
    ended = [job.is_terminated for job in jobs]
    return [
        (
            sum(done for job, done in zip(jobs, ended, strict=True) if stage.member(job)),
            sum(not done for job, done in zip(jobs, ended, strict=True) if stage.member(job)),
        )
        for stage in stages
    ]


def follow(
    process: orm.ProcessNode,
    stages: Sequence[Stage],
    console: Console,
    details: Callable[[], Iterator[tuple[str, float]]] | None = None,
    interval: float = 1.0,
) -> None:
    """Return when the process has terminated; bars are drawn meanwhile, on a terminal, else one line per change.

    :param details: gives (title, fraction done) of stages whose single job tells how far it is.
    """
    plain = not console.is_terminal
    columns = (TextColumn("{task.description:<26}"), BarColumn(36), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=plain) as progress:
        tasks = [progress.add_task(stage.title, total=stage.total, start=False) for stage in stages]
        before: list[tuple[int, int]] = []
        while True:
            over = process.is_terminated
            counts = job_counts(process, stages)
            fractions = dict(details()) if details is not None else {}
            for task, stage, (done, running) in zip(tasks, stages, counts, strict=True):
                if done + running and progress.tasks[task].start_time is None:
                    progress.start_task(task)
                complete = round(done + fractions.get(stage.title, 0.0) * bool(running), 2)
                progress.update(task, completed=complete, total=max(stage.total, done + running))
                if done >= stage.total and not running:
                    progress.stop_task(task)
            if plain and counts != before:
                parts = [
                    f"{stage.title} {done}/{stage.total}"
                    for stage, (done, running) in zip(stages, counts, strict=True)
                    if done or running
                ]
                console.print(", ".join(parts) or "submitted")
            before = counts
            if over:
                return
            time.sleep(interval)
