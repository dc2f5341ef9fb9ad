"""A dataset as an input: the manifest from the database, the matrices linked from the preprocess job's folder."""

from __future__ import annotations

from aiida.orm import RemoteData

from aiida_deeph.calculations.preprocess import OUTPUT
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.io.dataset import MANIFEST_FILE

DATASET = "dataset"
MEMBERS = "members"


def define_dataset(spec) -> None:
    """Declare the inputs `dataset` and `dataset_folder`."""
    spec.input("dataset", valid_type=DatasetData, help="The manifest: which members, with which hashes.")
    spec.input("dataset_folder", valid_type=RemoteData, help="Folder of the preprocess job that made the dataset.")


def stage_dataset(staging: Staging, dataset: DatasetData, folder: RemoteData) -> str:
    """Put the node's own manifest beside the linked members: files that changed since do not fit its hashes."""
    staging.copy(dataset, f"{DATASET}/{MANIFEST_FILE}", MANIFEST_FILE)
    staging.link(folder, f"{DATASET}/{MEMBERS}", f"{OUTPUT}/{MEMBERS}")
    return DATASET
