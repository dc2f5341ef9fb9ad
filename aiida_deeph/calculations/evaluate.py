"""Compare a model's predictions with the labels of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import Dict

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.folders import DATASET, define_dataset, stage_dataset
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.calculations.validation import check_elements
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.training.config import EvaluateConfig

OUTPUT = "evaluate.json"


class EvaluateCalculation(EngineCalculation):
    """Errors of H on the held-out members (or others): overall, per member, per pair of shells, by distance."""

    COMMAND = "evaluate"
    CONFIG = EvaluateConfig
    FILLED = MappingProxyType({"dataset": DATASET, "model": "model", "output": None})

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        define_dataset(spec)
        spec.input("model", valid_type=DeepHModelData, help="The model to test.")
        spec.output(
            "errors", valid_type=Dict, required=False, help="Errors in eV per member, pair of shells, distance."
        )

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        return check_elements(inputs["model"], inputs["dataset"].elements)

    def stage(self, staging: Staging) -> dict[str, Any]:
        staging.retrieve(OUTPUT)
        return {
            "dataset": stage_dataset(staging, self.inputs.dataset, self.inputs.dataset_folder),
            "model": staging.copy(self.inputs.model, "model"),
            "output": OUTPUT,
        }
