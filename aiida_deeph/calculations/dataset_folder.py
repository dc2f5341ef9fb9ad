"""A dataset as an input: the manifest from the database, the matrices linked from the preprocess job's folder."""

from __future__ import annotations

from aiida_deeph.calculations.staging import REMOTE_FOLDERS, RemoteFolder, Staging
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.io.dataset import MANIFEST_FILE

# Folder of the dataset in the working directory of the preprocess job, and below its name in jobs that read it.
OUTPUT = "dataset"
DATASET = "dataset"
MEMBERS = "members"


def define_dataset(spec) -> None:
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
