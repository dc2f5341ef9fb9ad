"""Members of an earlier dataset in a new one: linked or copied, never read and written again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.dataset import MEMBERS, DatasetManifest, Member, file_hashes, member_folder, read_manifest
from aiida_deeph.engine.io.paths import inside
from aiida_deeph.engine.preprocess.config import PreprocessConfig

# Settings that decide how a member looks; of another value, members do not belong into one dataset.
SAME = ("cutoff", "gauge", "subtract_start")


def read_earlier(folder: Path, config: PreprocessConfig) -> DatasetManifest:
    """Manifest of a dataset that can be extended with these settings.

    :raises InputError: no dataset, or one whose members were cut off or shifted otherwise.
    """
    manifest = read_manifest(folder)
    known = manifest.source.get("preprocess", {})
    for name in SAME:
        wanted = getattr(config, name)
        # Datasets from before it could be subtracted hold all of H.
        earlier = known.get(name, False if name == "subtract_start" else wanted)
        if earlier != wanted:
            raise InputError(
                "datasets do not fit each other",
                where=f"extend {folder}, {name}",
                found=f"{earlier} of the earlier members",
                expected=f"{wanted}, as of the new ones",
                remedy=f"keep {name}, or preprocess all raw output anew",
            )
    return manifest


def take_over(member: Member, source: Path, output: Path) -> Member:
    """Put the files of a member into another dataset: linked where both lie on one filesystem, else copied.

    :param source: folder of the earlier dataset.
    :param output: folder of the new one.
    :raises DataError: a file is missing or changed since it was written.
    """
    origin, target = member_folder(source, member), output / MEMBERS / member.name
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for name in member.sha256:
        file = inside(origin, name)
        if not file.is_file():
            raise DataError("file of a member is missing", where=file, remedy="give the stash of the dataset")
        # A link survives the removal of the earlier folder.
        try:
            os.link(os.path.realpath(file), target / name)
        except OSError:  # another filesystem, or one without links
            shutil.copyfile(file, target / name)
    if file_hashes(target) != member.sha256:
        raise DataError("file of a member changed", where=origin, expected="the hashes of its manifest")
    return member.model_copy(update={"path": f"{MEMBERS}/{member.name}"})


def merged_extremes(new: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Statistics of new members with the extremes, warnings and counts of atoms of an earlier dataset."""
    result = dict(new)
    for key, pick in (
        ("max_hermiticity_error_eV", max),
        ("max_dropped_eV", max),
        ("max_band_error_of_cutoff_eV", max),
        ("min_overlap_eigenvalue", min),
        ("max_gauge_mu_eV", max),
    ):
        values = [one[key] for one in (new, earlier) if one.get(key) is not None]
        result[key] = pick(values) if values else None
    result["warnings"] = [*earlier.get("warnings", []), *new["warnings"]]
    counts = [one.get("elements", {}) for one in (new, earlier)]
    symbols = sorted({symbol for count in counts for symbol in count})
    result["elements"] = {symbol: sum(count.get(symbol, 0) for count in counts) for symbol in symbols}
    return result


def merged_labels(new: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Where the labels come from: values of both datasets, a list where they differ."""
    result = {**earlier, **new}
    for key in set(new) & set(earlier):
        values = [
            value
            for one in (earlier[key], new[key])
            for value in (one if isinstance(one, list) and isinstance(earlier[key], list) else [one])
        ]
        distinct = [value for n, value in enumerate(values) if value not in values[:n]]
        result[key] = distinct[0] if len(distinct) == 1 else distinct
    return result
