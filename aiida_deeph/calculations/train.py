"""Train a network on a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.orm import ArrayData, RemoteData

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.folders import DATASET, define_dataset, stage_dataset
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.calculations.validation import check_elements
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.model import DESCRIPTION_FILE, WEIGHTS_FILE
from aiida_deeph.engine.io.split import split
from aiida_deeph.engine.training.config import TrainConfig

MODEL = "model"
CHECKPOINT = "checkpoint"
# Is there when a checkpoint is; the checkpoint itself stays on the cluster.
PROGRESS_FILE = f"{CHECKPOINT}/progress.json"
METRICS_FILE = "metrics.jsonl"
REPORT_FILE = "train.json"


class TrainCalculation(EngineCalculation):
    """Train; checkpoints stay in the remote folder, from which a further job continues (`restart_folder`).

    With `metadata.options.max_wallclock_seconds` and no `max_seconds` in the parameters, the training stops itself
    with a checkpoint a little before the scheduler would.
    """

    COMMAND = "train"
    CONFIG = TrainConfig
    FILLED = MappingProxyType({"dataset": DATASET, "restart": None, "initial_model": None})

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        define_dataset(spec)
        spec.input(
            "restart_folder",
            valid_type=RemoteData,
            required=False,
            help="Folder of an interrupted training, continued exactly from its checkpoint.",
        )
        spec.input(
            "initial_model",
            valid_type=DeepHModelData,
            required=False,
            help="Model whose weights are the start (fine-tuning).",
        )
        spec.output("model", valid_type=DeepHModelData, required=False, help="The best weights so far.")
        spec.output(
            "history",
            valid_type=ArrayData,
            required=False,
            help="Per epoch: train_loss, validation_loss (eV^2), train_mae, validation_mae (eV), learning_rate.",
        )
        spec.exit_code(
            410, "ERROR_INTERRUPTED", "The training was interrupted after {epoch} epochs; a checkpoint is there."
        )
        spec.exit_code(415, "ERROR_NO_CHECKPOINT", "`restart_folder` cannot be continued from: {message}")
        spec.exit_code(420, "ERROR_DIVERGED", "{message}")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        config = parse_config(TrainConfig, {**inputs["parameters"].get_dict(), "dataset": DATASET}, "parameters")
        message = check_split(inputs["dataset"], config) or check_nodes(config, inputs["metadata"]["options"])
        if message is None and "initial_model" in inputs:
            message = check_elements(inputs["initial_model"], inputs["dataset"].elements)
        return message

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        info = super().prepare_for_submission(folder)
        # A scheduler signals all processes of a job. A shell that died of SIGTERM would end the job while the engine
        # still writes its checkpoint; one with a handler waits for the engine.
        info.prepend_text = "trap : TERM"
        if self.inputs.parameters.get("nodes", 1) > 1:
            # The computer's mpirun or srun starts the engine once on each node; torchrun does the rest.
            for run in info.codes_info or ():
                run.withmpi = True
        return info

    def stage(self, staging: Staging) -> dict[str, Any]:
        fields: dict[str, Any] = {"dataset": stage_dataset(staging, self.inputs.dataset, self.inputs.dataset_folder)}
        if "restart_folder" in self.inputs:
            fields["restart"] = staging.link(self.inputs.restart_folder, "restart", CHECKPOINT)
        if "initial_model" in self.inputs:
            fields["initial_model"] = staging.copy(self.inputs.initial_model, "initial_model")
        walltime = self.options.get("max_wallclock_seconds")
        if walltime is not None and self.inputs.parameters.get("max_seconds") is None:
            fields["max_seconds"] = seconds_within(walltime)
        staging.retrieve(METRICS_FILE, REPORT_FILE, PROGRESS_FILE)
        staging.retrieve_for_parser(f"{MODEL}/{DESCRIPTION_FILE}", f"{MODEL}/{WEIGHTS_FILE}")
        return fields


def check_split(dataset: DatasetData, config: TrainConfig) -> str | None:
    """The split leaves something to train and to test with."""
    try:
        split(dataset.manifest, config.split, config.split.seed)
    except InputError as error:
        return str(error)
    return None


def check_nodes(config: TrainConfig, options: Mapping[str, Any]) -> str | None:
    """Of a training on several nodes: the scheduler starts one process on each, which starts the others there.

    Schedulers that count no machines (LSF, SGE) are believed; the job itself looks at what it got.
    """
    resources = options.get("resources", {})
    wanted = {"num_machines": config.nodes, "num_mpiprocs_per_machine": 1}
    if config.nodes == 1 or all(resources.get(key, number) == number for key, number in wanted.items()):
        return None
    return str(
        InputError(
            "resources do not fit a training on several nodes",
            where="metadata.options.resources",
            found=dict(resources),
            expected=wanted,
            remedy="one process per node; `processes_per_node` in the parameters says how many it starts",
        )
    )


def seconds_within(walltime: int) -> float:
    """Time that a training may take within a walltime: start-up, the last epoch and the checkpoint need the rest."""
    return max(walltime - max(60.0, 0.05 * walltime), 0.5 * walltime)
