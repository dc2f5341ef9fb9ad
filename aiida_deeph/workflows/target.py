"""A model put to use on one structure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, if_
from aiida.plugins import DataFactory
from pydantic import Field, field_validator, model_validator

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.registry import define_labelling, label_class, labelling_inputs
from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.processes.builder import codes_of, filled_builder
from aiida_deeph.processes.ports import expose_inputs
from aiida_deeph.processes.protocol import ProtocolMixin, split_overrides
from aiida_deeph.processes.resumable import ResumableMixin
from aiida_deeph.workflows.band_functions import band_kpoints, check_path, compare_band_structures
from aiida_deeph.workflows.bands import FOLDER_INPUTS, OTHERS, BandsWorkChain, output_types
from aiida_deeph.workflows.model_basis import basis_of
from aiida_deeph.workflows.predict import PredictWorkChain

# Outputs of the observables beside the bands.
OBSERVED = {label: kind for name in OTHERS for label, kind in output_types(name).items()}


def define_steps(spec: ProcessSpec) -> None:
    """The inputs `predict` and `bands`, those of the steps without the structure and the model."""
    expose_inputs(spec, PredictWorkChain, namespace="predict", exclude=("structure", "model"))
    given = (*FOLDER_INPUTS, "structure", "kpoints")
    optional = {"required": False, "populate_defaults": False, "help": "Empty: H(R) alone."}
    expose_inputs(spec, BandsWorkChain, namespace="bands", exclude=given, namespace_options=optional)


def step_inputs(
    engine: orm.AbstractCode,
    protocol: str | None,
    overrides: Mapping[str, Any],
    options: Mapping[str, Any] | None,
    basis: str | dict[str, str] | None,
    model: orm.Data | None = None,
) -> dict[str, Any]:
    """The inputs `predict` and `bands` of a protocol as nested plain values.

    :param overrides: of both; null in place of those of `bands` means H(R) alone.
    :param basis: by default the one that the model's data name.
    """
    basis = basis or (basis_of(model) if model is not None else None)
    where = "overrides.predict"
    predict = PredictWorkChain.predict_inputs(engine, protocol, overrides.get("predict"), options, basis, where, model)
    if "bands" in overrides and overrides["bands"] is None:
        return {"predict": predict}
    bands = BandsWorkChain.bands_inputs(engine, protocol, overrides.get("bands"), options, "overrides.bands")
    return {"predict": predict, "bands": bands}


class TargetWorkChain(ProtocolMixin, ResumableMixin, WorkChain):
    """H(R) of one structure, its bands and density of states; with a labelling workchain also the DFT bands of that
    same structure, and how far the predicted ones are off."""

    _protocol_file = Path(__file__).parent / "protocols" / "target.yaml"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("structure", valid_type=orm.StructureData, help="As large as you like, unless it is labelled too.")
        spec.input("model", valid_type=DataFactory("deeph.model"), help="The trained model.")
        spec.input(
            "kpoints",
            valid_type=orm.KpointsData,
            required=False,
            help="Of the bands; else the path of `bands`.",
        )
        define_steps(spec)
        spec.input(
            "reference_bands",
            valid_type=orm.BandsData,
            required=False,
            help="DFT bands that are known already, to compare with at their k-points; then nothing is labelled.",
        )
        define_labelling(spec, "Entry point of the workchain that computes the DFT bands, if they are wanted.")
        spec.inputs.validator = cls._validate
        spec.outline(
            cls.run_prediction,
            cls.inspect_prediction,
            if_(cls.wants_bands)(cls.run_bands, cls.compare, cls.results),
        )
        spec.output("hamiltonian", valid_type=DataFactory("deeph.hamiltonian"), required=False, help="If retrieved.")
        spec.output("remote_folder", valid_type=orm.RemoteData, required=False, help="Where H(R) lies.")
        spec.output("bands", valid_type=orm.BandsData, required=False, help="Predicted, eV.")
        for label, kind in OBSERVED.items():
            spec.output(label, valid_type=kind, required=False, help="Predicted.")
        spec.output("dft_bands", valid_type=orm.BandsData, required=False, help="Of the DFT code, eV.")
        spec.output("comparison", valid_type=orm.Dict, required=False, help="Predicted bands against those of DFT.")
        spec.output(
            "output_parameters",
            valid_type=orm.Dict,
            required=False,
            help="Fermi level, gap, solver, seconds of the bands.",
        )
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_PREDICTION_FAILED", message="The prediction failed: {reason}")
        spec.exit_code(320, "ERROR_BANDS_FAILED", message="The bands failed: {reason}")
        spec.exit_code(330, "ERROR_LABEL_FAILED", message="Predicted, but not compared, since DFT failed: {reason}")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        ways = [name for name in ("label_workchain", "reference_bands") if name in inputs]
        if len(ways) == 2:
            return "give label_workchain or reference_bands, not both"
        if ways and not inputs.get("bands"):
            return f"{ways[0]} is for a comparison of bands, but `bands` is empty"
        if ways == ["reference_bands"] and "kpoints" in inputs:
            return "reference_bands bring their own k-points: leave kpoints out"
        bands = inputs.get("bands", {})
        if "kpath" not in bands or "structure" not in inputs or "kpoints" in inputs or "reference_bands" in inputs:
            return None
        return check_path(inputs["structure"], bands["kpath"], "bands.kpath")

    def wants_bands(self) -> bool:
        """Whether bands are wanted, not only H(R)."""
        return bool(self.inputs.get("bands"))

    def run_prediction(self) -> ToContext:
        """Predict H(R), and label the structure at the same time."""
        formula = self.inputs.structure.get_formula()
        inputs = self.exposed_inputs(PredictWorkChain, namespace="predict")
        inputs |= {"structure": self.inputs.structure, "model": self.inputs.model}
        children = {
            "predict": self.submit_once(
                PredictWorkChain, inputs, name="predict", label="predict", description=f"H(R) of {formula}"
            )
        }
        if "label_workchain" in self.inputs:
            self.ctx.kpoints = self._kpoints()
            inputs = dict(self.exposed_inputs(LabelWorkChain, namespace="label"))
            inputs |= {"structure": self.inputs.structure, "bands_kpoints": self.ctx.kpoints}
            workchain = label_class(self.inputs.label_workchain.value)
            children["label"] = self.submit_once(
                workchain, inputs, name="label", label="label", description=f"DFT bands of {formula}"
            )
        return ToContext(**children)

    def _kpoints(self) -> orm.KpointsData:
        """k-points at which predicted bands are compared with those of DFT."""
        if "kpoints" in self.inputs:
            return self.inputs.kpoints
        path = self.inputs.bands.kpath.value if "kpath" in self.inputs.bands else None
        settings = orm.Dict({"path": path, "points_per_segment": self.inputs.bands.points_per_segment.value})
        return self.call_once(band_kpoints, "kpoints", structure=self.inputs.structure, settings=settings)

    def inspect_prediction(self) -> ExitCode | None:
        """Attach H(R) and the DFT bands."""
        predicted, reference = self.ctx.predict, self._reference()
        if reference is not None:
            self.out("dft_bands", reference)
        if not predicted.is_finished_ok:
            return self.failure(self.exit_codes.ERROR_PREDICTION_FAILED, predicted)
        self.attach(predicted, "hamiltonian", "remote_folder")
        return None

    def _reference(self) -> orm.BandsData | None:
        """DFT bands, as far as they are there."""
        if "reference_bands" in self.inputs:
            return self.inputs.reference_bands
        label = self.ctx.get("label")
        return label.outputs.output_band if label is not None and "output_band" in label.outputs else None

    def run_bands(self) -> ToContext:
        """Bands and density of states."""
        inputs = self.exposed_inputs(BandsWorkChain, namespace="bands")
        predicted = self.ctx.predict.outputs
        if "hamiltonian" in predicted:
            inputs["hamiltonian"] = predicted.hamiltonian
        else:
            inputs |= {"hamiltonian_folder": predicted.remote_folder, "structure": self.inputs.structure}
        kpoints = self.ctx.get("kpoints") or self.inputs.get("kpoints") or self.inputs.get("reference_bands")
        if kpoints is not None:
            inputs.pop("kpath", None)
            inputs["kpoints"] = kpoints
        description = f"bands and density of states of {self.inputs.structure.get_formula()}"
        return ToContext(
            bands=self.submit_once(BandsWorkChain, inputs, name="bands", label="bands", description=description)
        )

    def compare(self) -> None:
        """Predicted bands against those of DFT."""
        label, bands, reference = self.ctx.get("label"), self.ctx.bands, self._reference()
        if reference is None or not bands.is_finished_ok or (label is not None and not label.is_finished_ok):
            return
        occupied = bands.outputs.output_parameters.get("n_occupied", None)
        if occupied is None:
            self.report("occupied bands unknown, not compared")
            return
        comparison = self.call_once(
            compare_band_structures,
            "compare",
            predicted=bands.outputs.bands,
            reference=reference,
            settings=orm.Dict({"n_occupied": occupied, "alignment": "mean_occupied"}),
        )
        self.out("comparison", comparison)

    def results(self) -> ExitCode | None:
        """Attach bands and density of states; a failed label does not take them away."""
        label, bands = self.ctx.get("label"), self.ctx.bands
        self.attach(bands, "bands", *OBSERVED, "output_parameters")
        if not bands.is_finished_ok:
            return self.failure(self.exit_codes.ERROR_BANDS_FAILED, bands)
        failed = label is not None and not label.is_finished_ok
        return self.failure(self.exit_codes.ERROR_LABEL_FAILED, label) if failed else None

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structure: orm.StructureData,
        model: orm.Data,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        basis: str | dict[str, str] | None = None,
        label: str | None = None,
        reference_bands: orm.BandsData | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param codes: `engine` (deeph-engine), and `dft` if the structure is labelled too.
        :param overrides: mirror the ports: `predict`, `bands`, `label`.
        :param basis: the basis in the words of `deeph-engine overlap`; by default the one that the model's data name.
        :param label: entry point of the workchain that computes the DFT bands to compare with; by default none does.
        :param reference_bands: DFT bands that are known already.
        :raises InputError: anything that cannot run.
        """
        engine, dft = codes_of(codes)
        own, parts = split_overrides(overrides, "predict", "bands", "label")
        values = {
            **cls.get_protocol_inputs(protocol, own),
            **step_inputs(engine, protocol, parts, options, basis, model),
            "structure": structure,
            "model": model,
            "reference_bands": reference_bands,
        }
        if label is not None:
            values |= labelling_inputs(label, dft, [structure], protocol, parts.get("label"), options)
        return filled_builder(cls, values)


class TargetSettings(Config):
    """Changes of the inputs that all targets and validation structures share.

    :param bands: parameters of the bands on top of `bands.bands.parameters`, e.g. `{num_bands: 24}`; false: H(R) alone.
    :param observables: the same for each other observable, by its name; the name may also stand beside `bands`.
    :param predict: parameters of the prediction on top of `predict.predict.parameters`.
    :param kpath: path of the bands, e.g. `G-K-M-G`.
    :param points_per_segment: of the path.
    :param retrieve: whether H(R) comes back into the database; large ones may stay where they are.
    """

    bands: bool | dict[str, Any] = True
    observables: dict[str, bool | dict[str, Any]] = Field(default_factory=dict)
    predict: dict[str, Any] = Field(default_factory=dict)
    kpath: str | None = None
    points_per_segment: int | None = Field(default=None, ge=2)
    retrieve: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        named = {name: value for name, value in values.items() if name in OTHERS}
        rest = {name: value for name, value in values.items() if name not in OTHERS}
        return {**rest, "observables": {**rest.get("observables", {}), **named}}

    @field_validator("observables")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(value) - set(OTHERS))
        if unknown:
            raise ValueError(f"no such observable: {', '.join(unknown)}; there are {', '.join(OTHERS)}")
        return value

    def applied(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of a TargetWorkChain with these changes; the argument stays as it is."""
        result = {**inputs, "predict": {**inputs["predict"]}}
        if self.predict:
            result["predict"]["predict"] = _with_parameters(result["predict"]["predict"], self.predict)
        if self.retrieve is not None:
            result["predict"]["predict"] = {**result["predict"]["predict"], "retrieve": orm.Bool(self.retrieve)}
        if self.bands is False or "bands" not in inputs:
            result.pop("bands", None)
            return result
        bands = result["bands"] = {**inputs["bands"]}
        if isinstance(self.bands, dict):
            bands["bands"] = _with_parameters(bands["bands"], self.bands)
        for name, change in self.observables.items():
            if change is False:
                bands.pop(name, None)
            elif isinstance(change, dict) and name in bands:
                bands[name] = _with_parameters(bands[name], change)
        if self.kpath is not None:
            bands["kpath"] = orm.Str(self.kpath)
        if self.points_per_segment is not None:
            bands["points_per_segment"] = orm.Int(self.points_per_segment)
        return result


def validate_settings(settings: Mapping[str, orm.Dict] | None, _: Any) -> str | None:
    """Message if the settings of a structure are wrong."""
    for name, node in (settings or {}).items():
        try:
            parse_config(TargetSettings, node.get_dict() if isinstance(node, orm.Dict) else node, f"settings.{name}")
        except DeepHError as error:
            return str(error)
    return None


def _with_parameters(job: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a job with some of its parameters changed."""
    known = job["parameters"].get_dict() if "parameters" in job else {}
    return {**job, "parameters": orm.Dict({**known, **changes})}
