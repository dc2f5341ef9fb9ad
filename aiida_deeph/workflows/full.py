"""All of it: from structures to the electronic structure of a large one."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, while_
from aiida.plugins import DataFactory

from aiida_deeph.calculations.staging import REMOTE_FOLDERS
from aiida_deeph.engine.config import parse_config
from aiida_deeph.processes.pool import PoolMixin
from aiida_deeph.processes.ports import expose_inputs
from aiida_deeph.processes.resumable import ABANDONED, reason_of
from aiida_deeph.workflows.bands import OTHERS, BandsWorkChain
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.dataset_inputs import validate_positive
from aiida_deeph.workflows.dataset_report import summarise
from aiida_deeph.workflows.full_inputs import FullProtocolMixin, validate_full
from aiida_deeph.workflows.predict import PredictWorkChain
from aiida_deeph.workflows.target import OBSERVED, TargetSettings, TargetWorkChain, validate_settings
from aiida_deeph.workflows.train import TrainWorkChain

# What a structure may yield; of a target without labelling the last two stay empty.
RESULTS = ("hamiltonian", "bands", *OBSERVED, "dft_bands", "comparison")


class FullWorkChain(FullProtocolMixin, PoolMixin, WorkChain):
    """Dataset, training and test; then, for every target, H(R), bands and density of states; and for every validation
    structure predicted bands against a DFT run of that same structure."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        expose_inputs(spec, DatasetWorkChain, namespace="dataset")
        expose_inputs(spec, TrainWorkChain, namespace="train", exclude=("dataset", "dataset_folder"))
        expose_inputs(spec, PredictWorkChain, namespace="predict", exclude=("structure", "model"))
        expose_inputs(
            spec,
            BandsWorkChain,
            namespace="bands",
            exclude=("hamiltonian", "hamiltonian_folder", "structure", "kpoints"),
        )
        spec.input_namespace(
            "targets",
            valid_type=orm.StructureData,
            dynamic=True,
            required=False,
            help="Large structures whose H, bands and DOS are wanted.",
        )
        spec.input_namespace(
            "validation",
            valid_type=orm.StructureData,
            dynamic=True,
            required=False,
            help="Structures on which bands are compared with DFT.",
        )
        spec.input_namespace(
            "kpoints",
            valid_type=orm.KpointsData,
            dynamic=True,
            required=False,
            help="k-points of the bands of a target or validation structure, by its name; else the path.",
        )
        spec.input_namespace(
            "reference_bands",
            valid_type=orm.BandsData,
            dynamic=True,
            required=False,
            help="DFT bands of a validation structure, by its name, that are known already: it is not labelled then.",
        )
        spec.input_namespace(
            "settings",
            valid_type=orm.Dict,
            dynamic=True,
            required=False,
            validator=validate_settings,
            help="What a target or validation structure, by its name, has otherwise than the rest: see TargetSettings.",
        )
        spec.input(
            "validation_mesh",
            valid_type=orm.KpointsData,
            required=False,
            help="k-mesh of the SCF of validation structures; else that of the labels.",
        )
        spec.input(
            "max_concurrent",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Int(2),
            validator=validate_positive,
            help="Targets and validation structures at a time.",
        )
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
        spec.output_namespace(
            "hamiltonian",
            valid_type=DataFactory("deeph.hamiltonian"),
            dynamic=True,
            help="Per target and validation structure.",
        )
        spec.output_namespace(
            "bands", valid_type=orm.BandsData, dynamic=True, help="Predicted, per target and validation structure."
        )
        for label, kind in OBSERVED.items():
            spec.output_namespace(label, valid_type=kind, dynamic=True, help="Per target.")
        spec.output_namespace(
            "dft_bands", valid_type=orm.BandsData, dynamic=True, help="DFT, per validation structure."
        )
        spec.output_namespace(
            "comparison", valid_type=orm.Dict, dynamic=True, help="Predicted against DFT, per validation structure."
        )
        spec.output("output_parameters", valid_type=orm.Dict, required=False, help="The numbers of the whole run.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_DATASET_FAILED", message="The dataset failed: {reason}")
        spec.exit_code(320, "ERROR_TRAINING_FAILED", message="The training failed: {reason}")
        spec.exit_code(330, "ERROR_ALL_TARGETS_FAILED", message="All targets failed: {reasons}")
        spec.exit_code(710, "WARNING_SOME_FAILED", message="Finished, but some structures failed: {reasons}")

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
        for name in ("dataset", "dataset_folder"):
            if name in node.outputs:
                self.out(name, node.outputs[name])
        if not node.is_finished_ok:
            exit_code: ExitCode = self.exit_codes.ERROR_DATASET_FAILED.format(reason=reason_of(node))
            return exit_code
        return None

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
        for name in ("model", "history", "evaluation", "errors"):
            if name in node.outputs:
                self.out(name, node.outputs[name])
        if not node.is_finished_ok:
            exit_code: ExitCode = self.exit_codes.ERROR_TRAINING_FAILED.format(reason=reason_of(node))
            return exit_code
        return None

    # the pool of targets and validation structures

    def pool_members(self) -> list[str]:
        """Names of targets and validation structures."""
        return sorted(self.structures())

    def structures(self) -> dict[str, orm.StructureData]:
        """Targets and validation structures by name."""
        return {**self.inputs.get("targets", {}), **self.inputs.get("validation", {})}

    def pool_size(self) -> int:
        """Structures at a time."""
        size: int = self.inputs.max_concurrent.value
        return size

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit one structure."""
        structure = self.structures()[name]
        validated = name in self.inputs.get("validation", {})
        inputs = {
            "structure": structure,
            "model": self.ctx.train.outputs.model,
            "predict": self.exposed_inputs(PredictWorkChain, namespace="predict"),
            "bands": self.exposed_inputs(BandsWorkChain, namespace="bands"),
        }
        if name in self.inputs.get("reference_bands", {}):
            inputs["reference_bands"] = self.inputs.reference_bands[name]
        elif name in self.inputs.get("kpoints", {}):
            inputs["kpoints"] = self.inputs.kpoints[name]
        if validated:
            inputs["bands"] = {name: value for name, value in inputs["bands"].items() if name not in OTHERS}
        if validated and "reference_bands" not in inputs:
            inputs["label_workchain"] = self.inputs.dataset.label_workchain
            inputs["label"] = dict(self.exposed_inputs(DatasetWorkChain, namespace="dataset")["label"])
            if "validation_mesh" in self.inputs:
                inputs["label"]["kpoints"] = self.inputs.validation_mesh
        if name in self.inputs.get("settings", {}):
            settings = parse_config(TargetSettings, self.inputs.settings[name].get_dict(), f"settings.{name}")
            inputs = settings.applied(inputs)
        step, aim = ("validate", "predicted bands against DFT") if validated else ("target", "H(R), bands and DOS")
        return self.submit_once(
            TargetWorkChain,
            inputs,
            name=f"{step}_{name}",
            label=f"3 {step} {name}",
            description=f"{aim} of {structure.get_formula()}",
        )

    def member_ended(self, name: str, node: orm.ProcessNode) -> None:
        """Note a failure; the other structures go on."""
        if not node.is_finished_ok:
            self.ctx.failed[name] = reason_of(node)
            self.report(f"{name} failed: {reason_of(node)}")

    # results

    def results(self) -> ExitCode | None:
        """Attach everything, and one Dict with the numbers."""
        collected: dict[str, dict[str, orm.Node]] = {key: {} for key in RESULTS}
        for name in self.structures():
            node = self.child(f"target_{name}") or self.child(f"validate_{name}")
            for key in RESULTS:
                if node is not None and key in node.outputs:
                    collected[key][name] = node.outputs[key]
        for key, nodes in collected.items():
            if nodes:
                self.out(key, nodes)
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
        targets = set(self.inputs.get("targets", {}))
        if targets and targets <= set(self.ctx.failed):
            return self.exit_codes.ERROR_ALL_TARGETS_FAILED.format(reasons=self._reasons())
        if self.ctx.failed:
            exit_code: ExitCode = self.exit_codes.WARNING_SOME_FAILED.format(reasons=self._reasons())
            return exit_code
        return None

    def _reasons(self) -> str:
        return "; ".join(f"{name}: {reason}" for name, reason in sorted(self.ctx.failed.items()))

    def _times(self) -> dict[str, float]:
        """Seconds from the submission of each child to its end."""
        times = {}
        for link in self.node.base.links.get_outgoing(node_class=orm.WorkChainNode).all():
            if ABANDONED in link.node.base.extras:
                continue
            times[link.link_label] = round((link.node.mtime - link.node.ctime).total_seconds(), 1)
        return times
