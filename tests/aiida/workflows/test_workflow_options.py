"""GPUs in the words of each scheduler, checked in the header that the scheduler's plugin writes."""

from __future__ import annotations

import pytest
from aiida.plugins import SchedulerFactory
from aiida.schedulers.datastructures import JobTemplate

from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.options import scheduler_options


class FakeComputer:
    def __init__(self, scheduler_type: str) -> None:
        self.scheduler_type = scheduler_type


class FakeCode:
    def __init__(self, scheduler_type: str) -> None:
        self.computer = FakeComputer(scheduler_type)


def header(scheduler: str, options: dict) -> list[str]:
    """Lines of a submit script with these options."""
    plugin = SchedulerFactory(scheduler)()
    template = JobTemplate()
    template.job_name = "train"
    template.job_resource = plugin.create_job_resource(**options["resources"])
    for name in ("custom_scheduler_commands", "priority", "queue_name", "max_wallclock_seconds", "max_memory_kb"):
        if name in options:
            template[name] = options[name]
    return plugin._get_submit_script_header(template).splitlines()


NODES = {"num_machines": 2, "num_mpiprocs_per_machine": 4}


@pytest.mark.parametrize(
    ("scheduler", "resources", "line"),
    [
        ("core.slurm", NODES, "#SBATCH --gres=gpu:3"),
        ("core.lsf", {"tot_num_mpiprocs": 4}, '#BSUB -gpu "num=3"'),
        ("core.sge", {"parallel_env": "smp", "tot_num_mpiprocs": 4}, "#$ -l gpu=3"),
    ],
)
def test_line_of_the_scheduler(scheduler, resources, line):
    given = {"resources": resources, "gpus_per_node": 3, "custom_scheduler_commands": "## mine"}
    options = scheduler_options(given, FakeCode(scheduler))
    assert "gpus_per_node" not in options
    lines = header(scheduler, options)
    assert lines[lines.index("## mine") + 1] == line
    assert given["gpus_per_node"] == 3


def test_pbspro_takes_the_first_select_line():
    given = {
        "resources": {**NODES, "num_cores_per_mpiproc": 8},
        "gpus_per_node": 3,
        "max_memory_kb": 1000,
        "queue_name": "gpu",
    }
    lines = header("core.pbspro", scheduler_options(given, FakeCode("core.pbspro")))
    selects = [line for line in lines if "select=" in line]
    assert selects[0] == "#PBS -l select=2:mpiprocs=4:ncpus=32:ngpus=3:mem=1000kb"
    assert "ngpus" not in selects[1]
    assert "#PBS -p 0" in lines
    assert "#PBS -q gpu" in lines


def test_local_machine_has_no_queue_to_ask():
    assert scheduler_options({"gpus_per_node": 1}, FakeCode("core.direct")) == {
        "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}
    }


@pytest.mark.parametrize("gpus", [-1, "2", 1.5, True])
def test_number_of_gpus_is_checked(gpus):
    with pytest.raises(InputError, match="number of GPUs is wrong"):
        scheduler_options({"gpus_per_node": gpus}, FakeCode("core.slurm"))


def test_unknown_scheduler_names_the_remedy():
    with pytest.raises(InputError, match=r"found core.torque.*remedy: .*custom_scheduler_commands"):
        scheduler_options({"gpus_per_node": 1}, FakeCode("core.torque"))


def test_lsf_has_resources_of_its_own():
    assert scheduler_options({}, FakeCode("core.lsf"))["resources"] == {"tot_num_mpiprocs": 1}
