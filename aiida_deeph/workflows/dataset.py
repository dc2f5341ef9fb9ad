"""Many labels, one dataset."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, if_, while_
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.calculations.staging import REMOTE_FOLDERS
from aiida_deeph.codes.registry import DEFAULT_LABEL, define_labelling, label_class
from aiida_deeph.processes.folders import Keep, lasting_folder, validate_keep
from aiida_deeph.processes.ports import expose_inputs, named_inputs, value_input
from aiida_deeph.processes.recovery import NO_ROOM, pause_for_room
from aiida_deeph.workflows.dataset_inputs import (
    DatasetProtocolMixin,
    validate_dataset,
    validate_perturbation,
    validate_positive,
    validate_share,
)
from aiida_deeph.workflows.dataset_labels import DatasetLabelsMixin
from aiida_deeph.workflows.dataset_report import report_dataset, report_failure

PreprocessCalculation = CalculationFactory("deeph.preprocess")
HamiltonianData, DatasetData = DataFactory("deeph.hamiltonian"), DataFactory("deeph.dataset")

WARNING = 700


class DatasetWorkChain(DatasetProtocolMixin, DatasetLabelsMixin, WorkChain):
    """Label structures by DFT, a bounded number at a time, and turn the raw output into one dataset.

    With `perturbation`, the structures are parents around which cells are drawn; else they are labelled as they are.
    Labels that are there already join the dataset, or make it alone. With `extend`, the members of an earlier dataset
    join as they are, and what it holds is not labelled again.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        named_inputs(spec, "structures", orm.StructureData, "Structures to label, or parents of cells.")
        named_inputs(
            spec,
            "labels",
            HamiltonianData,
            "Labels that are there already, by member name: beside those of the structures, or alone.",
        )
        spec.input("extend", valid_type=DatasetData, required=False, help="A dataset whose members join as they are.")
        spec.input(
            "extend_folder",
            valid_type=REMOTE_FOLDERS,
            required=False,
            help="Folder, or stash, of its preprocess job.",
        )
        value_input(
            spec,
            "perturbation",
            orm.Dict,
            "How cells are drawn around the structures: n, seed, supercell, and amplitude, strain or a design.",
            validator=validate_perturbation,
        )
        define_labelling(spec, f"Entry point of the workchain that labels, e.g. `{DEFAULT_LABEL}`.")
        given = ("labels", "hamiltonians", "reader", "extend", "extend_folder", "retrieve")
        expose_inputs(spec, PreprocessCalculation, namespace="preprocess", exclude=given)
        value_input(
            spec,
            "keep",
            orm.Str,
            "What of each label comes into the database: `nothing` but its numbers, its `hamiltonian`, or `all`.",
            Keep.NOTHING.value,
            validator=validate_keep,
        )
        value_input(
            spec,
            "max_concurrent",
            orm.Int,
            "Labels in flight at a time, as far as the daemon has slots; the next follows as soon as one ends.",
            4,
            validator=validate_positive,
        )
        value_input(
            spec, "max_failed_fraction", orm.Float, "Share of labels that may fail.", 0.1, validator=validate_share
        )
        spec.inputs.validator = validate_dataset
        spec.outline(
            cls.setup,
            if_(cls.has_perturbation)(while_(cls.cells_missing)(cls.perturb)),
            cls.start_pool,
            while_(cls.pool_open)(cls.fill_pool),
            cls.inspect_labels,
            while_(cls.preprocess_open)(cls.run_preprocess, cls.inspect_preprocess),
            cls.results,
        )
        spec.output("dataset", valid_type=orm.Data, help="The manifest of the dataset.")
        spec.output("dataset_folder", valid_type=REMOTE_FOLDERS, help="Where the members lie.")
        spec.output_namespace(
            "hamiltonians",
            valid_type=HamiltonianData,
            dynamic=True,
            help="H and S of each new member, unless `keep` is `nothing`.",
        )
        spec.output(
            "output_parameters", valid_type=orm.Dict, help="Members, failed and rejected ones by name with the reason."
        )
        spec.default_output_node = "output_parameters"
        spec.exit_code(
            310,
            "ERROR_TOO_MANY_FAILED_LABELS",
            message="Too many labels failed: {failed} of {total}, {reason}",
        )
        spec.exit_code(
            320, "ERROR_PREPROCESS_FAILED", message="The preprocess job failed with exit status {status}: {message}"
        )

    def setup(self) -> None:
        """Nothing drawn, nothing failed."""
        self.ctx.n_drawn = 0
        self.ctx.failed = {}
        self.ctx.first_failed = None

    def inspect_labels(self) -> ExitCode | None:
        """End when too many labels failed, naming them."""
        if not self._too_many_failed():
            return None
        self.out("output_parameters", self.call_once(report_failure, "report_labels", labels=self._label_report()))
        exit_code: ExitCode = self.exit_codes.ERROR_TOO_MANY_FAILED_LABELS.format(
            failed=len(self.ctx.failed), total=len(self.members), reason=self.first_failure()
        )
        return exit_code

    def preprocess_open(self) -> bool:
        """Whether the labels are still to be converted: not yet, or the machine had no room."""
        return "preprocess" not in self.ctx or self.ctx.preprocess.exit_status in NO_ROOM

    def run_preprocess(self) -> ToContext:
        """Read, check and convert all labels in one job, where they lie."""
        self.ctx.n_preprocess = number = self.ctx.get("n_preprocess", 0) + 1
        inputs = self.exposed_inputs(PreprocessCalculation, namespace="preprocess")
        inputs["labels"] = self.label_folders()
        inputs["hamiltonians"] = dict(self.inputs.get("labels", {}))
        inputs["retrieve"] = orm.Bool(Keep(self.inputs.keep.value) is not Keep.NOTHING)
        for name in ("extend", "extend_folder"):
            if name in self.inputs:
                inputs[name] = self.inputs[name]
        if inputs["labels"]:
            inputs["reader"] = orm.Str(label_class(self.inputs.label_workchain.value).record.name)
        node = self.submit_once(
            PreprocessCalculation,
            inputs,
            name="preprocess" if number == 1 else f"preprocess_{number:02d}",
            label="preprocess",
            description=f"gate and convert {len(inputs['labels']) + len(inputs['hamiltonians'])} labels into a dataset",
        )
        return ToContext(preprocess=node)

    def inspect_preprocess(self) -> None:
        """Wait where the machine has no room; all else is said with the results."""
        if self.ctx.preprocess.exit_status in NO_ROOM:
            pause_for_room(self, self.ctx.preprocess)

    def results(self) -> ExitCode | None:
        """Attach the dataset."""
        node = self.ctx.preprocess
        if "dataset" not in node.outputs or (node.exit_status or 0) not in (0, *range(WARNING, WARNING + 100)):
            self.out("output_parameters", self.call_once(report_failure, "report_labels", labels=self._label_report()))
            return self.failure(self.exit_codes.ERROR_PREPROCESS_FAILED, node)
        if node.exit_status:
            self.report(f"preprocess<{node.pk}> finished with a warning: {node.exit_message}")
        self.out("dataset", node.outputs.dataset)
        self.out("dataset_folder", lasting_folder(node.outputs))
        if "members" in node.outputs:
            self.out("hamiltonians", dict(node.outputs.members))
        report = self.call_once(
            report_dataset,
            "report_dataset",
            labels=self._label_report(),
            preprocess=node.outputs.output_parameters,
            dataset=node.outputs.dataset,
        )
        self.out("output_parameters", report)
        return None
