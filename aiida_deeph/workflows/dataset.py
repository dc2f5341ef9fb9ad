"""Many labels, one dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, if_, while_
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.structures.design import DesignConfig
from aiida_deeph.workflows.builder import codes_of, filled_builder, job_inputs
from aiida_deeph.workflows.failure import reason_of
from aiida_deeph.workflows.functions.dataset import report_dataset, report_failure
from aiida_deeph.workflows.functions.perturb import cell_name, perturb_structures
from aiida_deeph.workflows.label.base import LabelWorkChain
from aiida_deeph.workflows.label.registry import checked_label_class, label_class, validate_label_workchain
from aiida_deeph.workflows.pool import PoolMixin
from aiida_deeph.workflows.ports import expose_inputs
from aiida_deeph.workflows.protocol import ProtocolMixin

PreprocessCalculation = CalculationFactory("deeph.preprocess")
HamiltonianData = DataFactory("deeph.hamiltonian")

# Cells that one calcfunction makes: short enough not to keep the other processes of a daemon worker waiting.
BATCH = 50
WARNING = 700


def batch_name(first: int) -> str:
    """Name of the call that draws the cells from a number on."""
    return f"perturb_{first:04d}"


def validate_perturbation(node: orm.Dict | None, _: Any) -> str | None:
    """Message if the settings are wrong."""
    if node is None:
        return None
    try:
        parse_config(DesignConfig, node.get_dict(), "perturbation")
    except DeepHError as error:
        return str(error)
    return None


def validate_positive(node: orm.Int | None, _: Any) -> str | None:
    """Message if a count is below one."""
    return f"found {node.value}, expected at least 1" if node is not None and node.value < 1 else None


def validate_share(node: orm.Float | None, _: Any) -> str | None:
    """Message if a share is not within [0, 1)."""
    return f"found {node.value}, expected 0 <= share < 1" if node is not None and not 0 <= node.value < 1 else None


class DatasetWorkChain(ProtocolMixin, PoolMixin, WorkChain):
    """Label structures by DFT, a bounded number at a time, and turn the raw output into one dataset.

    With `perturbation`, the structures are parents around which cells are drawn; else they are labelled as they are.
    Labels that are there already join the dataset, or make it alone.
    """

    _protocol = "dataset"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input_namespace(
            "structures",
            valid_type=orm.StructureData,
            dynamic=True,
            required=False,
            help="Structures to label, or parents of cells.",
        )
        spec.input_namespace(
            "labels",
            valid_type=HamiltonianData,
            dynamic=True,
            required=False,
            help="Labels that are there already, by member name: beside those of the structures, or alone.",
        )
        spec.input(
            "perturbation",
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            required=False,
            validator=validate_perturbation,
            help="How cells are drawn around the structures: n, seed, supercell, and amplitude, strain or a design.",
        )
        spec.input(
            "label_workchain",
            valid_type=orm.Str,
            serializer=orm.to_aiida_type,
            required=False,
            validator=validate_label_workchain,
            help="Entry point of the workchain that labels, e.g. `deeph.label.pyscf`.",
        )
        expose_inputs(
            spec,
            LabelWorkChain,
            namespace="label",
            exclude=("structure", "bands_kpoints"),
            namespace_options={"required": False, "populate_defaults": False},
        )
        expose_inputs(spec, PreprocessCalculation, namespace="preprocess", exclude=("labels", "hamiltonians", "reader"))
        spec.input(
            "max_concurrent",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Int(4),
            validator=validate_positive,
            help="Labels in flight at a time; the next is submitted as soon as one ends.",
        )
        spec.input(
            "max_failed_fraction",
            valid_type=orm.Float,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Float(0.1),
            validator=validate_share,
            help="Share of labels that may fail.",
        )
        spec.inputs.validator = cls._validate
        spec.outline(
            cls.setup,
            if_(cls.has_perturbation)(while_(cls.cells_missing)(cls.perturb)),
            cls.start_pool,
            while_(cls.pool_open)(cls.fill_pool),
            cls.inspect_labels,
            cls.run_preprocess,
            cls.results,
        )
        spec.output("dataset", valid_type=orm.Data, help="The manifest of the dataset.")
        spec.output("dataset_folder", valid_type=orm.RemoteData, help="Where the members lie.")
        spec.output(
            "output_parameters", valid_type=orm.Dict, help="Members, failed and rejected ones by name with the reason."
        )
        spec.default_output_node = "output_parameters"
        spec.exit_code(
            310,
            "ERROR_TOO_MANY_FAILED_LABELS",
            message="Too many labels failed: {failed} of {total}.",
        )
        spec.exit_code(
            320, "ERROR_PREPROCESS_FAILED", message="The preprocess job failed with exit status {status}: {message}"
        )

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        structures, labels = inputs.get("structures", {}), inputs.get("labels", {})
        if not structures and not labels:
            return "no `structures` and no `labels`: give at least one"
        if "perturbation" in inputs and not structures:
            return "`perturbation` without `structures` to draw cells around"
        if structures and "label_workchain" not in inputs:
            return "`structures` without the `label_workchain` that labels them"
        names = cls._cell_names(structures, inputs.get("perturbation"))
        if set(names) & set(labels):
            return f"a name stands in both structures and labels: {', '.join(sorted(set(names) & set(labels)))}"
        if "label" not in inputs or "label_workchain" not in inputs or "code" not in inputs["label"]:
            return None
        workchain = label_class(inputs["label_workchain"].value)
        common = {name: inputs["label"][name] for name in ("code", "parameters", "files") if name in inputs["label"]}
        for name, structure in structures.items():
            message = workchain._validate({**common, "structure": structure}, None)
            if message:
                return f"structures.{name}: {message}"
        return None

    @staticmethod
    def _cell_names(structures: Mapping[str, orm.StructureData], perturbation: orm.Dict | None) -> list[str]:
        """Names of the cells that are labelled."""
        return sorted(structures) if perturbation is None else [cell_name(n) for n in range(perturbation["n"])]

    def setup(self) -> None:
        """Nothing drawn, nothing failed."""
        self.ctx.n_drawn = 0
        self.ctx.failed = {}

    def has_perturbation(self) -> bool:
        """Whether cells are drawn around the structures."""
        return "perturbation" in self.inputs

    def cells_missing(self) -> bool:
        """Whether more cells are to be drawn."""
        return self.ctx.n_drawn < self.inputs.perturbation["n"]

    def perturb(self) -> None:
        """Draw the next batch of cells."""
        first = self.ctx.n_drawn
        self.call_once(
            perturb_structures,
            batch_name(first),
            settings=self.inputs.perturbation,
            first=orm.Int(first),
            last=orm.Int(first + BATCH),
            **self.inputs.structures,
        )
        self.ctx.n_drawn = min(first + BATCH, self.inputs.perturbation["n"])

    def structure(self, index: int, name: str) -> orm.StructureData:
        """A structure to label."""
        if "perturbation" not in self.inputs:
            return self.inputs.structures[name]
        batch = self.child(batch_name(index - index % BATCH))
        return batch.base.links.get_outgoing(link_type=LinkType.CREATE, link_label_filter=name).one().node

    def pool_members(self) -> list[str]:
        """Names of the cells."""
        return self._cell_names(self.inputs.get("structures", {}), self.inputs.get("perturbation"))

    def pool_size(self) -> int:
        """Labels in flight."""
        size: int = self.inputs.max_concurrent.value
        return size

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit one label."""
        members = self.pool_members()
        index = members.index(name)
        structure = self.structure(index, name)
        workchain = label_class(self.inputs.label_workchain.value)
        return self.submit_once(
            workchain,
            {**self.exposed_inputs(LabelWorkChain, namespace="label"), "structure": structure},
            name=f"label_{name}",
            label=f"label {name}",
            description=f"DFT ({workchain.reader}) of {structure.get_formula()}, {index + 1} of {len(members)}",
        )

    def member_ended(self, name: str, node: orm.ProcessNode) -> None:
        """Note why a label failed."""
        if not node.is_finished_ok:
            self.ctx.failed[name] = f"{node.process_label}<{node.pk}> {reason_of(node)}"
            self.report(f"label {name} failed: {self.ctx.failed[name]}")

    def pool_stopped(self) -> bool:
        """No further label once too many have failed."""
        return self._too_many_failed()

    def _too_many_failed(self) -> bool:
        allowed = math.floor(self.inputs.max_failed_fraction.value * len(self.pool_members()) + 1e-9)
        none_left = len(self.ctx.failed) == len(self.pool_members()) and not self.inputs.get("labels", {})
        return len(self.ctx.failed) > allowed or none_left

    def pool_status(self) -> str:
        """Labels done, running, failed."""
        return f"labels: {super().pool_status()}, {len(self.ctx.failed)} failed"

    def inspect_labels(self) -> ExitCode | None:
        """End when too many labels failed, naming them."""
        if not self._too_many_failed():
            return None
        self.out("output_parameters", self.call_once(report_failure, "report_labels", labels=self._label_report()))
        exit_code: ExitCode = self.exit_codes.ERROR_TOO_MANY_FAILED_LABELS.format(
            failed=len(self.ctx.failed), total=len(self.pool_members())
        )
        return exit_code

    def _label_report(self) -> orm.Dict:
        n_known = len(self.inputs.get("labels", {}))
        return orm.Dict(
            {"n_labels": len(self.pool_members()), "n_known": n_known, "failed": dict(sorted(self.ctx.failed.items()))}
        )

    def run_preprocess(self) -> ToContext:
        """Read, check and convert all labels in one job, where they lie."""
        inputs = self.exposed_inputs(PreprocessCalculation, namespace="preprocess")
        links = self.node.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()
        labels = {link.link_label.removeprefix("label_"): link.node for link in links}
        inputs["labels"] = {name: node.outputs.remote_folder for name, node in labels.items() if node.is_finished_ok}
        inputs["hamiltonians"] = dict(self.inputs.get("labels", {}))
        if inputs["labels"]:
            inputs["reader"] = orm.Str(label_class(self.inputs.label_workchain.value).reader)
        node = self.submit_once(
            PreprocessCalculation,
            inputs,
            name="preprocess",
            label="preprocess",
            description=f"gate and convert {len(inputs['labels']) + len(inputs['hamiltonians'])} labels into a dataset",
        )
        return ToContext(preprocess=node)

    def results(self) -> ExitCode | None:
        """Attach the dataset."""
        node = self.ctx.preprocess
        if "dataset" not in node.outputs or (node.exit_status or 0) not in (0, *range(WARNING, WARNING + 100)):
            self.out("output_parameters", self.call_once(report_failure, "report_labels", labels=self._label_report()))
            exit_code: ExitCode = self.exit_codes.ERROR_PREPROCESS_FAILED.format(
                status=node.exit_status, message=node.exit_message
            )
            return exit_code
        if node.exit_status:
            self.report(f"preprocess<{node.pk}> finished with a warning: {node.exit_message}")
        self.out("dataset", node.outputs.dataset)
        self.out("dataset_folder", node.outputs.remote_folder)
        report = self.call_once(
            report_dataset,
            "report_dataset",
            labels=self._label_report(),
            preprocess=node.outputs.output_parameters,
            dataset=node.outputs.dataset,
        )
        self.out("output_parameters", report)
        return None

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structures: Mapping[str, orm.StructureData],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = "deeph.label.pyscf",
        labels: Mapping[str, orm.Data] | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param codes: `engine` (deeph-engine) and `dft`; one code that is both may stand for both.
        :param structures: structures to label, or parents if the overrides hold `perturbation`.
        :param label: entry point of the labelling workchain.
        :param labels: HamiltonianData of structures that are labelled already; `structures` may be empty then.
        :raises InputError: anything that cannot run.
        """
        values = cls.dataset_inputs(codes, structures, protocol, overrides, options, label, labels=labels)
        return filled_builder(cls, values)

    @classmethod
    def dataset_inputs(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structures: Mapping[str, orm.StructureData],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = "deeph.label.pyscf",
        where: str = "overrides",
        labels: Mapping[str, orm.Data] | None = None,
    ) -> dict[str, Any]:
        """Inputs of a protocol as nested plain values and nodes."""
        engine, dft = codes_of(codes)
        if not structures and not labels:
            raise InputError("no structures", where="structures", expected="at least one, or labels")
        inputs = cls.get_protocol_inputs(protocol, {k: v for k, v in (overrides or {}).items() if k != "label"}, where)
        values: dict[str, Any] = {**inputs, "structures": dict(structures), "labels": dict(labels or {})}
        if not structures:
            return {**values, "preprocess": job_inputs(engine, inputs.get("preprocess", {}), options)}
        workchain = checked_label_class(label)
        cutoff = workchain.get_protocol_inputs(protocol, (overrides or {}).get("label"), f"{where}.label").get(
            "pair_cutoff"
        )
        parameters = {"cutoff": cutoff, **inputs["preprocess"].get("parameters", {})}
        inputs["preprocess"] = {**inputs["preprocess"], "parameters": parameters}
        perturbation = inputs.get("perturbation")
        design = parse_config(DesignConfig, perturbation, "perturbation") if perturbation else None
        label_inputs = workchain.label_inputs(
            dft,
            list(structures.values()),
            protocol,
            (overrides or {}).get("label"),
            options,
            design.supercell if design else (1, 1, 1),
            elements=design.new_elements if design else (),
        )
        return {
            **values,
            "label_workchain": label,
            "label": label_inputs,
            "preprocess": job_inputs(engine, inputs.get("preprocess", {}), options),
        }


def elements_of(
    structures: Mapping[str, orm.StructureData],
    perturbation: Mapping[str, Any] | None = None,
    labels: Mapping[str, orm.Data] | None = None,
) -> set[str]:
    """Elements of a dataset: of the cells drawn around structures, or of the structures, and of labels."""
    design = parse_config(DesignConfig, perturbation, "perturbation") if perturbation else None
    known = {symbol for structure in structures.values() for symbol in structure.get_symbols_set()}
    known |= {symbol for label in (labels or {}).values() for symbol in label.elements}
    return known | (design.new_elements if design else set())


def n_members(dataset: Mapping[str, Any]) -> int:
    """Members that a dataset has if no label fails, from its inputs as nodes or plain values."""
    perturbation = dataset.get("perturbation")
    n_cells = int(perturbation["n"]) if perturbation else len(dataset.get("structures", {}))
    return n_cells + len(dataset.get("labels", {}))
