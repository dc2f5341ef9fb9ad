"""SLURM on one machine: a node with two GPUs that are none, and a spare node that tests may let fail."""

from __future__ import annotations

import os
import signal
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .accounting import this_user
from .base import LOOPBACK, Service, free_port, run

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sacct", "sacctmgr", "sinfo", "squeue", "srun")
CLUSTER = "aiida"
NODE, SPARE = "node1", "node2"
# Partitions: the default one, and that of the spare node.
MAIN, SPARE_PARTITION = "main", "spare"
GPUS = 2

CONFIGURATION = """\
ClusterName={cluster}
SlurmctldHost={host}({loopback})
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={munge}
CredType=cred/munge
CommunicationParameters={binding}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.server.pid
SlurmdPidFile={folder}/slurmd-%n.server.pid
# Containers grant neither cgroups nor CPU binding.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
MessageTimeout=15
ReturnToService=2
SlurmdTimeout=300
KillWait=30
MinJobAge=3600
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=3000
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={loopback}
AccountingStoragePort={accounting_port}
AccountingStoragePass={munge}
AccountingStorageTRES=gres/gpu
# Memory is sampled every second; a job above its limit is killed, as cgroups would do.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/none
NodeName={node} NodeHostname={host} NodeAddr={loopback} Port={port} CPUs={cpus} Boards=1 SocketsPerBoard=1 \
CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=16000 Gres=gpu:{gpus} State=UNKNOWN
NodeName={spare} NodeHostname={host} NodeAddr={loopback} Port={spare_port} CPUs=1 RealMemory=16000 State=UNKNOWN
PartitionName={main} Nodes={node} Default=YES MaxTime=2-00:00:00 State=UP
PartitionName={spare_partition} Nodes={spare} MaxTime=2-00:00:00 State=UP
"""


def binding() -> str:
    """Make SLURM's daemons listen on loopback alone, where the name of this host leads there; they know no address to
    listen on but all and that of their host. Whoever reaches them elsewhere has to know munge's key."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = ""
    return "NoInAddrAny,NoCtldInAddrAny" if address == LOOPBACK else ""


@dataclass(frozen=True)
class Slurm:
    """The controller and one daemon per node, as written in a configuration."""

    folder: Path

    @property
    def configuration(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What every program of SLURM needs."""
        return {"SLURM_CONF": str(self.configuration)}

    def write(self, munge_socket: Path, accounting_port: int) -> None:
        """Write the configuration; fake GPUs are files that only have the right names."""
        host = socket.gethostname().split(".")[0]
        (self.folder / "state").mkdir()
        # More CPUs than there are make slurmstepd fail to fork.
        cpus = 2 * (os.cpu_count() or 1)
        self.configuration.write_text(
            CONFIGURATION.format(
                cluster=CLUSTER,
                host=host,
                binding=binding(),
                loopback=LOOPBACK,
                controller_port=free_port(),
                user=this_user(),
                munge=munge_socket,
                folder=self.folder,
                accounting_port=accounting_port,
                node=NODE,
                spare=SPARE,
                port=free_port(),
                spare_port=free_port(),
                cpus=cpus,
                gpus=GPUS,
                main=MAIN,
                spare_partition=SPARE_PARTITION,
            )
        )
        devices = ",".join(map(str, self.fake_gpus()))
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nNodeName={NODE} Name=gpu File={devices}\n")

    def fake_gpus(self) -> list[Path]:
        """Devices that do nothing: SLURM wants character devices, which only root can make."""
        if os.getuid():
            return [Path("/dev/null"), Path("/dev/zero")]
        devices = [self.folder / f"nvidia{n}" for n in range(GPUS)]
        for device in devices:
            os.mknod(device, 0o666 | stat.S_IFCHR, os.stat("/dev/null").st_rdev)
        return devices

    def command(self, *words: str, check: bool = True) -> str:
        """Run one of SLURM's commands."""
        return run(*words, check=check, environment=self.environment)

    def add_cluster(self) -> None:
        """Make the cluster known to the accounting."""
        self.command("sacctmgr", "-i", "add", "cluster", CLUSTER)

    def controller(self) -> Service:
        """The controller."""
        return Service(
            "slurmctld",
            self.folder,
            ["slurmctld", "-D", "-f", str(self.configuration)],
            healthy=lambda: "is UP" in self.command("scontrol", "ping", check=False),
            environment=self.environment,
        )

    def node(self, name: str) -> Service:
        """The daemon of a node."""
        return Service(
            f"slurmd-{name}",
            self.folder,
            ["slurmd", "-D", "-N", name, "-f", str(self.configuration)],
            healthy=lambda: self.state(name) in ("idle", "mixed", "allocated"),
            environment=self.environment,
        )

    def state(self, node: str) -> str:
        """State of a node, e.g. `idle`."""
        return self.command("sinfo", "-h", "-N", "-n", node, "-o", "%T", check=False).strip()

    def jobs(self) -> list[str]:
        """Ids of the jobs that wait or run."""
        return self.command("squeue", "-h", "-o", "%i", check=False).split()

    def accounted(self, fields: str = "JobID,JobName,State,AllocTRES") -> list[list[str]]:
        """All jobs that the accounting knows, a row of fields each."""
        text = self.command("sacct", "-X", "-n", "-P", "-S", "now-1days", "-o", fields)
        return [line.split("|") for line in text.splitlines() if line]

    def processes(self, job: str) -> list[int]:
        """Process ids of a running job."""
        lines = self.command("scontrol", "listpids", job, check=False).splitlines()[1:]
        return [int(line.split()[0]) for line in lines if line.split()[1:2] == [job]]

    def cancel_all(self) -> None:
        """Cancel all jobs, at once: processes of a job outlive the daemon of its node."""
        for job in self.jobs():
            for pid in self.processes(job):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.command("scancel", job, check=False)
