"""A model put to use on many structures: hundreds in one submission."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, WorkChain, calcfunction, while_
from aiida.plugins import DataFactory

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.registry import define_labelling, labelling_inputs
from aiida_deeph.processes.builder import codes_of, filled_builder
from aiida_deeph.processes.ports import value_input
from aiida_deeph.processes.protocol import ProtocolMixin, split_overrides
from aiida_deeph.workflows.target import step_inputs
from aiida_deeph.workflows.target_pool import TargetPoolMixin, validate_targets


@calcfunction
def report_targets(found: orm.Dict) -> orm.Dict:
    """What became of the structures."""
    return orm.Dict(found.get_dict())


class TargetsWorkChain(ProtocolMixin, TargetPoolMixin, WorkChain):
    """H(R) of every target by one model, with its bands and other observables if they are wanted; of every validation
    structure predicted bands against a DFT run. Failures are named, and do not stop the others."""

    _protocol_file = Path(__file__).parent / "protocols" / "targets.yaml"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("model", valid_type=DataFactory("deeph.model"), help="The trained model.")
        cls.define_targets(spec)
        define_labelling(spec, "Entry point of the workchain that computes the DFT bands of validation structures.")
        value_input(
            spec, "group", orm.Str, "Label of a group that takes the process of each structure as soon as it has ended."
        )
        spec.inputs.validator = cls._validate
        spec.outline(cls.setup, while_(cls.pool_open)(cls.fill_pool), cls.results)
        spec.output("output_parameters", valid_type=orm.Dict, required=False, help="How many, and which failed.")
        spec.default_output_node = "output_parameters"

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        if "model" not in inputs:
            return None
        if not inputs.get("targets") and not inputs.get("validation"):
            return "no structure: give targets or validation"
        return validate_targets(inputs, set(inputs["model"].elements), "label_workchain" in inputs)

    def setup(self) -> None:
        """Nothing has failed yet."""
        self.ctx.failed = {}
        self.start_pool()

    def model(self) -> orm.Data:
        """The one that was given."""
        return self.inputs.model

    def labelling(self) -> tuple[orm.Str, dict[str, Any]]:
        """The one that was given."""
        return self.inputs.label_workchain, dict(self.exposed_inputs(LabelWorkChain, namespace="label"))

    def member_ended(self, name: str, node: orm.ProcessNode) -> None:
        """Note a failure, and put the process where the user wants to find it."""
        super().member_ended(name, node)
        if "group" in self.inputs:
            group, _ = orm.Group.collection.get_or_create(self.inputs.group.value)
            group.add_nodes([node])

    def pool_status(self) -> str:
        """Structures done, running, failed."""
        return f"structures: {super().pool_status()}, {len(self.ctx.failed)} failed"

    def results(self) -> ExitCode | None:
        """Attach everything, and what became of the structures."""
        self.attach_results()
        found = {
            "n_structures": len(self.structures()),
            "n_failed": len(self.ctx.failed),
            "failed": dict(sorted(self.ctx.failed.items())),
        }
        self.out("output_parameters", self.call_once(report_targets, "report", found=orm.Dict(found)))
        return self.verdict()

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        model: orm.Data,
        targets: Mapping[str, orm.StructureData],
        validation: Mapping[str, orm.StructureData] | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        basis: str | dict[str, str] | None = None,
        label: str | None = None,
        reference_bands: Mapping[str, orm.BandsData] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        group: str | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param codes: `engine` (deeph-engine), and `dft` if there are validation structures to label.
        :param targets: structures by name.
        :param validation: structures on which bands are compared with DFT.
        :param overrides: mirror the ports: `predict`, `bands` (null: H(R) alone), `label`.
        :param basis: the basis in the words of `deeph-engine overlap`; by default the one that the model's data name.
        :param label: entry point of the workchain that labels validation structures.
        :param reference_bands: DFT bands of validation structures that are known already.
        :param settings: what a structure has otherwise than the rest: see TargetSettings.
        :param group: label of the group of results.
        :raises InputError: anything that cannot run.
        """
        engine, dft = codes_of(codes)
        own, parts = split_overrides(overrides, "predict", "bands", "label")
        values: dict[str, Any] = {
            **cls.get_protocol_inputs(protocol, own),
            **step_inputs(engine, protocol, parts, options, basis, model),
            "model": model,
            "targets": dict(targets),
            "validation": dict(validation or {}),
            "reference_bands": dict(reference_bands or {}),
            "settings": {name: orm.Dict(dict(given)) for name, given in (settings or {}).items()},
            "group": group,
        }
        if label is not None:
            compared = list((validation or {}).values())
            values |= labelling_inputs(label, dft, compared, protocol, parts.get("label"), options)
        return filled_builder(cls, values)
