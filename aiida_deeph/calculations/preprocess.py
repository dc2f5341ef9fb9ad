"""Many raw DFT outputs into one gated dataset, where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import RemoteData, Str

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.dataset import MANIFEST_FILE
from aiida_deeph.engine.preprocess.config import PreprocessConfig

OUTPUT = "dataset"
# The reader of DeepH folders.
DEEPH = "deeph"
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
            "labels",
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            help="Folder of each DFT run by member name.",
        )
        spec.input_namespace(
            "hamiltonians",
            valid_type=HamiltonianData,
            dynamic=True,
            required=False,
            help="Labels that are in the database already, by member name: each is uploaded.",
        )
        spec.input(
            "reader",
            valid_type=Str,
            required=False,
            help="Code that made `labels`, as `deeph-engine convert --code` calls it.",
        )
        spec.output("dataset", valid_type=DatasetData, required=False, help="The manifest.")
        spec.exit_code(330, "ERROR_MEMBERS_REJECTED", "Too many labels are unfit: {message}", invalidates_cache=True)
        spec.exit_code(710, "WARNING_GATE", "The dataset is complete, but a gate warns: {message}")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        labels, hamiltonians = inputs.get("labels", {}), inputs.get("hamiltonians", {})
        if not labels and not hamiltonians:
            return str(
                InputError("no labels", where="input labels", found="an empty namespace", expected="one or more")
            )
        if labels and "reader" not in inputs:
            return str(InputError("no reader", where="inputs", expected="the code that made the labels"))
        twice = sorted(set(labels) & set(hamiltonians))
        without = sorted(name for name, node in hamiltonians.items() if not node.has_hamiltonian)
        if twice or without:
            what = "name stands in labels and hamiltonians" if twice else "no Hamiltonian, only an overlap"
            return str(InputError(what, where="inputs", found=", ".join(twice or without)))
        return None

    def stage(self, staging: Staging) -> dict[str, Any]:
        members = [
            {"name": name, "path": staging.link(remote, f"members/{name}"), "code": self.inputs.reader.value}
            for name, remote in sorted(self.inputs.get("labels", {}).items())
        ]
        members += [
            {"name": name, "path": staging.copy(node, f"members/{name}"), "code": DEEPH}
            for name, node in sorted(self.inputs.get("hamiltonians", {}).items())
        ]
        staging.retrieve(f"{OUTPUT}/{MANIFEST_FILE}", f"{OUTPUT}/{REPORT_FILE}")
        return {"members": members, "output": OUTPUT}
