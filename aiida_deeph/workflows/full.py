"""All of it: from structures to the electronic structure of a large one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, while_
from aiida.plugins import DataFactory

from aiida_deeph.engine.errors import InputError
from aiida_deeph.workflows.bands import BandsWorkChain
from aiida_deeph.workflows.builder import filled_builder
from aiida_deeph.workflows.checks import check_split
from aiida_deeph.workflows.dataset import DatasetWorkChain, checked_label_class, codes_of, reason_of, validate_positive
from aiida_deeph.workflows.functions.bands import band_kpoints, compare_band_structures
from aiida_deeph.workflows.functions.summary import summarise
from aiida_deeph.workflows.label.base import LabelWorkChain
from aiida_deeph.workflows.label.registry import label_class
from aiida_deeph.workflows.pool import PoolMixin
from aiida_deeph.workflows.ports import expose_inputs
from aiida_deeph.workflows.predict import PredictWorkChain
from aiida_deeph.workflows.protocol import ProtocolMixin
from aiida_deeph.workflows.train import TrainWorkChain

STEPS = ("dataset", "train", "label", "predict", "bands", "total")


class FullWorkChain(ProtocolMixin, PoolMixin, WorkChain):
    """Dataset, training and test; then, for every target, H(R), bands and density of states; and for every validation
    structure predicted bands against a DFT run of that same structure."""

    _protocol = "full"

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
        spec.inputs.validator = cls._validate
        spec.outline(
            cls.run_dataset,
            cls.inspect_dataset,
            cls.run_train,
            cls.inspect_train,
            cls.start_labels,
            while_(cls.pool_open)(cls.fill_pool),
            cls.start_predictions,
            while_(cls.pool_open)(cls.fill_pool),
            cls.start_bands,
            while_(cls.pool_open)(cls.fill_pool),
            cls.compare,
            cls.results,
        )
        spec.output("dataset", valid_type=DataFactory("deeph.dataset"), required=False)
        spec.output("dataset_folder", valid_type=orm.RemoteData, required=False)
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
        spec.output_namespace("dos", valid_type=orm.ArrayData, dynamic=True, help="Per target.")
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
        spec.exit_code(330, "ERROR_ALL_TARGETS_FAILED", message="No target has bands: {reasons}")
        spec.exit_code(710, "WARNING_SOME_FAILED", message="Finished, but some structures failed: {reasons}")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        if "dataset" not in inputs or "train" not in inputs:
            return None
        dataset = inputs["dataset"]
        targets, validation = set(inputs.get("targets", {})), set(inputs.get("validation", {}))
        if targets & validation:
            return f"a name stands in both targets and validation: {', '.join(sorted(targets & validation))}"
        strange = sorted(set(inputs.get("kpoints", {})) - targets - validation)
        if strange:
            return f"kpoints of no target or validation structure: {', '.join(strange)}"
        known = {symbol for node in dataset.get("structures", {}).values() for symbol in node.get_symbols_set()}
        for group in ("targets", "validation"):
            for name, structure in inputs.get(group, {}).items():
                unknown = sorted(structure.get_symbols_set() - known)
                if unknown:
                    return (
                        f"{group}.{name} holds {', '.join(unknown)}, which the model would not know: "
                        f"the structures of the dataset hold {', '.join(sorted(known))}"
                    )
        n = dataset["perturbation"]["n"] if "perturbation" in dataset else len(dataset.get("structures", {}))
        parameters = (
            inputs["train"]["train"]["parameters"].get_dict()
            if "parameters" in inputs["train"].get("train", {})
            else {}
        )
        return check_split(n, parameters.get("split", {}))

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

    # three pools, one after the other: DFT of the validation structures, predictions, bands

    def start_labels(self) -> None:
        """DFT runs of the validation structures."""
        self.ctx.stage = "label"
        self.ctx.kpoints = {}
        self.start_pool()

    def start_predictions(self) -> None:
        """Predictions of targets and validation structures."""
        self.ctx.stage = "predict"
        self.start_pool()

    def start_bands(self) -> None:
        """Bands of all that was predicted."""
        self.ctx.stage = "bands"
        self.start_pool()

    def structures(self) -> dict[str, orm.StructureData]:
        """Targets and validation structures by name."""
        return {**self.inputs.get("targets", {}), **self.inputs.get("validation", {})}

    def pool_members(self) -> list[str]:
        """Structures that the present stage treats."""
        if self.ctx.stage == "label":
            return sorted(self.inputs.get("validation", {}))
        return sorted(
            name
            for name in self.structures()
            if self.ctx.stage == "predict" or self._ended("predict", name) is not None
        )

    def pool_size(self) -> int:
        """Structures at a time."""
        size: int = self.inputs.max_concurrent.value
        return size

    def pool_status(self) -> str:
        """Stage and its state."""
        return f"{self.ctx.stage}: {super().pool_status()}"

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit one structure of the present stage."""
        submit = {"label": self._submit_label, "predict": self._submit_predict, "bands": self._submit_bands}[
            self.ctx.stage
        ]
        return submit(name)

    def member_ended(self, name: str, node: orm.ProcessNode) -> None:
        """Note a failure; the other structures go on."""
        if not node.is_finished_ok:
            self.ctx.failed[f"{self.ctx.stage} {name}"] = reason_of(node)
            self.report(f"{self.ctx.stage} {name} failed: {reason_of(node)}")

    def _submit_label(self, name: str) -> orm.ProcessNode:
        structure = self.inputs.validation[name]
        workchain = label_class(self.inputs.dataset.label_workchain.value)
        inputs = dict(self.exposed_inputs(DatasetWorkChain, namespace="dataset")["label"])
        inputs |= {"structure": structure, "bands_kpoints": self._kpoints(name)}
        if "validation_mesh" in self.inputs:
            inputs["kpoints"] = self.inputs.validation_mesh
        return self.submit_once(
            workchain,
            inputs,
            name=f"label_{name}",
            label=f"3 validate {name}",
            description=f"DFT bands of {structure.get_formula()}",
        )

    def _kpoints(self, name: str) -> orm.KpointsData:
        """k-points at which a validation structure is compared."""
        given = self.inputs.get("kpoints", {})
        if name in given:
            return given[name]
        path = self.inputs.bands.kpath.value if "kpath" in self.inputs.bands else None
        settings = orm.Dict({"path": path, "points_per_segment": self.inputs.bands.points_per_segment.value})
        return self.call_once(
            band_kpoints, f"kpoints_{name}", structure=self.inputs.validation[name], settings=settings
        )

    def _submit_predict(self, name: str) -> orm.ProcessNode:
        structure = self.structures()[name]
        inputs = self.exposed_inputs(PredictWorkChain, namespace="predict")
        inputs |= {"structure": structure, "model": self.ctx.train.outputs.model}
        return self.submit_once(
            PredictWorkChain,
            inputs,
            name=f"predict_{name}",
            label=f"4 predict {name}",
            description=f"H(R) of {structure.get_formula()}",
        )

    def _submit_bands(self, name: str) -> orm.ProcessNode:
        inputs = self.exposed_inputs(BandsWorkChain, namespace="bands")
        predicted = self.child(f"predict_{name}")
        if "hamiltonian" in predicted.outputs:
            inputs["hamiltonian"] = predicted.outputs.hamiltonian
        else:
            inputs["hamiltonian_folder"] = predicted.outputs.remote_folder
            inputs["structure"] = self.structures()[name]
        if name in self.inputs.get("validation", {}):
            inputs.pop("dos", None)
        if name in self.inputs.get("validation", {}) or name in self.inputs.get("kpoints", {}):
            inputs.pop("kpath", None)
            inputs["kpoints"] = self._kpoints(name)
        formula = self.structures()[name].get_formula()
        return self.submit_once(
            BandsWorkChain,
            inputs,
            name=f"bands_{name}",
            label=f"5 bands {name}",
            description=f"bands and density of states of {formula}",
        )

    def _ended(self, stage: str, name: str) -> orm.ProcessNode | None:
        """The child of a stage if it succeeded."""
        node = self.child(f"{stage}_{name}")
        return node if node is not None and node.is_finished_ok else None

    # results

    def compare(self) -> None:
        """Predicted bands against DFT."""
        for name in sorted(self.inputs.get("validation", {})):
            label, bands = self._ended("label", name), self._ended("bands", name)
            if label is None or bands is None or "output_band" not in label.outputs:
                continue
            occupied = bands.outputs.output_parameters.get("n_occupied", None)
            if occupied is None:
                self.report(f"{name}: occupied bands unknown, not compared")
                continue
            self.call_once(
                compare_band_structures,
                f"compare_{name}",
                predicted=bands.outputs.bands,
                reference=label.outputs.output_band,
                settings=orm.Dict({"n_occupied": occupied, "alignment": "mean_occupied"}),
            )

    def results(self) -> ExitCode | None:
        """Attach everything, and one Dict with the numbers."""
        collected: dict[str, dict[str, orm.Node]] = {
            key: {} for key in ("hamiltonian", "bands", "dos", "dft_bands", "comparison")
        }
        for name in self.structures():
            predicted, bands, label = (self._ended(stage, name) for stage in ("predict", "bands", "label"))
            compared = self._ended("compare", name)
            for key, node, output in (
                ("hamiltonian", predicted, "hamiltonian"),
                ("bands", bands, "bands"),
                ("dos", bands, "dos"),
                ("dft_bands", label, "output_band"),
                ("comparison", compared, "result"),
            ):
                if node is not None and output in node.outputs:
                    collected[key][name] = node.outputs[output]
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
        if targets and not targets & set(collected["bands"]):
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
            times[link.link_label] = round((link.node.mtime - link.node.ctime).total_seconds(), 1)
        return times

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structures: Mapping[str, orm.StructureData],
        targets: Mapping[str, orm.StructureData] | None = None,
        validation: Mapping[str, orm.StructureData] | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = "deeph.label.pyscf",
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param codes: `engine` (deeph-engine) and `dft`; one code that is both may stand for both.
        :param structures: structures to label, or parents if the overrides hold `dataset.perturbation`.
        :param targets: large structures.
        :param validation: structures on which bands are compared with DFT.
        :param overrides: mirror the ports: `dataset.label.parameters`, `train.train.parameters`, `bands.kpath`, ...
        :param label: entry point of the labelling workchain.
        :raises InputError: anything that cannot run.
        """
        engine, _ = codes_of(codes)
        own = {
            key: value
            for key, value in (overrides or {}).items()
            if key not in ("dataset", "train", "predict", "bands")
        }
        inputs = cls.get_protocol_inputs(protocol, own)
        nested = {key: (overrides or {}).get(key) for key in ("dataset", "train", "predict", "bands")}
        dataset = DatasetWorkChain.dataset_inputs(
            codes, structures, protocol, nested["dataset"], options, label, "overrides.dataset"
        )
        workchain: type[LabelWorkChain] = checked_label_class(label)
        parameters = dataset["label"]["parameters"]
        symbols = {symbol for structure in structures.values() for symbol in structure.get_symbols_set()}
        basis = workchain.overlap_basis(parameters, symbols)
        n = dataset["perturbation"]["n"] if dataset.get("perturbation") else len(structures)
        train = TrainWorkChain.train_inputs(engine, protocol, nested["train"], options, "overrides.train")
        message = check_split(n, train["train"].get("parameters", {}).get("split", {}))
        if message:
            raise InputError(message)
        values = {
            **inputs,
            "dataset": dataset,
            "train": train,
            "predict": PredictWorkChain.predict_inputs(
                engine, protocol, nested["predict"], options, basis, "overrides.predict"
            ),
            "bands": BandsWorkChain.bands_inputs(engine, protocol, nested["bands"], options, "overrides.bands"),
            "targets": dict(targets or {}),
            "validation": dict(validation or {}),
        }
        return filled_builder(cls, values)
