"""`aiida-deeph data clean`: remote folders that nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from aiida.cmdline.params import arguments
from aiida.cmdline.utils import decorators, echo


@click.command("clean")
@arguments.PROCESSES()
@click.option("--force", is_flag=True, help="Delete; without it the folders are only listed.")
@click.option("--keep-datasets", is_flag=True, help="Leave folders of preprocess jobs: trainings read them.")
@decorators.with_dbenv()
def data_clean(processes: tuple[Any, ...], force: bool, keep_datasets: bool) -> None:
    """Free the remote folders of PROCESSES and of all jobs that they called; what runs, or is read, is left alone.

    Nodes, models and retrieved files stay in the database. A cleaned folder cannot be continued from or read again.
    """
    busy = needed_folders()
    total = 0
    for folder in remote_folders(processes):
        creator = folder.creator
        name = f"{creator.process_label}<{creator.pk}> on {folder.computer.label}:{folder.get_remote_path()}"
        if keep_datasets and creator.process_type == "aiida.calculations:deeph.preprocess":
            echo.echo(f"kept, a dataset: {name}")
        elif folder.pk in busy:
            echo.echo(f"kept, {busy[folder.pk]} needs it: {name}")
        else:
            size = size_of(folder)
            total += size
            if force:
                folder._clean()
                # A later run must not take over outputs whose folder is gone.
                creator.base.caching.is_valid_cache = False
            echo.echo(f"{'deleted' if force else 'would delete'} {readable(size)}: {name}")
    verdict = f"{readable(total)} freed" if force else f"{readable(total)} would be freed; --force does it"
    echo.echo_success(verdict)


def remote_folders(processes: tuple[Any, ...]) -> Iterator[Any]:
    """Folders, not cleaned so far, of jobs that ended: the processes themselves or what they called."""
    jobs = {node.pk: node for process in processes for node in (process, *process.called_descendants)}
    for _, job in sorted(jobs.items()):
        if job.is_terminated and "remote_folder" in job.outputs and job.outputs.remote_folder.creator == job:
            folder = job.outputs.remote_folder
            if not folder.is_cleaned:
                yield folder


def needed_folders() -> dict[int, str]:
    """Folders that a live process has as an input, or that a live workflow's jobs left: pk -> who needs it."""
    from aiida import orm

    alive = {"attributes.process_state": {"in": ["created", "running", "waiting"]}}
    needed: dict[int, str] = {}
    for (process,) in orm.QueryBuilder().append(orm.ProcessNode, filters=alive).iterall():
        name = f"{process.process_label}<{process.pk}>"
        links = process.base.links.get_incoming(node_class=orm.RemoteData).all()
        needed.update({link.node.pk: name for link in links})
        for job in process.called_descendants:
            if "remote_folder" in job.outputs:
                needed[job.outputs.remote_folder.pk] = name
    return needed


def size_of(folder: Any) -> int:
    """Bytes of a folder; 0 if it is gone."""
    try:
        return int(folder.get_size_on_disk(return_bytes=True)[0])
    except OSError:
        return 0


def readable(size: float) -> str:
    """`1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
