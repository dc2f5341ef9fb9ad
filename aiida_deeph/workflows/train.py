"""Train with recoveries, then test on held-out members."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import (
    BaseRestartWorkChain,
    ExitCode,
    ProcessBuilder,
    ProcessHandlerReport,
    ProcessSpec,
    ToContext,
    process_handler,
    while_,
)
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.calculations.staging import REMOTE_FOLDERS
from aiida_deeph.calculations.train import PROGRESS_FILE
from aiida_deeph.engine.nn.config import DEFAULT as DEFAULT_NETWORK
from aiida_deeph.processes.builder import filled_builder, job_inputs
from aiida_deeph.processes.options import GPUS
from aiida_deeph.processes.ports import expose_inputs, value_input
from aiida_deeph.processes.protocol import ProtocolMixin, merge
from aiida_deeph.processes.recovery import NO_ROOM, pause_for_room
from aiida_deeph.processes.resumable import ResumableRestartMixin

TrainCalculation = CalculationFactory("deeph.train")
EvaluateCalculation = CalculationFactory("deeph.evaluate")
DatasetData = DataFactory("deeph.dataset")

OUT_OF_MEMORY, SCHEDULER_MEMORY = 430, 110
# Cut off from outside: nothing came back, no time left, node failure, no results.
CUT_OFF = (100, 120, 140, 400)


class TrainWorkChain(ProtocolMixin, ResumableRestartMixin, BaseRestartWorkChain):
    """Train a network: an interrupted run goes on from its checkpoint, a diverged one from its best weights with a
    lower learning rate, one that ran out of memory in smaller pieces of each batch. Then evaluate the model."""

    _process_class = TrainCalculation
    _protocol_file = Path(__file__).parent / "protocols" / "train.yaml"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("dataset", valid_type=DatasetData, help="The manifest of the dataset.")
        spec.input("dataset_folder", valid_type=REMOTE_FOLDERS, help="Where its members lie.")
        expose_inputs(spec, TrainCalculation, namespace="train", exclude=("dataset", "dataset_folder"))
        expose_inputs(spec, EvaluateCalculation, namespace="evaluate", exclude=("dataset", "dataset_folder", "model"))
        value_input(spec, "max_divergences", orm.Int, "Restarts after a divergence.", 3)
        spec.input(
            "learning_rate_factor",
            valid_type=orm.Float,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Float(0.5),
            validator=lambda node, _: (
                None if node is None or 0 < node.value < 1 else f"found {node.value}, expected 0 < factor < 1"
            ),
            help="What a divergence multiplies the learning rate with.",
        )
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
            while_(cls.evaluation_open)(cls.run_evaluate, cls.inspect_evaluate),
        )
        spec.expose_outputs(TrainCalculation, include=("model", "history", "output_parameters"))
        spec.default_output_node = "output_parameters"
        spec.output("evaluation", valid_type=orm.Dict, required=False, help="Errors on the held-out members.")
        spec.output(
            "errors", valid_type=orm.Dict, required=False, help="Errors per member, pair of shells and distance, eV."
        )
        spec.exit_code(
            310, "ERROR_DIVERGED", message="The training diverged {count} times; the best model so far is an output."
        )
        spec.exit_code(
            320,
            "ERROR_OUT_OF_MEMORY",
            message="Out of memory even with a single structure's smallest share of a batch.",
        )
        spec.exit_code(
            330,
            "ERROR_EVALUATION_FAILED",
            message="The evaluation failed with exit status {status}; the model is an output.",
        )
        spec.exit_code(340, "ERROR_NO_MODEL", message="The training finished without a model.")

    def setup(self) -> None:
        """Inputs of the first run."""
        super().setup()
        self.ctx.inputs = self.exposed_inputs(TrainCalculation, namespace="train")
        self.ctx.inputs["dataset"] = self.inputs.dataset
        self.ctx.inputs["dataset_folder"] = self.inputs.dataset_folder
        self.ctx.inputs.setdefault("metadata", {}).update(
            label="train", description=f"train on {self.inputs.dataset.n_members} members"
        )
        self.ctx.divergences = 0
        # Where the present stretch began, and the folders with checkpoints that it has left since.
        self.ctx.start_model = self.ctx.inputs.get("initial_model")
        self.ctx.checkpoints = []

    def _change(self, **values: Any) -> None:
        self.ctx.inputs["parameters"] = orm.Dict({**self.ctx.inputs["parameters"].get_dict(), **values})

    def _continue_from(self, node: orm.CalcJobNode) -> None:
        self.ctx.checkpoints = [*self.ctx.checkpoints, node.outputs.remote_folder]
        self.ctx.inputs["restart_folder"] = node.outputs.remote_folder
        self.ctx.inputs.pop("initial_model", None)

    def _keep(self, node: orm.CalcJobNode) -> None:
        """Attach what a failed run left, best model included; the last one that has a model counts."""
        for known in [node, *reversed(self.ctx.children)]:
            if "model" in known.outputs:
                self._attach_outputs(known)
                return

    @process_handler(priority=500, exit_codes=TrainCalculation.exit_codes.ERROR_INTERRUPTED)
    def handle_interrupted(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Told to stop, or out of time, with a checkpoint: go on from there."""
        self._continue_from(node)
        return ProcessHandlerReport(True)

    @process_handler(priority=495, exit_codes=TrainCalculation.exit_codes.ERROR_NO_CHECKPOINT)
    def handle_no_checkpoint(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """A checkpoint has vanished or is damaged: from the one before, or from the beginning. A folder that the user
        gave is the user's mistake."""
        if not self.ctx.checkpoints:
            return None
        self.ctx.checkpoints = self.ctx.checkpoints[:-1]
        given = self.inputs.train.get("restart_folder")
        former = self.ctx.checkpoints[-1] if self.ctx.checkpoints else given
        if former is not None:
            self.ctx.inputs["restart_folder"] = former
        else:
            self.ctx.inputs.pop("restart_folder", None)
            if self.ctx.start_model is not None:
                self.ctx.inputs["initial_model"] = self.ctx.start_model
        self.report(f"no checkpoint: on from {'an earlier one' if former is not None else 'the beginning'}")
        return ProcessHandlerReport(True)

    @process_handler(
        priority=490,
        exit_codes=[TrainCalculation.exit_codes.ERROR_DIVERGED, TrainCalculation.exit_codes.STOPPED_BY_MONITOR],
    )
    def handle_diverged(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Best weights so far, lower learning rate, new optimiser; a monitor stops what has diverged without NaN."""
        self.ctx.divergences += 1
        if self.ctx.divergences > self.inputs.max_divergences.value:
            self._keep(node)
            return ProcessHandlerReport(True, self.exit_codes.ERROR_DIVERGED.format(count=self.ctx.divergences))
        default = TrainCalculation.CONFIG.model_fields["learning_rate"].default
        rate = self.ctx.inputs["parameters"].get("learning_rate", default) * self.inputs.learning_rate_factor.value
        self._change(learning_rate=rate)
        self.ctx.inputs.pop("restart_folder", None)
        best = next((known.outputs.model for known in reversed(self.ctx.children) if "model" in known.outputs), None)
        if best is not None:
            self.ctx.inputs["initial_model"] = best
        self.ctx.start_model, self.ctx.checkpoints = self.ctx.inputs.get("initial_model"), []
        self.report(
            f"diverged: learning rate {rate:.3g} from {'the best weights' if best is not None else 'the beginning'}"
        )
        return ProcessHandlerReport(True)

    @process_handler(priority=480)
    def handle_out_of_memory(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Half of the edges at a time; gradients accumulate, so that the effective batch stays the same."""
        if node.exit_status not in (OUT_OF_MEMORY, SCHEDULER_MEMORY):
            return None
        known = self.ctx.inputs["parameters"].get("max_edges_per_batch")
        edges = (known or self._edges_per_batch()) // 2
        if edges < 1:
            self._keep(node)
            return ProcessHandlerReport(True, self.exit_codes.ERROR_OUT_OF_MEMORY)
        self._change(max_edges_per_batch=edges)
        if has_checkpoint(node):
            self._continue_from(node)
        self.report(f"out of memory: at most {edges} edges at a time")
        return ProcessHandlerReport(True)

    def _edges_per_batch(self) -> int:
        """Largest number of edges in a batch of this dataset."""
        largest = max(member.n_pairs for member in self.inputs.dataset.members)
        return int(largest * self.ctx.inputs["parameters"].get("batch_size", 1))

    @process_handler(priority=475, exit_codes=TrainCalculation.exit_codes.ERROR_NO_SPACE)
    def handle_no_space(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Nothing goes on until somebody has made room: wait for `verdi process play`."""
        if has_checkpoint(node):
            self._continue_from(node)
        pause_for_room(self, node)
        return ProcessHandlerReport(True)

    @process_handler(priority=470)
    def handle_retryable(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Cut off by the scheduler, cancelled, or a node that died: on from the last checkpoint, if there is one."""
        if node.exit_status not in CUT_OFF:
            return None
        if has_checkpoint(node):
            self._continue_from(node)
        self.report(
            f"exit status {node.exit_status}: {'from the checkpoint' if has_checkpoint(node) else 'from the beginning'}"
        )
        return ProcessHandlerReport(True)

    def evaluation_open(self) -> bool:
        """Whether the model is still to be tested: not yet, or the machine had no room."""
        return "evaluate" not in self.ctx or self.ctx.evaluate.exit_status in NO_ROOM

    def run_evaluate(self) -> ToContext | ExitCode:
        """Test the model on members that it has not seen."""
        if "model" not in self.outputs:
            return self.exit_codes.ERROR_NO_MODEL
        inputs = self.exposed_inputs(EvaluateCalculation, namespace="evaluate")
        inputs |= {
            "dataset": self.inputs.dataset,
            "dataset_folder": self.inputs.dataset_folder,
            "model": self.outputs["model"],
        }
        parameters = inputs["parameters"].get_dict() if "parameters" in inputs else {}
        part = part_to_evaluate(self.outputs["model"])
        if part != "test" and "members" not in parameters:
            self.report(f"the split has no test members: errors are those of its {part} members")
            inputs["parameters"] = orm.Dict({**parameters, "members": part})
        self.ctx.n_evaluations = number = self.ctx.get("n_evaluations", 0) + 1
        node = self.submit_once(
            EvaluateCalculation,
            inputs,
            name="evaluate" if number == 1 else f"evaluate_{number:02d}",
            label="evaluate",
            description="errors of the model on held-out members",
        )
        return ToContext(evaluate=node)

    def inspect_evaluate(self) -> ExitCode | None:
        """Attach the errors; wait where the machine has no room."""
        node = self.ctx.evaluate
        if node.exit_status in NO_ROOM:
            pause_for_room(self, node)
            return None
        if not node.is_finished_ok:
            return self.failure(self.exit_codes.ERROR_EVALUATION_FAILED, node)
        self.out("evaluation", node.outputs.output_parameters)
        self.attach(node, "errors")
        return None

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: Mapping[str, Any] | None = None, where: str = "overrides"
    ) -> dict[str, Any]:
        """Plain inputs of a protocol; overrides of a network without a name are those of the default network."""
        place: Any = overrides or {}
        for key in ("train", "parameters", "network"):
            place = place.get(key, {}) if isinstance(place, Mapping) else {}
        if place and "name" not in place:
            named = {"train": {"parameters": {"network": {"name": DEFAULT_NETWORK, **place}}}}
            overrides = merge(overrides or {}, named)
        return super().get_protocol_inputs(protocol, overrides, where)

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        dataset: orm.Data,
        dataset_folder: orm.RemoteData,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol."""
        values = cls.train_inputs(code, protocol, overrides, options)
        return filled_builder(cls, {**values, "dataset": dataset, "dataset_folder": dataset_folder})

    @classmethod
    def train_inputs(
        cls,
        code: orm.AbstractCode,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        where: str = "overrides",
    ) -> dict[str, Any]:
        """Inputs of a protocol as nested plain values, without the dataset.

        The training has a process for each of `gpus_per_node` on each machine of `options`; the test takes one GPU.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides, where)
        train, test = inputs.get("train", {}), inputs.get("evaluate", {})
        of_train, of_test = (own_options(options, overrides, step) for step in ("train", "evaluate"))
        wanted = merge(train.get("metadata", {}).get("options", {}), of_train)
        return {
            **inputs,
            "train": job_inputs(code, on_all_gpus(train, wanted), one_process_per_node(of_train)),
            "evaluate": job_inputs(code, test, on_one_gpu(of_test)),
        }


def own_options(options: Mapping[str, Any] | None, overrides: Mapping[str, Any] | None, step: str) -> dict[str, Any]:
    """Options of one step: those of all steps, and over them what the overrides say of this one."""
    own = ((overrides or {}).get(step) or {}).get("metadata", {}).get("options", {})
    return merge(options or {}, own)


def on_all_gpus(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a training with as many processes as the options have GPUs, unless the parameters say it."""
    gpus, machines = options.get(GPUS) or 1, options.get("resources", {}).get("num_machines", 1)
    counts = {"processes_per_node": gpus, "nodes": machines}
    counts = {name: number for name, number in counts.items() if isinstance(number, int) and number > 1}
    return {**inputs, "parameters": merge(counts, inputs.get("parameters", {}))}


def one_process_per_node(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of a job whose only process on each of several machines starts the others there."""
    result = dict(options or {})
    if result.get("resources", {}).get("num_machines", 1) > 1:
        result["resources"] = {**result["resources"], "num_mpiprocs_per_machine": 1}
    return result


def on_one_gpu(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of a job that uses one GPU of one machine."""
    result = one_process_per_node(options)
    if result.get("resources", {}).get("num_machines", 1) > 1:
        result["resources"] = {**result["resources"], "num_machines": 1}
    if isinstance(result.get(GPUS), int) and result[GPUS] > 1:
        result[GPUS] = 1
    return result


def has_checkpoint(node: orm.CalcJobNode) -> bool:
    """Whether a run has written a checkpoint of its own, beside the one that it may have continued from."""
    if "retrieved" not in node.outputs:
        return False
    try:
        node.outputs.retrieved.base.repository.get_object(PROGRESS_FILE)
    except FileNotFoundError:
        return False
    return True


def part_to_evaluate(model: Any) -> str:
    """The part of a model's split that it has seen least of, among those that have members.

    :param model: a DeepHModelData.
    """
    recorded = model.model_description.training.get("split", {})
    return next((part for part in ("test", "validation", "train") if recorded.get(part)), "test")
