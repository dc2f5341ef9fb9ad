"""`gpus_per_node` in the words of each scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm

from aiida_deeph.engine.errors import InputError

DEFAULT_RESOURCES = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
DEFAULT_RESOURCES_LSF = {"tot_num_mpiprocs": 1}
GPUS = "gpus_per_node"
COMMANDS = "custom_scheduler_commands"


def _slurm(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {COMMANDS: _appended(options, f"#SBATCH --gres=gpu:{gpus}")}


def _lsf(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {COMMANDS: _appended(options, f'#BSUB -gpu "num={gpus}"')}


def _sge(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {COMMANDS: _appended(options, f"#$ -l gpu={gpus}")}


def _direct(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _pbspro(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """GPUs are part of the `select` line, of which PBS Pro takes the first. AiiDA writes its own before the custom
    commands, so the line with the GPUs goes further up: behind the priority (0 is what PBS Pro gives a job anyway)."""
    resources = options["resources"]
    parts = [f"select={resources.get('num_machines', 1)}"]
    processes = resources.get("num_mpiprocs_per_machine")
    cores = resources.get("num_cores_per_machine")
    if cores is None and "num_cores_per_mpiproc" in resources:
        cores = resources["num_cores_per_mpiproc"] * (processes or 1)
    parts += [f"mpiprocs={processes}"] if processes else []
    parts += [f"ncpus={cores}"] if cores else []
    parts += [f"ngpus={gpus}"]
    parts += [f"mem={options['max_memory_kb']}kb"] if "max_memory_kb" in options else []
    return {"priority": f"{options.get('priority', 0)}\n#PBS -l {':'.join(parts)}"}


def _appended(options: Mapping[str, Any], line: str) -> str:
    given = options.get(COMMANDS)
    return f"{given}\n{line}" if given else line


TRANSLATIONS: dict[str, Callable[[int, Mapping[str, Any]], dict[str, Any]]] = {
    "core.slurm": _slurm,
    "core.pbspro": _pbspro,
    "core.lsf": _lsf,
    "core.sge": _sge,
    "core.direct": _direct,
}


def scheduler_options(options: Mapping[str, Any], code: orm.AbstractCode) -> dict[str, Any]:
    """Options of a CalcJob, `gpus_per_node` translated for the scheduler of the code's computer.

    :raises InputError: the scheduler is not known here, or the number is no positive integer.
    """
    result = dict(options)
    scheduler = code.computer.scheduler_type if code.computer is not None else "core.direct"
    result.setdefault("resources", dict(DEFAULT_RESOURCES_LSF if scheduler == "core.lsf" else DEFAULT_RESOURCES))
    gpus = result.pop(GPUS, None)
    if gpus in (None, 0):
        return result
    if not isinstance(gpus, int) or isinstance(gpus, bool) or gpus < 0:
        raise InputError(
            "number of GPUs is wrong", where="options.gpus_per_node", found=repr(gpus), expected="a positive integer"
        )
    if scheduler not in TRANSLATIONS:
        raise InputError(
            "GPU request unknown for this scheduler",
            where="options.gpus_per_node",
            found=scheduler,
            expected="one of " + ", ".join(TRANSLATIONS),
            remedy=f"put the scheduler's own line into options.{COMMANDS} instead",
        )
    return {**result, **TRANSLATIONS[scheduler](gpus, result)}
