"""Many raw DFT outputs into one gated dataset, where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import Bool, Data, RemoteStashCompressedData, Str, StructureData

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.folders import MEMBERS, OUTPUT, stage_dataset
from aiida_deeph.calculations.staging import REMOTE_FOLDERS, Staging
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.dataset import MANIFEST_FILE
from aiida_deeph.engine.preprocess.asked import as_asked
from aiida_deeph.engine.preprocess.config import PreprocessConfig

# The reader of DeepH folders.
DEEPH = "deeph"
REPORT_FILE = "preprocess.json"
EXTENDED = "extended"
# Structures that the labels were asked for.
ASKED = "asked.json"


class PreprocessCalculation(EngineCalculation):
    """Read, check and convert the labels; the dataset stays in the remote folder, its manifest comes back.

    Members are called as their inputs in the namespaces `labels` and `hamiltonians`; those of the dataset in `extend`
    are taken over as they are, under their names.
    """

    COMMAND = "preprocess"
    CONFIG = PreprocessConfig
    FILLED = MappingProxyType(
        {
            "members": ({"name": "member", "path": "members/member", "code": "any"},),
            "output": None,
            "extend": None,
            "asked": None,
        }
    )

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.input_namespace(
            "labels",
            valid_type=(*REMOTE_FOLDERS, RemoteStashCompressedData),
            dynamic=True,
            required=False,
            help="Folder of each DFT run, or what AiiDA stashed of it, by member name.",
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
        spec.input("extend", valid_type=DatasetData, required=False, help="A dataset whose members are taken over.")
        spec.input(
            "extend_folder",
            valid_type=REMOTE_FOLDERS,
            required=False,
            help="Folder, or stash, of its preprocess job.",
        )
        spec.input(
            "retrieve",
            valid_type=Bool,
            default=lambda: Bool(False),
            help="Whether H and S of each new member come back as a node.",
        )
        spec.output("dataset", valid_type=DatasetData, required=False, help="The manifest.")
        spec.output_namespace(
            "members",
            valid_type=HamiltonianData,
            dynamic=True,
            help="With `retrieve`: H and S of each new member, as they stand in the dataset.",
        )
        spec.exit_code(330, "ERROR_MEMBERS_REJECTED", "Too many labels are unfit: {message}", invalidates_cache=True)
        spec.exit_code(710, "WARNING_GATE", "The dataset is complete, but a gate warns: {message}")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        labels, hamiltonians = inputs.get("labels", {}), inputs.get("hamiltonians", {})
        if ("extend" in inputs) != ("extend_folder" in inputs):
            return str(InputError("half of a dataset", where="inputs", expected="extend and extend_folder"))
        if not labels and not hamiltonians and "extend" not in inputs:
            return str(
                InputError("no labels", where="input labels", found="an empty namespace", expected="one or more")
            )
        if labels and "reader" not in inputs:
            return str(InputError("no reader", where="inputs", expected="the code that made the labels"))
        taken = {member.name for member in inputs["extend"].members} if "extend" in inputs else set()
        twice = sorted(set(labels) & set(hamiltonians) | (set(labels) | set(hamiltonians)) & taken)
        without = sorted(name for name, node in hamiltonians.items() if not node.has_hamiltonian)
        if twice or without:
            what = "name stands twice in labels and datasets" if twice else "no Hamiltonian, only an overlap"
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
        fields: dict[str, Any] = {"members": members, "output": OUTPUT}
        asked = {name: as_asked(to_engine(node)) for name, node in asked_structures(self.inputs.get("labels", {}))}
        if asked:
            fields["asked"] = staging.write_json(asked, ASKED)
        if "extend" in self.inputs:
            fields["extend"] = stage_dataset(staging, self.inputs.extend, self.inputs.extend_folder, EXTENDED)
        staging.retrieve(f"{OUTPUT}/{MANIFEST_FILE}", f"{OUTPUT}/{REPORT_FILE}")
        if self.inputs.retrieve.value:
            # Member by member: those that were taken over are nodes of an earlier run.
            staging.retrieve_for_parser(*(f"{OUTPUT}/{MEMBERS}/{member['name']}" for member in members))
        return fields


def asked_structures(labels: Mapping[str, Data]) -> Iterator[tuple[str, StructureData]]:
    """The structure that each label was asked for, as far as its folder is known to come from a job that had one."""
    for name, folder in sorted(labels.items()):
        if folder.creator is not None:
            links = folder.creator.base.links.get_incoming(StructureData, link_label_filter="structure")
            yield from ((name, node) for node in links.all_nodes())
