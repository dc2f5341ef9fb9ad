"""All of it: from structures to the electronic structure of a large one."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, while_
from aiida.plugins import DataFactory

from aiida_deeph.calculations.staging import REMOTE_FOLDERS
from aiida_deeph.processes.ports import expose_inputs
from aiida_deeph.processes.resumable import ABANDONED
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.dataset_report import summarise
from aiida_deeph.workflows.full_inputs import FullProtocolMixin, validate_full
from aiida_deeph.workflows.target_pool import TargetPoolMixin
from aiida_deeph.workflows.train import TrainWorkChain


class FullWorkChain(FullProtocolMixin, TargetPoolMixin, WorkChain):
    """Dataset, training and test; then, for every target, H(R), bands and density of states; and for every validation
    structure predicted bands against a DFT run of that same structure."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        expose_inputs(spec, DatasetWorkChain, namespace="dataset")
        expose_inputs(spec, TrainWorkChain, namespace="train", exclude=("dataset", "dataset_folder"))
        cls.define_targets(spec)
        spec.inputs.validator = validate_full
        spec.outline(
            cls.run_dataset,
            cls.inspect_dataset,
            cls.run_train,
            cls.inspect_train,
            cls.start_pool,
            while_(cls.pool_open)(cls.fill_pool),
            cls.results,
        )
        spec.output("dataset", valid_type=DataFactory("deeph.dataset"), required=False)
        spec.output("dataset_folder", valid_type=REMOTE_FOLDERS, required=False)
        spec.output("model", valid_type=DataFactory("deeph.model"), required=False)
        spec.output("history", valid_type=orm.ArrayData, required=False)
        spec.output("evaluation", valid_type=orm.Dict, required=False)
        spec.output("errors", valid_type=orm.Dict, required=False)
        spec.output("output_parameters", valid_type=orm.Dict, required=False, help="The numbers of the whole run.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_DATASET_FAILED", message="The dataset failed: {reason}")
        spec.exit_code(320, "ERROR_TRAINING_FAILED", message="The training failed: {reason}")

    # dataset and training

    def run_dataset(self) -> ToContext:
        """Label and preprocess."""
        self.ctx.failed = {}
        inputs = self.exposed_inputs(DatasetWorkChain, namespace="dataset")
        node = self.submit_once(
            DatasetWorkChain,
            inputs,
            name="dataset",
            label="1 dataset",
            description="perturb, label by DFT, gate and convert",
        )
        return ToContext(dataset=node)

    def inspect_dataset(self) -> ExitCode | None:
        """Attach the dataset."""
        node = self.ctx.dataset
        self.attach(node, "dataset", "dataset_folder")
        return None if node.is_finished_ok else self.failure(self.exit_codes.ERROR_DATASET_FAILED, node)

    def run_train(self) -> ToContext:
        """Train and test."""
        inputs = self.exposed_inputs(TrainWorkChain, namespace="train")
        inputs |= {
            "dataset": self.ctx.dataset.outputs.dataset,
            "dataset_folder": self.ctx.dataset.outputs.dataset_folder,
        }
        node = self.submit_once(
            TrainWorkChain,
            inputs,
            name="train",
            label="2 train",
            description="train DeepH-E3, test on held-out members",
        )
        return ToContext(train=node)

    def inspect_train(self) -> ExitCode | None:
        """Attach the model, also of a training that failed half-way."""
        node = self.ctx.train
        self.attach(node, "model", "history", "evaluation", "errors")
        return None if node.is_finished_ok else self.failure(self.exit_codes.ERROR_TRAINING_FAILED, node)

    # the pool of targets and validation structures

    def model(self) -> orm.Data:
        """What the training gave."""
        return self.ctx.train.outputs.model

    def labelling(self) -> tuple[orm.Str, dict[str, Any]]:
        """That of the dataset."""
        dataset = self.exposed_inputs(DatasetWorkChain, namespace="dataset")
        return self.inputs.dataset.label_workchain, dict(dataset["label"])

    # results

    def results(self) -> ExitCode | None:
        """Attach everything, and one Dict with the numbers."""
        collected = self.attach_results()
        summary = self.call_once(
            summarise,
            "summary",
            times=orm.Dict(self._times()),
            dataset=self.ctx.dataset.outputs.output_parameters,
            training=self.ctx.train.outputs.output_parameters,
            evaluation=self.ctx.train.outputs.evaluation,
            **collected["comparison"],
        )
        self.out("output_parameters", summary)
        return self.verdict()

    def _times(self) -> dict[str, float]:
        """Seconds from the submission of each child to its end."""
        times = {}
        for link in self.node.base.links.get_outgoing(node_class=orm.WorkChainNode).all():
            if ABANDONED in link.node.base.extras:
                continue
            times[link.link_label] = round((link.node.mtime - link.node.ctime).total_seconds(), 1)
        return times
