"""Processes that were started side by side: one idiom, whether MPI or torch carries what they tell each other.

`Ranks` is this process alone. Observables join theirs by `mpi_ranks` (mpi4py, which needs no torch), prediction by
`started_ranks` of `system_torch` (torch.distributed). All ranks run the same program; each takes its share of the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from aiida_deeph.engine.errors import InputError

# Variables by which a launcher tells a process its rank and the number of ranks; MPI itself is not loaded to ask.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    # Of a step started by srun: a batch script itself has SLURM_PROCID and SLURM_NTASKS, too.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("RANK", "WORLD_SIZE"),
)


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    :param rank: from 0; the first one collects the result.
    :param size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process collects the result and writes it."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n items; all parts together are all items, in the order of the ranks.

        :raises InputError: there are fewer items than processes.
        """
        if n < self.size:
            raise InputError(
                "more processes than atom pairs", where="torchrun", found=self.size, expected=f"at most {n}"
            )
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def collect(self, values: Any) -> list[Any]:
        """The values of every process, on every process; all wait for each other here."""
        return [values]


class MpiRanks(Ranks):
    """Ranks that talk by MPI."""

    def collect(self, values: Any) -> list[Any]:
        from mpi4py import MPI

        found: list[Any] = MPI.COMM_WORLD.allgather(values)
        return found


def launched_ranks(environment: Mapping[str, str]) -> tuple[int, int]:
    """Rank of this process and how many there are, as the launcher says; (0, 1) if it runs alone."""
    for rank, size in LAUNCHERS:
        try:
            found = int(environment[rank]), int(environment[size])
        except (KeyError, ValueError):
            continue
        if 0 <= found[0] < found[1]:
            return found
    return 0, 1


def mpi_ranks() -> Ranks:
    """The processes of mpirun or srun, joined; without them this process alone, and MPI is not even loaded.

    :raises InputError: mpi4py is not installed, or belongs to another MPI than the launcher.
    """
    _, size = launched_ranks(os.environ)
    if size == 1:
        return Ranks()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py's wheels raise RuntimeError where no MPI library is found
        raise InputError(
            "ranks cannot be joined",
            where=f"{size} processes started side by side",
            found=str(error).splitlines()[0],
            expected="mpi4py and an MPI library",
            remedy="pip install 'aiida-deeph[mpi]', or start one process, with `workers`",
        ) from None
    found = MPI.COMM_WORLD.Get_size()
    if found != size:
        raise InputError(
            "ranks do not know each other",
            where=f"mpi4py with {MPI.get_vendor()[0]}",
            found=f"{found} process(es)",
            expected=f"{size}, as the launcher says",
            remedy="start them by the mpirun (or srun --mpi) of the MPI library that mpi4py finds; torchrun is none",
        )
    return MpiRanks(MPI.COMM_WORLD.Get_rank(), size)


def leave(status: int) -> NoReturn:
    """End this process after a failure, and with it the ranks that MPI joined: they would wait for it for ever."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.COMM_WORLD.Get_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        mpi.COMM_WORLD.Abort(status)
    sys.exit(status)
