"""Processes that MPI or a scheduler started side by side: each solves its share of the k-points, the first joins them.

They need no MPI library: a rank knows itself from its environment and keeps its solutions in a folder of its own,
where the first one finds them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

FINISHED = "finished"
"""File that a rank leaves in its folder when it has done its share, or failed at it."""

PATIENCE = 60.0
"""Seconds without any news after which a rank is given up at the earliest: its share is computed by the first one."""

_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    # Of a step started by srun: a batch script itself has SLURM_PROCID and SLURM_NTASKS, too.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("RANK", "WORLD_SIZE"),
)


def own_rank(environment: Mapping[str, str]) -> tuple[int, int]:
    """Rank of this process and how many there are; (0, 1) if it runs alone."""
    for rank, size in _VARIABLES:
        try:
            found = int(environment[rank]), int(environment[size])
        except (KeyError, ValueError):
            continue
        if 0 <= found[0] < found[1]:
            return found
    return 0, 1


def rank_folder(output: str, rank: int, size: int) -> Path:
    """Where a rank keeps its solutions: `OUTPUT.partial`, or a folder in it if there are several ranks."""
    folder = partial_folder(output)
    return folder if size == 1 else folder / f"rank-{rank}"


def partial_folder(output: str) -> Path:
    """Where a job keeps its solutions until it ends."""
    return Path(f"{output}.partial")


def with_ranks(folder: Path) -> list[Path]:
    """A job's folder of solutions and those of its ranks."""
    return [folder, *sorted(folder.glob("rank-*"))]


def wait_for(folders: Sequence[Path], patience: float) -> bool:
    """Wait until every folder holds `FINISHED`; whether all do.

    :param patience: seconds without a new file anywhere after which waiting ends.
    """
    news, since = -1, time.monotonic()
    while True:
        if all((folder / FINISHED).exists() for folder in folders):
            return True
        files = sum(sum(1 for _ in folder.iterdir()) for folder in folders if folder.is_dir())
        if files != news:
            news, since = files, time.monotonic()
        elif time.monotonic() - since > patience:
            return False
        time.sleep(0.05)
