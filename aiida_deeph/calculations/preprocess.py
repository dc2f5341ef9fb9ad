"""Many raw DFT outputs into one gated dataset, where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import RemoteData, Str

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.dataset import MANIFEST_FILE
from aiida_deeph.engine.preprocess.config import PreprocessConfig

OUTPUT = "dataset"
REPORT_FILE = "preprocess.json"


class PreprocessCalculation(EngineCalculation):
    """Read, check and convert the labels; the dataset stays in the remote folder, its manifest comes back.

    Members are called as their inputs in the namespace `labels`.
    """

    COMMAND = "preprocess"
    CONFIG = PreprocessConfig
    FILLED = MappingProxyType(
        {"members": ({"name": "member", "path": "members/member", "code": "any"},), "output": None}
    )

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.input_namespace(
            "labels", valid_type=RemoteData, dynamic=True, help="Folder of each DFT run by member name."
        )
        spec.input(
            "reader", valid_type=Str, help="Code that made the labels, as `deeph-engine convert --code` calls it."
        )
        spec.output("dataset", valid_type=DatasetData, required=False, help="The manifest.")
        spec.exit_code(330, "ERROR_MEMBERS_REJECTED", "Too many labels are unfit: {message}", invalidates_cache=True)
        spec.exit_code(710, "WARNING_GATE", "The dataset is complete, but a gate warns: {message}")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        if not inputs.get("labels"):
            return str(
                InputError("no labels", where="input labels", found="an empty namespace", expected="one or more")
            )
        return None

    def stage(self, staging: Staging) -> dict[str, Any]:
        reader = self.inputs.reader.value
        members = [
            {"name": name, "path": staging.link(remote, f"members/{name}"), "code": reader}
            for name, remote in sorted(self.inputs.labels.items())
        ]
        staging.retrieve(f"{OUTPUT}/{MANIFEST_FILE}", f"{OUTPUT}/{REPORT_FILE}")
        return {"members": members, "output": OUTPUT}
