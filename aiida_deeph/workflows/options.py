"""`gpus_per_node` in the words of each scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm

from aiida_deeph.engine.errors import InputError

DEFAULT_RESOURCES = {"num_machines": 1, "num_mpiprocs_per_machine": 1}


def _slurm(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_scheduler_commands": f"#SBATCH --gres=gpu:{gpus}"}


def _lsf(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_scheduler_commands": f'#BSUB -gpu "num={gpus}"'}


def _sge(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_scheduler_commands": f"#$ -l gpu={gpus}"}


def _direct(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _torque(gpus: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_scheduler_commands": f"#PBS -l gpus={gpus}"}


TRANSLATIONS: dict[str, Callable[[int, Mapping[str, Any]], dict[str, Any]]] = {
    "core.slurm": _slurm,
    "core.lsf": _lsf,
    "core.sge": _sge,
    "core.torque": _torque,
    "core.direct": _direct,
}


def scheduler_options(options: Mapping[str, Any], code: orm.AbstractCode) -> dict[str, Any]:
    """Options of a CalcJob, `gpus_per_node` translated for the scheduler of the code's computer.

    :raises InputError: the scheduler is not known here, or the number is no positive integer.
    """
    result = dict(options)
    result.setdefault("resources", dict(DEFAULT_RESOURCES))
    gpus = result.pop("gpus_per_node", None)
    if gpus in (None, 0):
        return result
    if not isinstance(gpus, int) or isinstance(gpus, bool) or gpus < 0:
        raise InputError(
            "number of GPUs is wrong", where="options.gpus_per_node", found=repr(gpus), expected="a positive integer"
        )
    scheduler = code.computer.scheduler_type if code.computer is not None else "core.direct"
    if scheduler not in TRANSLATIONS:
        raise InputError(
            "GPU request unknown for this scheduler",
            where="options.gpus_per_node",
            found=scheduler,
            expected="one of " + ", ".join(TRANSLATIONS),
            remedy="put the scheduler's own line into options.custom_scheduler_commands instead",
        )
    for key, line in TRANSLATIONS[scheduler](gpus, result).items():
        result[key] = f"{result[key]}\n{line}" if result.get(key) else line
    return result
