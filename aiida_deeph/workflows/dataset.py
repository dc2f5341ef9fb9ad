"""Many labels, one dataset."""

from __future__ import annotations

import math
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, if_, while_
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.calculations.staging import REMOTE_FOLDERS
from aiida_deeph.workflows.dataset_checks import (
    cell_names,
    validate_dataset,
    validate_perturbation,
    validate_positive,
    validate_share,
)
from aiida_deeph.workflows.dataset_inputs import DatasetProtocolMixin
from aiida_deeph.workflows.extension import new_cells
from aiida_deeph.workflows.failure import reason_of
from aiida_deeph.workflows.functions.dataset import report_dataset, report_failure
from aiida_deeph.workflows.functions.perturb import perturb_structures
from aiida_deeph.workflows.keep import Keep, folders_of_children, label_options, lasting_folder, validate_keep
from aiida_deeph.workflows.label.base import LabelWorkChain
from aiida_deeph.workflows.label.registry import label_class, validate_label_workchain
from aiida_deeph.workflows.pool import PoolMixin
from aiida_deeph.workflows.ports import expose_inputs
from aiida_deeph.workflows.slots import at_most

PreprocessCalculation = CalculationFactory("deeph.preprocess")
HamiltonianData, DatasetData = DataFactory("deeph.hamiltonian"), DataFactory("deeph.dataset")

# Cells that one calcfunction makes: short enough not to keep the other processes of a daemon worker waiting.
BATCH = 50
WARNING = 700
# Labels of the calls of a first job and of the workchain that recovers from its failure.
LABEL, RECOVERY = "label_", "recover_"
# Slots of the daemon that a label takes: its workchain and its job.
SLOTS_PER_LABEL = 2


def batch_name(first: int) -> str:
    """Name of the call that draws the cells from a number on."""
    return f"perturb_{first:04d}"


class DatasetWorkChain(DatasetProtocolMixin, PoolMixin, WorkChain):
    """Label structures by DFT, a bounded number at a time, and turn the raw output into one dataset.

    With `perturbation`, the structures are parents around which cells are drawn; else they are labelled as they are.
    Labels that are there already join the dataset, or make it alone. With `extend`, the members of an earlier dataset
    join as they are, and what it holds is not labelled again.
    """

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
        spec.input("extend", valid_type=DatasetData, required=False, help="A dataset whose members join as they are.")
        spec.input(
            "extend_folder",
            valid_type=REMOTE_FOLDERS,
            required=False,
            help="Folder, or stash, of its preprocess job.",
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
        given = ("labels", "hamiltonians", "reader", "extend", "extend_folder", "retrieve")
        expose_inputs(spec, PreprocessCalculation, namespace="preprocess", exclude=given)
        spec.input(
            "keep",
            valid_type=orm.Str,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Str(Keep.NOTHING.value),
            validator=validate_keep,
            help="What of each label comes into the database: `nothing` but its numbers, its `hamiltonian`, or `all`.",
        )
        spec.input(
            "max_concurrent",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Int(4),
            validator=validate_positive,
            help="Labels in flight at a time, as far as the daemon has slots; the next follows as soon as one ends.",
        )
        spec.input(
            "max_failed_fraction",
            valid_type=orm.Float,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Float(0.1),
            validator=validate_share,
            help="Share of labels that may fail.",
        )
        spec.inputs.validator = validate_dataset
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
            message="Too many labels failed: {failed} of {total}.",
        )
        spec.exit_code(
            320, "ERROR_PREPROCESS_FAILED", message="The preprocess job failed with exit status {status}: {message}"
        )

    def setup(self) -> None:
        """Nothing drawn, nothing failed."""
        self.ctx.n_drawn = 0
        self.ctx.failed = {}
        if self.pool_size() < self.inputs.max_concurrent.value:
            self.report(f"a worker of the daemon has slots for {self.pool_size()} labels at a time, no more are begun")

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

    def structure(self, cell: str) -> orm.StructureData:
        """A structure to label, by its name before the dataset that is extended had a say."""
        if "perturbation" not in self.inputs:
            return self.inputs.structures[cell]
        index = self.cells().index(cell)
        batch = self.child(batch_name(index - index % BATCH))
        return batch.base.links.get_outgoing(link_type=LinkType.CREATE, link_label_filter=cell).one().node

    def cells(self) -> list[str]:
        """Names of all cells, in their order."""
        return cell_names(self.inputs.get("structures", {}), self.inputs.get("perturbation"))

    def members(self) -> dict[str, str]:
        """Member to label -> its cell; looked up once in the life of this process."""
        if "_members" not in self.__dict__:
            cells = self.cells()
            known: dict[str, str] = {cell: cell for cell in cells}
            if "extend" in self.inputs:
                structures = {cell: self.structure(cell) for cell in cells}
                known = new_cells(structures, self.inputs.extend.manifest, set(self.inputs.get("labels", {})))
            self.__dict__["_members"] = known
        result: dict[str, str] = self.__dict__["_members"]
        return result

    def pool_members(self) -> list[str]:
        """Names of the members to label."""
        return list(self.members())

    def pool_size(self) -> int:
        """Labels in flight."""
        return at_most(self.inputs.max_concurrent.value, SLOTS_PER_LABEL)

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit one label."""
        members = self.members()
        workchain, inputs = self.label_inputs(name)
        number = f"{list(members).index(name) + 1} of {len(members)}"
        process = workchain
        if workchain.bare_first_job:
            process, inputs = workchain._process_class, workchain.first_job(inputs)
        return self.submit_once(
            process,
            inputs,
            name=f"{LABEL}{name}",
            label=f"label {name}",
            description=f"DFT ({workchain.reader}) of {inputs['structure'].get_formula()}, {number}",
        )

    def label_inputs(self, name: str) -> tuple[type[LabelWorkChain], dict[str, Any]]:
        """The workchain that labels, and its inputs for one member."""
        workchain = label_class(self.inputs.label_workchain.value)
        inputs = dict(self.exposed_inputs(LabelWorkChain, namespace="label"))
        options = label_options(inputs.get("options", {}), workchain.raw_files, Keep(self.inputs.keep.value))
        return workchain, {**inputs, "options": options, "structure": self.structure(self.members()[name])}

    def member_ended(self, name: str, node: orm.ProcessNode) -> orm.ProcessNode | None:
        """Let a workchain recover from a first job that failed; note why a label failed for good."""
        if isinstance(node, orm.CalcJobNode):
            workchain, inputs = self.label_inputs(name)
            if workchain.has_succeeded(node):
                return None
            return self.submit_once(
                workchain,
                {**inputs, "first_job": node.uuid},
                name=f"{RECOVERY}{name}",
                label=f"label {name}",
                description=f"goes on from {node.process_label}<{node.pk}>, {reason_of(node)}",
            )
        if not node.is_finished_ok:
            self.ctx.failed[name] = f"{node.process_label}<{node.pk}> {reason_of(node)}"
            self.report(f"label {name} failed: {self.ctx.failed[name]}")
        return None

    def pool_stopped(self) -> bool:
        """No further label once too many have failed."""
        return self._too_many_failed()

    def _too_many_failed(self) -> bool:
        allowed = math.floor(self.inputs.max_failed_fraction.value * len(self.pool_members()) + 1e-9)
        others = bool(self.inputs.get("labels")) or "extend" in self.inputs
        none_left = len(self.ctx.failed) == len(self.pool_members()) and not others
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
        n_extended = self.inputs.extend.n_members if "extend" in self.inputs else 0
        return orm.Dict(
            {
                "n_labels": len(self.pool_members()),
                "n_known": len(self.inputs.get("labels", {})),
                "n_extended": n_extended,
                "n_not_labelled_again": len(self.cells()) - len(self.pool_members()),
                "failed": dict(sorted(self.ctx.failed.items())),
            }
        )

    def run_preprocess(self) -> ToContext:
        """Read, check and convert all labels in one job, where they lie."""
        inputs = self.exposed_inputs(PreprocessCalculation, namespace="preprocess")
        inputs["labels"] = self.label_folders()
        inputs["hamiltonians"] = dict(self.inputs.get("labels", {}))
        inputs["retrieve"] = orm.Bool(Keep(self.inputs.keep.value) is not Keep.NOTHING)
        for name in ("extend", "extend_folder"):
            if name in self.inputs:
                inputs[name] = self.inputs[name]
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

    def label_folders(self) -> dict[str, orm.Data]:
        """Where the raw output of each label lies: its stash if it has one, of the recovery if there was one."""
        found: dict[str, dict[tuple[bool, bool], orm.Data]] = {}
        for call, output, folder in folders_of_children(self.node):
            recovered, stashed = call.startswith(RECOVERY), output == "remote_stash"
            name = call.removeprefix(RECOVERY if recovered else LABEL)
            found.setdefault(name, {})[recovered, stashed] = folder
        return {name: folders[max(folders)] for name, folders in sorted(found.items()) if name not in self.ctx.failed}

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
