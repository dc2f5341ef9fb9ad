"""Active learning: label what a model would learn most from, until it is good enough."""

from __future__ import annotations

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, calcfunction, while_
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.calculations.staging import REMOTE_FOLDERS
from aiida_deeph.processes.ports import expose_inputs, named_inputs, value_input
from aiida_deeph.processes.recovery import NO_ROOM, pause_for_room
from aiida_deeph.processes.resumable import ResumableMixin
from aiida_deeph.workflows.active_inputs import ActiveProtocolMixin, validate_active
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.dataset_inputs import validate_positive
from aiida_deeph.workflows.train import TrainWorkChain

SelectCalculation = CalculationFactory("deeph.select")


@calcfunction
def report_round(labelled: orm.List, dataset: orm.Dict, training: orm.Dict, selection: orm.Dict) -> orm.Dict:
    """The numbers of a round.

    :param labelled: names of all candidates that were labelled so far, failed ones among them.
    :param dataset: report of the dataset.
    :param training: output_parameters of the fit.
    :param selection: output_parameters of the choice that followed.
    """
    names = ("expected_mae_eV", "largest_expected_error_eV", "selected", "rule", "candidates", "targets")
    return orm.Dict(
        {
            "n_labels": len(labelled),
            "n_members": dataset["n_members"],
            "labelled": labelled.get_list(),
            "failed": dataset["failed"],
            "training_seconds": training.get("seconds"),
            "selection_seconds": selection["seconds"],
            **{name: selection[name] for name in names},
            "expected_mae_eV_units": "eV",
            "largest_expected_error_eV_units": "eV",
        }
    )


@calcfunction
def report_active(**rounds: orm.Dict) -> orm.Dict:
    """The numbers of all rounds as lists, in their order."""
    found = [rounds[name] for name in sorted(rounds)]
    names = ("n_labels", "n_members", "expected_mae_eV", "largest_expected_error_eV", "selection_seconds")
    lists = {name: [one[name] for one in found] for name in names}
    units = {"expected_mae_eV_units": "eV", "largest_expected_error_eV_units": "eV", "selection_seconds_units": "s"}
    return orm.Dict({"n_rounds": len(found), "labelled": found[-1]["labelled"], **lists, **units})


class ActiveWorkChain(ActiveProtocolMixin, ResumableMixin, WorkChain):
    """Label a few candidates, fit, ask the model which further ones it would learn most from, label these, and so on
    until the errors that it expects of the targets, or else of the candidates, are small enough or the budget is spent.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        named_inputs(spec, "candidates", orm.StructureData, "Structures that may be labelled.")
        named_inputs(
            spec, "targets", orm.StructureData, "Structures to be predicted well; without any, the candidates."
        )
        value_input(spec, "first", orm.Int, "Labels of the first round, by chance.", 4, validator=validate_positive)
        value_input(spec, "batch", orm.Int, "Labels of every further round.", 4, validator=validate_positive)
        value_input(spec, "seed", orm.Int, "Of the first round.", 42)
        spec.input(
            "budget",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            validator=validate_positive,
            help="Most labels, failed ones among them.",
        )
        value_input(
            spec,
            "target",
            orm.Float,
            "Expected mean |error| of the entries of H at which it ends, eV; without it the budget is spent.",
            validator=lambda node, _: (
                None if node is None or node.value > 0 else f"found {node.value}, expected more than 0"
            ),
        )
        given = ("structures", "labels", "extend", "extend_folder", "perturbation")
        expose_inputs(spec, DatasetWorkChain, namespace="dataset", exclude=given)
        spec.inputs["dataset"].validator = None  # its structures are the candidates: checked together with them
        expose_inputs(spec, TrainWorkChain, namespace="train", exclude=("dataset", "dataset_folder"))
        expose_inputs(spec, SelectCalculation, namespace="select", exclude=("model", "candidates", "targets"))
        spec.inputs.validator = validate_active
        spec.outline(
            cls.setup,
            while_(cls.is_open)(
                cls.run_dataset,
                cls.inspect_dataset,
                cls.run_train,
                cls.inspect_train,
                while_(cls.selection_open)(cls.run_select, cls.inspect_select),
                cls.end_round,
            ),
            cls.results,
        )
        spec.output("dataset", valid_type=DataFactory("deeph.dataset"), required=False)
        spec.output("dataset_folder", valid_type=REMOTE_FOLDERS, required=False)
        spec.output("model", valid_type=DataFactory("deeph.model"), required=False, help="Of the last round.")
        spec.output_namespace("rounds", valid_type=orm.Dict, dynamic=True, help="The numbers of each round.")
        spec.output("output_parameters", valid_type=orm.Dict, required=False, help="The numbers of all rounds.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_DATASET_FAILED", message="The labels of round {round} failed: {reason}")
        spec.exit_code(320, "ERROR_TRAINING_FAILED", message="The fit of round {round} failed: {reason}")
        spec.exit_code(330, "ERROR_SELECTION_FAILED", message="The choice of round {round} failed: {reason}")
        spec.exit_code(
            720,
            "WARNING_TARGET_NOT_REACHED",
            message="{n_labels} labels are not enough: {expected:.3g} meV are expected, {target:.3g} were wanted",
        )

    def setup(self) -> None:
        """The first labels are drawn by chance, the same ones for the same pool and seed."""
        names = sorted(self.inputs.candidates)
        order = np.random.default_rng(self.inputs.seed.value).permutation(len(names))
        self.ctx.batch = sorted(names[place] for place in order[: self.inputs.first.value])
        self.ctx.labelled = []
        self.ctx.round = 1
        self.ctx.expected = None

    def is_open(self) -> bool:
        """Whether there is something to label and reason to do so."""
        target = self.inputs.target.value if "target" in self.inputs else 0.0
        return bool(self.ctx.batch) and (self.ctx.expected is None or self.ctx.expected > target)

    def _name(self, step: str) -> str:
        return f"round_{self.ctx.round:02d}_{step}"

    def run_dataset(self) -> ToContext:
        """Label the chosen candidates; what was labelled before joins."""
        inputs = self.exposed_inputs(DatasetWorkChain, namespace="dataset")
        inputs["structures"] = {name: self.inputs.candidates[name] for name in self.ctx.batch}
        earlier = self.ctx.get("dataset")
        if earlier is not None:
            inputs["extend"], inputs["extend_folder"] = earlier.outputs.dataset, earlier.outputs.dataset_folder
        node = self.submit_once(
            DatasetWorkChain,
            inputs,
            name=self._name("dataset"),
            label=f"{self.ctx.round} labels",
            description=f"DFT of {len(self.ctx.batch)} candidates: {', '.join(self.ctx.batch[:8])}",
        )
        return ToContext(dataset=node)

    def inspect_dataset(self) -> ExitCode | None:
        """Go on with all labels so far."""
        node = self.ctx.dataset
        if not node.is_finished_ok:
            return self._failed(self.exit_codes.ERROR_DATASET_FAILED, node)
        self.ctx.labelled = sorted({*self.ctx.labelled, *self.ctx.batch})
        return None

    def run_train(self) -> ToContext:
        """Fit the model anew."""
        inputs = self.exposed_inputs(TrainWorkChain, namespace="train")
        outputs = self.ctx.dataset.outputs
        inputs |= {"dataset": outputs.dataset, "dataset_folder": outputs.dataset_folder}
        node = self.submit_once(
            TrainWorkChain,
            inputs,
            name=self._name("train"),
            label=f"{self.ctx.round} fit",
            description=f"a model of {outputs.dataset.n_members} labels",
        )
        self.ctx.select = None
        return ToContext(train=node)

    def inspect_train(self) -> ExitCode | None:
        """End where there is no model."""
        node = self.ctx.train
        return None if node.is_finished_ok else self._failed(self.exit_codes.ERROR_TRAINING_FAILED, node)

    def selection_open(self) -> bool:
        """Whether the choice is still to be made: not yet, or the machine had no room."""
        return self.ctx.select is None or self.ctx.select.exit_status in NO_ROOM

    def run_select(self) -> ToContext:
        """Ask the model what it expects, and what to label next."""
        inputs = self.exposed_inputs(SelectCalculation, namespace="select")
        left = self.inputs.budget.value - len(self.ctx.labelled)
        parameters = {"count": min(self.inputs.batch.value, left), "known": self.ctx.labelled}
        inputs["parameters"] = orm.Dict({**inputs["parameters"].get_dict(), **parameters})
        inputs |= {"model": self.ctx.train.outputs.model, "candidates": dict(self.inputs.candidates)}
        if self.inputs.get("targets"):
            inputs["targets"] = dict(self.inputs.targets)
        tries = self.ctx.select_tries = 1 if self.ctx.select is None else self.ctx.select_tries + 1
        node = self.submit_once(
            SelectCalculation,
            inputs,
            name=self._name("select" if tries == 1 else f"select_{tries:02d}"),
            label=f"{self.ctx.round} choice",
            description=f"expected errors of {len(self.inputs.candidates)} candidates, and which to label next",
        )
        return ToContext(select=node)

    def inspect_select(self) -> ExitCode | None:
        """Wait where the machine has no room."""
        node = self.ctx.select
        if node.exit_status in NO_ROOM:
            pause_for_room(self, node)
            return None
        return None if node.is_finished_ok else self._failed(self.exit_codes.ERROR_SELECTION_FAILED, node)

    def end_round(self) -> None:
        """Attach the numbers of the round, say how far it is, and take up the next batch."""
        found = self.call_once(
            report_round,
            self._name("report"),
            labelled=orm.List(list(self.ctx.labelled)),
            dataset=self.ctx.dataset.outputs.output_parameters,
            training=self.ctx.train.outputs.output_parameters,
            selection=self.ctx.select.outputs.output_parameters,
        )
        self.out(f"rounds.{self._name('numbers')}", found)
        self.ctx.expected, self.ctx.batch = found["expected_mae_eV"], found["selected"]
        status = f"round {self.ctx.round}: {found['n_labels']} labels, expected {1000 * self.ctx.expected:.3g} meV"
        if "target" in self.inputs:
            status += f", target {1000 * self.inputs.target.value:.3g}"
        self.report(status)
        self.ctx.round += 1

    def results(self) -> ExitCode | None:
        """Attach dataset and model of the last round, and the numbers of all."""
        self.attach(self.ctx.dataset, "dataset", "dataset_folder")
        self.attach(self.ctx.train, "model")
        self.out("output_parameters", self.call_once(report_active, "report_active", **self.outputs["rounds"]))
        if "target" not in self.inputs or self.ctx.expected <= self.inputs.target.value:
            return None
        exit_code: ExitCode = self.exit_codes.WARNING_TARGET_NOT_REACHED.format(
            n_labels=len(self.ctx.labelled),
            expected=1000 * self.ctx.expected,
            target=1000 * self.inputs.target.value,
        )
        return exit_code

    def _failed(self, exit_code: ExitCode, node: orm.ProcessNode) -> ExitCode:
        """That a step failed, and in which round."""
        return self.failure(exit_code, node, round=self.ctx.round)
