"""A model put to use on many structures, a bounded number at a time: what workchains with a model share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ExitCode, ProcessSpec
from aiida.plugins import DataFactory

from aiida_deeph.engine.config import parse_config
from aiida_deeph.processes.pool import PoolMixin, at_most
from aiida_deeph.processes.ports import named_inputs, value_input
from aiida_deeph.processes.resumable import reason_of
from aiida_deeph.workflows.band_functions import check_path
from aiida_deeph.workflows.bands import OTHERS, BandsWorkChain
from aiida_deeph.workflows.dataset_inputs import validate_positive
from aiida_deeph.workflows.predict import PredictWorkChain
from aiida_deeph.workflows.target import OBSERVED, TargetSettings, TargetWorkChain, define_steps, validate_settings

# What a structure may yield; of a target without labelling the last two stay empty.
RESULTS = ("hamiltonian", "bands", *OBSERVED, "dft_bands", "comparison")
# Slots of the daemon that a structure takes: its workchain, that of the step, and the step's jobs.
SLOTS_PER_TARGET = 4


class TargetPoolMixin(PoolMixin):
    """Targets, of which H(R) and observables are wanted, and validation structures, whose bands are compared with DFT.

    The class says what the model is (`model`) and how validation structures are labelled (`labelling`). Where no
    structure has an observable, the workchain of the prediction runs alone.
    """

    @classmethod
    def define_targets(cls, spec: ProcessSpec) -> None:
        """The ports of what is done with a model."""
        define_steps(spec)
        named_inputs(spec, "targets", orm.StructureData, "Large structures whose H, bands and DOS are wanted.")
        named_inputs(spec, "validation", orm.StructureData, "Structures on which bands are compared with DFT.")
        named_inputs(
            spec,
            "kpoints",
            orm.KpointsData,
            "k-points of the bands of a target or validation structure, by its name; else the path.",
        )
        named_inputs(
            spec,
            "reference_bands",
            orm.BandsData,
            "DFT bands of a validation structure, by its name, that are known already: it is not labelled then.",
        )
        named_inputs(
            spec,
            "settings",
            orm.Dict,
            "What a target or validation structure, by its name, has otherwise than the rest: see TargetSettings.",
            validator=validate_settings,
        )
        spec.input(
            "validation_mesh",
            valid_type=orm.KpointsData,
            required=False,
            help="k-mesh of the SCF of validation structures; else that of the labels.",
        )
        value_input(
            spec,
            "max_concurrent",
            orm.Int,
            "Targets and validation structures at a time.",
            2,
            validator=validate_positive,
        )
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
        spec.exit_code(330, "ERROR_ALL_TARGETS_FAILED", message="All targets failed: {reasons}")
        spec.exit_code(710, "WARNING_SOME_FAILED", message="Finished, but some structures failed: {reasons}")

    def model(self) -> orm.Data:
        """The trained model."""
        raise NotImplementedError

    def labelling(self) -> tuple[orm.Str, dict[str, Any]]:
        """Entry point of the workchain that labels validation structures, and its inputs without the structure."""
        raise NotImplementedError

    def pool_members(self) -> list[str]:
        """Names of targets and validation structures."""
        return sorted(self.structures())

    def structures(self) -> dict[str, orm.StructureData]:
        """Targets and validation structures by name."""
        return {**self.inputs.get("targets", {}), **self.inputs.get("validation", {})}

    def pool_size(self) -> int:
        """Structures at a time."""
        return at_most(self.inputs.max_concurrent.value, SLOTS_PER_TARGET)

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit one structure."""
        structure = self.structures()[name]
        validated = name in self.inputs.get("validation", {})
        inputs: dict[str, Any] = {
            "structure": structure,
            "model": self.model(),
            "predict": self.exposed_inputs(PredictWorkChain, namespace="predict"),
        }
        if self.inputs.get("bands"):
            inputs["bands"] = self.exposed_inputs(BandsWorkChain, namespace="bands")
        if name in self.inputs.get("reference_bands", {}):
            inputs["reference_bands"] = self.inputs.reference_bands[name]
        elif name in self.inputs.get("kpoints", {}):
            inputs["kpoints"] = self.inputs.kpoints[name]
        if validated:
            inputs["bands"] = {key: value for key, value in inputs["bands"].items() if key not in OTHERS}
        if validated and "reference_bands" not in inputs:
            inputs["label_workchain"], inputs["label"] = self.labelling()
            if "validation_mesh" in self.inputs:
                inputs["label"]["kpoints"] = self.inputs.validation_mesh
        if name in self.inputs.get("settings", {}):
            settings = parse_config(TargetSettings, self.inputs.settings[name].get_dict(), f"settings.{name}")
            inputs = settings.applied(inputs)
        step, aim = ("validate", "predicted bands against DFT") if validated else ("target", "H(R), bands and DOS")
        names = {
            "name": f"{step}_{name}",
            "label": f"3 {step} {name}",
            "description": f"{aim} of {structure.get_formula()}",
        }
        if self.inputs.get("bands"):
            return self.submit_once(TargetWorkChain, inputs, **names)
        names["description"] = f"H(R) of {structure.get_formula()}"
        inputs = {**inputs["predict"], "structure": structure, "model": inputs["model"]}
        return self.submit_once(PredictWorkChain, inputs, **names)

    def member_ended(self, name: str, node: orm.ProcessNode) -> None:
        """Note a failure; the other structures go on."""
        if not node.is_finished_ok:
            self.ctx.failed[name] = reason_of(node)
            self.report(f"{name} failed: {reason_of(node)}")

    def attach_results(self) -> dict[str, dict[str, orm.Node]]:
        """Attach what the structures yielded; kind of result -> name of the structure -> node."""
        collected: dict[str, dict[str, orm.Node]] = {key: {} for key in RESULTS}
        for name in self.structures():
            node = self.child(f"target_{name}") or self.child(f"validate_{name}")
            links = [] if node is None else node.base.links.get_outgoing(link_type=LinkType.RETURN).all()
            for link in links:
                if link.link_label in collected:
                    collected[link.link_label][name] = link.node
        for key, nodes in collected.items():
            if nodes:
                self.out(key, nodes)
        return collected

    def verdict(self) -> ExitCode | None:
        """How it ends: well, with structures that failed, or with nothing but those."""
        targets = set(self.inputs.get("targets", {}))
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.ctx.failed.items()))
        if targets and targets <= set(self.ctx.failed):
            return self.exit_codes.ERROR_ALL_TARGETS_FAILED.format(reasons=reasons)
        if self.ctx.failed:
            exit_code: ExitCode = self.exit_codes.WARNING_SOME_FAILED.format(reasons=reasons)
            return exit_code
        return None


def validate_targets(inputs: Mapping[str, Any], known: set[str], labelled: bool) -> str | None:
    """Message if the structures do not fit together, to a model or to their lattices.

    :param known: elements that the model knows, or would know.
    :param labelled: whether something labels validation structures.
    """
    targets, validation = set(inputs.get("targets", {})), set(inputs.get("validation", {}))
    if targets & validation:
        return f"a name stands in both targets and validation: {', '.join(sorted(targets & validation))}"
    for group, allowed, kind in (
        ("kpoints", targets | validation, "target or validation"),
        ("settings", targets | validation, "target or validation"),
        ("reference_bands", validation, "validation"),
    ):
        strange = sorted(set(inputs.get(group, {})) - allowed)
        if strange:
            return f"{group} of no {kind} structure: {', '.join(strange)}"
    if validation and not inputs.get("bands"):
        return f"bands are compared on the validation structures {', '.join(sorted(validation))}, but `bands` is empty"
    compared = validation - set(inputs.get("reference_bands", {}))
    if compared and not labelled:
        return (
            f"nothing labels the validation structures {', '.join(sorted(compared))}: "
            "give their reference_bands, or a workchain that labels"
        )
    for group in ("targets", "validation"):
        for name, structure in inputs.get(group, {}).items():
            unknown = sorted(structure.get_symbols_set() - known)
            if unknown:
                return (
                    f"{group}.{name} holds {', '.join(unknown)}, which the model would not know: "
                    f"its data hold {', '.join(sorted(known))}"
                )
    return _check_paths(inputs)


def _check_paths(inputs: Mapping[str, Any]) -> str | None:
    """Message if the path of a structure leads through points that its own lattice does not have."""
    if not inputs.get("bands"):
        return None
    common = inputs["bands"].get("kpath")
    others = {*inputs.get("kpoints", {}), *inputs.get("reference_bands", {})}  # bring their own k-points
    for group in ("targets", "validation"):
        for name, structure in inputs.get(group, {}).items():
            node = inputs.get("settings", {}).get(name)
            settings = node.get_dict() if node is not None else {}
            if name in others or settings.get("bands") is False:
                continue
            message = check_path(structure, settings.get("kpath") or common, f"{group}.{name}")
            if message is not None:
                return f"{message}; a path of its own: settings.{name}.kpath"
    return None
