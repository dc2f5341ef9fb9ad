"""Predict H(R) of a structure from its overlap."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import Bool

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.folders import check_one_given, define_folder, elements_of, stage_folder
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.calculations.validation import check_elements
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.io.deeph import HAMILTONIAN_FILE, INFO_FILE, OVERLAP_FILE, STRUCTURE_FILE
from aiida_deeph.engine.io.moments import MOMENTS_FILE
from aiida_deeph.engine.prediction.config import PredictConfig

OUTPUT = "prediction"
REPORT_FILE = "prediction.json"


class PredictCalculation(EngineCalculation):
    """H and S stay in the remote folder as a DeepH folder, which bands links; `retrieve` makes a node of them too."""

    COMMAND = "predict"
    CONFIG = PredictConfig
    FILLED = MappingProxyType({"model": "model", "structure": "overlap", "output": None})
    FOLDER = OUTPUT

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.input("model", valid_type=DeepHModelData, help="The model.")
        define_folder(spec, "overlap", "Structure and overlap")
        spec.input(
            "retrieve", valid_type=Bool, default=lambda: Bool(True), help="Whether to bring H and S back as a node."
        )
        spec.output("hamiltonian", valid_type=HamiltonianData, required=False, help="The prediction, with `retrieve`.")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        return check_one_given(inputs, "overlap") or check_elements(inputs["model"], elements_of(inputs, "overlap"))

    def stage(self, staging: Staging) -> dict[str, Any]:
        staging.retrieve(f"{OUTPUT}/{REPORT_FILE}")
        if self.inputs.retrieve.value:
            spinful = self.inputs.model.base.attributes.get("spin") != SpinMode.NONE.value
            names = (STRUCTURE_FILE, INFO_FILE, *([MOMENTS_FILE] if spinful else []), OVERLAP_FILE, HAMILTONIAN_FILE)
            staging.retrieve_for_parser(*(f"{OUTPUT}/{name}" for name in names))
        return {
            "model": staging.copy(self.inputs.model, "model"),
            "structure": stage_folder(staging, self.inputs, "overlap"),
            "output": OUTPUT,
        }
