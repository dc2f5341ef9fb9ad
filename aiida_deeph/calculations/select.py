"""Choose which structures to label next."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import StructureData

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.calculations.validation import check_elements
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.data.structure import atom_symbols
from aiida_deeph.engine.prediction.config import SelectConfig

OUTPUT = "selection.json"
CANDIDATES, TARGETS = "candidates", "targets"


class SelectCalculation(EngineCalculation):
    """What a model expects of candidates and targets, all in one job, and the candidates that it would learn from."""

    COMMAND = "select"
    CONFIG = SelectConfig
    FILLED = MappingProxyType({"model": "model", "candidates": CANDIDATES, "targets": None, "output": OUTPUT})

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.input("model", valid_type=DeepHModelData, help="The model, of a network with a posterior.")
        spec.input_namespace(CANDIDATES, valid_type=StructureData, dynamic=True, help="Structures to choose from.")
        spec.input_namespace(
            TARGETS,
            valid_type=StructureData,
            dynamic=True,
            required=False,
            help="Structures that shall be predicted well; without any, the candidates.",
        )

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        for group in (CANDIDATES, TARGETS):
            for name, structure in inputs.get(group, {}).items():
                message = check_elements(inputs["model"], atom_symbols(structure))
                if message:
                    return f"{group}.{name}: {message}"
        return None if inputs.get(CANDIDATES) else "no candidates: give at least one structure"

    def stage(self, staging: Staging) -> dict[str, Any]:
        staging.retrieve(OUTPUT)
        fields = {"model": staging.copy(self.inputs.model, "model"), "output": OUTPUT, "candidates": CANDIDATES}
        for group in (CANDIDATES, TARGETS):
            for name, structure in sorted(self.inputs.get(group, {}).items()):
                staging.write_structure(structure, f"{group}/{name}.xyz")
                fields[group] = group
        return fields
