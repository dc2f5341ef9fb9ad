"""`aiida-deeph data clean`: remote folders that nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import click
from aiida.cmdline.params import arguments
from aiida.cmdline.utils import decorators, echo

ALIVE = ("created", "running", "waiting")
PREPROCESS = "aiida.calculations:deeph.preprocess"
Place = tuple[int, str]


@dataclass
class Folder:
    """One folder on a computer; a job that was taken from the cache has the folder of its source.

    :param nodes: all RemoteData that point to it.
    """

    place: Place
    nodes: list[Any] = field(default_factory=list)

    def name(self) -> str:
        """Who left it, and where it lies."""
        creators = sorted({node.creator for node in self.nodes if node.creator is not None}, key=lambda job: job.pk)
        names = " = ".join(f"{job.process_label}<{job.pk}>" for job in creators)
        return f"{names} on {self.nodes[0].computer.label}:{self.place[1]}"

    def is_dataset(self) -> bool:
        """Whether trainings may read it."""
        return any(node.creator is not None and node.creator.process_type == PREPROCESS for node in self.nodes)

    def is_stashed(self) -> bool:
        """Whether its files were stashed too."""
        return any("remote_stash" in node.creator.outputs for node in self.nodes if node.creator is not None)

    def clean(self) -> None:
        """Delete it, for all nodes alike; no later job may take over outputs whose folder is gone."""
        from aiida.orm import RemoteData

        self.nodes[0]._clean()
        for node in self.nodes:
            node.base.extras.set(RemoteData.KEY_EXTRA_CLEANED, True)
            if node.creator is not None:
                node.creator.base.caching.is_valid_cache = False


@click.command("clean")
@arguments.PROCESSES()
@click.option("--force", is_flag=True, help="Delete; without it the folders are only listed.")
@click.option("--keep-datasets", is_flag=True, help="Leave folders of preprocess jobs: trainings read them.")
@decorators.with_dbenv()
def data_clean(processes: tuple[Any, ...], force: bool, keep_datasets: bool) -> None:
    """Free the remote folders of PROCESSES and of all jobs that they called; what runs, or is read, is left alone.

    Nodes, models, retrieved and stashed files stay. A cleaned folder cannot be continued from or read again; where its
    files were stashed, readers take those.
    """
    busy = needed_places()
    total = 0
    for folder in remote_folders(processes):
        if keep_datasets and folder.is_dataset() and not folder.is_stashed():
            echo.echo(f"kept, a dataset: {folder.name()}")
        elif folder.place in busy:
            echo.echo(f"kept, {busy[folder.place]} needs it: {folder.name()}")
        else:
            size = size_of(folder.nodes[0])
            total += size
            name = folder.name() + (" (stashed)" if folder.is_stashed() else "")
            if force:
                folder.clean()
            echo.echo(f"{'deleted' if force else 'would delete'} {readable(size)}: {name}")
    verdict = f"{readable(total)} freed" if force else f"{readable(total)} would be freed; --force does it"
    echo.echo_success(verdict)


def place_of(remote: Any) -> Place:
    """Computer and path: what nodes of cached jobs share."""
    return remote.computer.pk, remote.get_remote_path()


def remote_folders(processes: tuple[Any, ...]) -> list[Folder]:
    """Folders, not cleaned so far, of jobs that ended: the processes themselves or what they called."""
    from aiida import orm

    jobs = {node.pk: node for process in processes for node in (process, *process.called_descendants)}
    own = [
        job.outputs.remote_folder
        for _, job in sorted(jobs.items())
        if isinstance(job, orm.CalcJobNode) and job.is_terminated and "remote_folder" in job.outputs
    ]
    folders = {place_of(remote): Folder(place_of(remote)) for remote in own if not remote.is_cleaned}
    for remote in folders_at({path for _, path in folders}):
        if place_of(remote) in folders:
            folders[place_of(remote)].nodes.append(remote)
    return list(folders.values())


def folders_at(paths: Iterable[str]) -> list[Any]:
    """All RemoteData of these paths, whoever made them."""
    from aiida import orm

    paths = list(paths)
    found: list[Any] = []
    for first in range(0, len(paths), 500):
        filters = {"attributes.remote_path": {"in": paths[first : first + 500]}}
        found += orm.QueryBuilder().append(orm.RemoteData, filters=filters).all(flat=True)
    return sorted(found, key=lambda node: node.pk)


def needed_places() -> dict[Place, str]:
    """Folders that a live process has as an input, or that a live workflow's jobs left -> who needs it."""
    from aiida import orm

    alive = {"attributes.process_state": {"in": list(ALIVE)}}
    needed: dict[Place, str] = {}
    for (process,) in orm.QueryBuilder().append(orm.ProcessNode, filters=alive).iterall():
        name = f"{process.process_label}<{process.pk}>"
        for link in process.base.links.get_incoming(node_class=orm.RemoteData).all():
            needed[place_of(link.node)] = name
        for job in process.called_descendants:
            if "remote_folder" in job.outputs:
                needed[place_of(job.outputs.remote_folder)] = name
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
