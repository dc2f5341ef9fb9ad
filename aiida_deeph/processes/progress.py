"""Progress bars that follow the tree of a running process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiida import orm
from aiida.common.links import LinkType
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aiida_deeph.calculations.observable import class_name
from aiida_deeph.engine.observables.registry import OBSERVABLES
from aiida_deeph.processes.resumable import ABANDONED

DEPTH = 4
ENDED = ("finished", "excepted", "killed")


@dataclass(frozen=True)
class Job:
    """A CalcJob below the process that is followed."""

    pk: int
    process_label: str
    ended: bool


@dataclass(frozen=True)
class Stage:
    """One bar.

    :param title: what stands before it.
    :param jobs: process labels of its jobs.
    :param total: number of jobs to come.
    """

    title: str
    jobs: tuple[str, ...]
    total: int


def full_stages(label_job: str, n_labels: int, n_targets: int, n_validation: int) -> list[Stage]:
    """The bars of a FullWorkChain: labels first, then the single steps.

    :param label_job: process label of the job of a label.
    """
    predicted = n_targets + n_validation
    return [
        Stage("DFT labels and validation", (label_job,), n_labels + n_validation),
        Stage("Dataset", ("PreprocessCalculation",), 1),
        Stage("Training", ("TrainCalculation",), 1),
        Stage("Test", ("EvaluateCalculation",), 1),
        Stage("Prediction", ("OverlapCalculation", "PredictCalculation"), 2 * predicted),
        Stage("Bands and DOS", tuple(map(class_name, OBSERVABLES)), predicted + n_targets),
    ]


def jobs_below(process: orm.ProcessNode) -> list[Job]:
    """CalcJobs called by a process, by its children and so on; one query per generation, no node is loaded."""
    jobs: list[Job] = []
    project = ["id", "attributes.process_label", "attributes.process_state"]
    for depth in range(1, DEPTH + 1):
        query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": process.pk}, tag="0")
        for level in range(1, depth):
            query.append(
                orm.WorkflowNode,
                tag=str(level),
                with_incoming=str(level - 1),
                edge_filters={"type": LinkType.CALL_WORK.value},
            )
        query.append(
            orm.CalcJobNode,
            with_incoming=str(depth - 1),
            edge_filters={"type": LinkType.CALL_CALC.value},
            filters={"extras": {"!has_key": ABANDONED}},
            project=project,
        )
        jobs += [Job(pk, label or "", state in ENDED) for pk, label, state in query.all()]
    return jobs


def job_counts(jobs: Sequence[Job], stages: Sequence[Stage]) -> list[tuple[int, int]]:
    """Jobs that ended and jobs that run, per stage."""
    counts = []
    for stage in stages:
        own = [job.ended for job in jobs if job.process_label in stage.jobs]
        counts.append((sum(own), len(own) - sum(own)))
    return counts


def follow(
    process: orm.ProcessNode,
    stages: Sequence[Stage],
    console: Console,
    details: Callable[[Sequence[Job]], Mapping[str, float]] | None = None,
    interval: float = 2.0,
) -> None:
    """Return when the process has terminated; bars are drawn meanwhile, on a terminal, else one line per change.

    :param details: gives the fraction done of stages (by title) whose single job tells how far it is.
    """
    plain = not console.is_terminal
    columns = (TextColumn("{task.description:<26}"), BarColumn(36), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=plain) as progress:
        tasks = [progress.add_task(stage.title, total=stage.total, start=False) for stage in stages]
        before: list[tuple[int, int]] = []
        while True:
            over = process.is_terminated
            jobs = jobs_below(process)
            counts = job_counts(jobs, stages)
            fractions = details(jobs) if details is not None else {}
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
