"""Where the nodes of one job meet: read from what the scheduler tells every process of a job.

torchrun has to be told the first node and a port, which no scheduler's variables do by themselves; Lightning's readers
of such variables know SLURM and LSF alone, and want a process per GPU where a job here starts one per node.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiida_deeph.engine.errors import InputError

Environment = Mapping[str, str]

#: Ports of the meeting point: above the services, below the ports that Linux gives to outgoing connections.
FIRST_PORT, N_PORTS = 20000, 12000


@dataclass(frozen=True)
class Allocation:
    """The nodes that a scheduler gave to a job.

    :param scheduler: its name.
    :param job_id: the same on all nodes.
    :param hosts: names of the nodes, each once, in the order of the scheduler.
    """

    scheduler: str
    job_id: str
    hosts: tuple[str, ...]

    @property
    def endpoint(self) -> str:
        """`HOST:PORT`: the first node, and a port that follows from the job's number, so that all nodes agree and two
        jobs of one node seldom do."""
        return f"{self.hosts[0]}:{FIRST_PORT + zlib.crc32(self.job_id.encode()) % N_PORTS}"


def expand_hosts(text: str) -> tuple[str, ...]:
    """Names of a SLURM node list: `gpu[01-03,7],login1` -> gpu01, gpu02, gpu03, gpu7, login1.

    :raises InputError: not a node list.
    """
    hosts: list[str] = []
    for item in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", text):
        names = [""]
        for part in re.findall(r"\[[^\[\]]*\]|[^\[\]]+", item):
            if not part.startswith("["):
                names = [name + part for name in names]
                continue
            numbers = []
            for span in part[1:-1].split(","):
                first, _, last = span.partition("-")
                if not first.isdigit() or not (last or first).isdigit():
                    raise InputError("node list cannot be read", found=text, expected="for example gpu[01-03,7]")
                numbers += [str(n).zfill(len(first)) for n in range(int(first), int(last or first) + 1)]
            names = [name + number for name in names for number in numbers]
        hosts += names
    return tuple(hosts)


def _lines(path: str) -> list[str]:
    """First word of each line of a file of hosts."""
    return [line.split()[0] for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def _slurm(environment: Environment) -> tuple[str, ...]:
    # Inside `srun` the step may have fewer nodes than the job.
    return expand_hosts(environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"])


def _pbs(environment: Environment) -> tuple[str, ...]:
    return tuple(_lines(environment["PBS_NODEFILE"]))


def _lsf(environment: Environment) -> tuple[str, ...]:
    if "LSB_DJOB_HOSTFILE" in environment:
        return tuple(_lines(environment["LSB_DJOB_HOSTFILE"]))
    if "LSB_MCPU_HOSTS" in environment:
        return tuple(environment["LSB_MCPU_HOSTS"].split()[::2])
    return tuple(environment["LSB_HOSTS"].split())


def _sge(environment: Environment) -> tuple[str, ...]:
    return tuple(_lines(environment["PE_HOSTFILE"]))


#: Variable that holds the job's number -> (scheduler, its list of hosts). SGE's variable has the commonest name: last.
SCHEDULERS: dict[str, tuple[str, Callable[[Environment], tuple[str, ...]]]] = {
    "SLURM_JOB_ID": ("SLURM", _slurm),
    "PBS_JOBID": ("PBS", _pbs),
    "LSB_JOBID": ("LSF", _lsf),
    "JOB_ID": ("SGE", _sge),
}


def find_allocation(environment: Environment) -> Allocation | None:
    """The nodes of the job that runs this process; None outside of a job.

    :raises InputError: a scheduler's list of nodes cannot be read.
    """
    for variable, (scheduler, hosts_of) in SCHEDULERS.items():
        if variable not in environment:
            continue
        try:
            hosts = tuple(dict.fromkeys(hosts_of(environment)))
        except KeyError:
            # No list of hosts: a job of one process, or no job at all.
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("list of nodes cannot be read", where=scheduler, found=error) from None
        if hosts:
            return Allocation(scheduler, environment[variable], hosts)
    return None


def require_allocation(nodes: int, environment: Environment) -> Allocation:
    """The nodes of this job, as many as a training wants.

    :raises InputError: no scheduler that is known here, or another number of nodes.
    """
    allocation = find_allocation(environment)
    if allocation is None:
        raise InputError(
            "no scheduler says which nodes belong to the training",
            where="nodes",
            found=nodes,
            expected="a job of " + ", ".join(name for name, _ in SCHEDULERS.values()),
            remedy="start torchrun on each node by hand, or set nodes to 1",
        )
    if len(allocation.hosts) != nodes:
        raise InputError(
            "the job has another number of nodes",
            where=f"nodes; {allocation.scheduler} job {allocation.job_id}",
            found=f"{len(allocation.hosts)} ({', '.join(allocation.hosts[:4])})",
            expected=nodes,
            remedy="request as many nodes as `nodes` says",
        )
    return allocation
