"""H(R) of a structure without a DFT run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, while_
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.overlap.basis import spec_forms
from aiida_deeph.processes.builder import filled_builder, job_inputs
from aiida_deeph.processes.orbitals import orbitals_of_basis
from aiida_deeph.processes.ports import expose_inputs, value_input
from aiida_deeph.processes.protocol import ProtocolMixin
from aiida_deeph.processes.recovery import NO_ROOM, NO_SPACE, pause_for_room
from aiida_deeph.processes.resumable import ResumableMixin
from aiida_deeph.workflows.model_basis import basis_of

OverlapCalculation = CalculationFactory("deeph.overlap")
PredictCalculation = CalculationFactory("deeph.predict")
DeepHModelData = DataFactory("deeph.model")

OUT_OF_MEMORY = (110, 430)
RETRYABLE = (100, 120, 140, 400)


def unknown_elements(model: orm.Data, structure: orm.StructureData) -> list[str]:
    """Elements of a structure that a model was not trained on."""
    return sorted(structure.get_symbols_set() - set(model.elements))


class PredictWorkChain(ProtocolMixin, ResumableMixin, WorkChain):
    """Overlap, then prediction; out of memory, edges are taken in smaller chunks (the result does not depend on it)."""

    _protocol_file = Path(__file__).parent / "protocols" / "predict.yaml"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("structure", valid_type=orm.StructureData, help="The structure, as large as you like.")
        spec.input("model", valid_type=DeepHModelData, help="The trained model.")
        expose_inputs(spec, OverlapCalculation, namespace="overlap", exclude=("structure", "model"))
        expose_inputs(spec, PredictCalculation, namespace="predict", exclude=("model", "overlap", "overlap_folder"))
        value_input(spec, "max_attempts", orm.Int, "Runs of each job at most.", 4)
        spec.inputs.validator = cls._validate
        spec.outline(
            cls.setup,
            while_(cls.overlap_missing)(cls.run_overlap, cls.inspect_overlap),
            while_(cls.prediction_missing)(cls.run_predict, cls.inspect_predict),
            cls.results,
        )
        spec.output(
            "hamiltonian",
            valid_type=DataFactory("deeph.hamiltonian"),
            required=False,
            help="H(R) and S(R), if retrieved.",
        )
        spec.output("remote_folder", valid_type=orm.RemoteData, help="Where they lie.")
        spec.output("output_parameters", valid_type=orm.Dict, help="Atoms, pairs, seconds, memory.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_OVERLAP_FAILED", message="The overlap failed with exit status {status}: {message}")
        spec.exit_code(
            320, "ERROR_PREDICTION_FAILED", message="The prediction failed with exit status {status}: {message}"
        )

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        if "model" not in inputs or "structure" not in inputs:
            return None
        unknown = unknown_elements(inputs["model"], inputs["structure"])
        if unknown:
            known = ", ".join(sorted(inputs["model"].elements))
            return f"the model was not trained on {', '.join(unknown)}, only on {known}"
        return None

    def setup(self) -> None:
        """No attempt so far."""
        self.ctx.edges_per_chunk = None
        self.ctx.overlap_attempts = self.ctx.predict_attempts = 0

    def overlap_missing(self) -> bool:
        """Whether the overlap is still to be computed."""
        return "overlap" not in self.ctx or not self.ctx.overlap.is_finished_ok

    def prediction_missing(self) -> bool:
        """Whether H is still to be predicted."""
        return "predict" not in self.ctx or not self.ctx.predict.is_finished_ok

    def wait_for_room(self, node: orm.CalcJobNode) -> None:
        """Pause until the machine has room for a job."""
        self.ctx.n_waited = self.ctx.get("n_waited", 0) + 1
        pause_for_room(self, node)

    def tried(self, attempts: int) -> bool:
        """Whether a job was run as often as it may; to have waited for room is no attempt."""
        return attempts - self.ctx.get("n_waited", 0) >= int(self.inputs.max_attempts.value)

    def run_overlap(self) -> ToContext | ExitCode:
        """S(R) within the model's pair cutoffs, from the orbitals that its labels made if none were given."""
        self.ctx.overlap_attempts += 1
        inputs = self.exposed_inputs(OverlapCalculation, namespace="overlap")
        if not inputs.get("orbitals"):
            try:
                inputs["orbitals"] = orbitals_of_basis(inputs["parameters"].get("basis"), self.inputs.model)
            except InputError as error:
                failed: ExitCode = self.exit_codes.ERROR_OVERLAP_FAILED.format(status=None, message=error)
                return failed
        inputs |= {"structure": self.inputs.structure, "model": self.inputs.model}
        node = self.submit_once(
            OverlapCalculation,
            inputs,
            name=f"overlap_{self.ctx.overlap_attempts:02d}",
            label="overlap",
            description=f"S(R) of {self.inputs.structure.get_formula()} without a DFT run",
        )
        return ToContext(overlap=node)

    def inspect_overlap(self) -> ExitCode | None:
        """Go on, try again, or give up."""
        node = self.ctx.overlap
        if node.exit_status in NO_ROOM:
            self.wait_for_room(node)
            return None
        if node.is_finished_ok or (node.exit_status in RETRYABLE and not self.tried(self.ctx.overlap_attempts)):
            return None
        return self.failure(self.exit_codes.ERROR_OVERLAP_FAILED, node)

    def run_predict(self) -> ToContext:
        """H(R) from the overlap and the model."""
        self.ctx.predict_attempts += 1
        inputs = self.exposed_inputs(PredictCalculation, namespace="predict")
        inputs |= {"model": self.inputs.model, "overlap_folder": self.ctx.overlap.outputs.remote_folder}
        if self.ctx.edges_per_chunk is not None:
            inputs["parameters"] = orm.Dict(
                {**inputs["parameters"].get_dict(), "edges_per_chunk": self.ctx.edges_per_chunk}
            )
        node = self.submit_once(
            PredictCalculation,
            inputs,
            name=f"predict_{self.ctx.predict_attempts:02d}",
            label="predict",
            description=f"H(R) of {self.inputs.structure.get_formula()} by the model",
        )
        return ToContext(predict=node)

    def inspect_predict(self) -> ExitCode | None:
        """Go on, try again with smaller chunks, or give up."""
        node = self.ctx.predict
        if node.is_finished_ok:
            return None
        if node.exit_status == NO_SPACE:
            self.wait_for_room(node)
            return None
        if node.exit_status in OUT_OF_MEMORY:
            default = PredictCalculation.CONFIG.model_fields["edges_per_chunk"].default
            known = self.ctx.edges_per_chunk or self.inputs.predict.parameters.get("edges_per_chunk", default)
            self.ctx.edges_per_chunk = max(1, known // 4)
            self.report(f"out of memory: {self.ctx.edges_per_chunk} edges at a time")
        if node.exit_status in (*RETRYABLE, *OUT_OF_MEMORY) and not self.tried(self.ctx.predict_attempts):
            return None
        return self.failure(self.exit_codes.ERROR_PREDICTION_FAILED, node)

    def results(self) -> None:
        """Attach the prediction."""
        self.attach(self.ctx.predict, "hamiltonian", "remote_folder", "output_parameters")

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        model: orm.Data,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        basis: str | dict[str, str] | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param basis: the basis in the words of `deeph-engine overlap`; by default the one that the model's data name.
        :raises InputError: an element that the model does not know, or a basis that nothing names.
        """
        unknown = unknown_elements(model, structure)
        if unknown:
            raise InputError(
                "element unknown to the model",
                where="structure",
                found=", ".join(unknown),
                expected=", ".join(model.elements),
            )
        basis = basis or basis_of(model)
        values = cls.predict_inputs(code, protocol, overrides, options, basis, model=model)
        return filled_builder(cls, {**values, "structure": structure, "model": model})

    @classmethod
    def predict_inputs(
        cls,
        code: orm.AbstractCode,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        basis: str | dict[str, str] | None = None,
        where: str = "overrides",
        model: orm.Data | None = None,
    ) -> dict[str, Any]:
        """Inputs of a protocol as nested plain values, without structure and model.

        :param model: whose labels made the orbitals, for codes that make their own; if it does not exist yet, the
            workchain looks for them when it runs.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides, where)
        overlap = dict(inputs.get("overlap", {}))
        parameters = dict(overlap.get("parameters", {}))
        if basis is not None:
            parameters.setdefault("basis", basis)
        if "basis" not in parameters:
            raise InputError(
                "basis of the overlap unknown",
                where="overlap.parameters.basis",
                found="nothing in the model or the runs behind it",
                expected=spec_forms(),
                remedy="give the basis that the labels were computed with",
            )
        overlap["parameters"] = parameters
        if "orbitals" not in overlap:
            overlap["orbitals"] = orbitals_of_basis(parameters["basis"], model) or None
        return {
            **inputs,
            "overlap": job_inputs(code, overlap, options),
            "predict": job_inputs(code, inputs.get("predict", {}), options),
        }
