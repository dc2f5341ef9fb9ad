"""A DeepH folder as an input: a HamiltonianData that is uploaded, or a folder of an earlier job that is linked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.orm import RemoteData, StructureData

from aiida_deeph.calculations.staging import REMOTE_FOLDERS, RemoteFolder, Staging
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.dataset import MANIFEST_FILE


def define_folder(spec: Any, name: str, what: str) -> None:
    """Declare the inputs `NAME` and `NAME_folder`, of which one is given."""
    spec.input(name, valid_type=HamiltonianData, required=False, help=f"{what}, uploaded from the database.")
    spec.input(
        f"{name}_folder",
        valid_type=RemoteData,
        required=False,
        help=f"{what}, where the job that made it left it, or any remote DeepH folder.",
    )


def check_one_given(inputs: Mapping[str, Any], name: str) -> str | None:
    """Exactly one of `NAME` and `NAME_folder` is there."""
    given = [key for key in (name, f"{name}_folder") if key in inputs]
    if len(given) == 1:
        return None
    return str(
        InputError(
            "give one DeepH folder",
            where="inputs",
            found=" and ".join(given) or "none",
            expected=f"either {name} or {name}_folder",
        )
    )


def stage_folder(staging: Staging, inputs: Mapping[str, Any], name: str) -> str:
    """Upload or link it as the folder `NAME`."""
    if name in inputs:
        return staging.copy(inputs[name], name)
    remote = inputs[f"{name}_folder"]
    return staging.link(remote, name, _subfolder(remote))


def elements_of(inputs: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Elements of the structure, as far as the nodes tell; empty if they do not."""
    if name in inputs:
        node: HamiltonianData = inputs[name]
        return node.elements
    remote = inputs.get(f"{name}_folder")
    structure = _creator_input(remote, "structure")
    if isinstance(structure, StructureData):
        return tuple(kind.symbol for kind in structure.kinds)
    return _from_creator(remote)


def _from_creator(remote: RemoteData | None) -> tuple[str, ...]:
    """Elements of the folder that a predict job started from."""
    overlap = _creator_input(remote, "overlap")
    if isinstance(overlap, HamiltonianData):
        return overlap.elements
    further = _creator_input(remote, "overlap_folder")
    return elements_of({"folder_folder": further}, "folder") if further is not None else ()


def _creator_input(remote: RemoteData | None, label: str) -> Any:
    creator = remote.creator if remote is not None and remote.is_stored else None
    if creator is None:
        return None
    return next((link.node for link in creator.base.links.get_incoming().all() if link.link_label == label), None)


def _subfolder(remote: RemoteData) -> str:
    """Where in the working directory of the job that made it the DeepH folder lies."""
    creator = remote.creator if remote.is_stored else None
    return (getattr(creator.process_class, "FOLDER", "") if creator is not None else "") or "."


# Folder of the dataset in the working directory of the preprocess job, and below its name in jobs that read it.
OUTPUT = "dataset"
DATASET = "dataset"
MEMBERS = "members"


def define_dataset(spec: Any) -> None:
    """Declare the inputs `dataset` and `dataset_folder`."""
    spec.input("dataset", valid_type=DatasetData, help="The manifest: which members, with which hashes.")
    spec.input(
        "dataset_folder",
        valid_type=REMOTE_FOLDERS,
        help="Folder, or stash, of the preprocess job that made it.",
    )


def stage_dataset(staging: Staging, dataset: DatasetData, folder: RemoteFolder, target: str = DATASET) -> str:
    """Put the node's own manifest beside the linked members: files that changed since do not fit its hashes."""
    staging.copy(dataset, f"{target}/{MANIFEST_FILE}", MANIFEST_FILE)
    staging.link(folder, f"{target}/{MEMBERS}", f"{OUTPUT}/{MEMBERS}")
    return target
