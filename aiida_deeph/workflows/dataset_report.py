"""The report of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import calcfunction


@calcfunction
def report_dataset(labels: orm.Dict, preprocess: orm.Dict, dataset: orm.Data) -> orm.Dict:
    """What became of each label.

    :param labels: `n_labels` (submitted), `failed` (name -> reason).
    :param preprocess: output_parameters of the preprocess job.
    """
    manifest = dataset.manifest
    submitted = labels.get_dict()
    return orm.Dict(
        {
            **submitted,
            "n_failed": len(submitted["failed"]),
            "n_members": len(manifest.members),
            "rejected": {entry.name: entry.reason for entry in manifest.rejected},
            "n_rejected": len(manifest.rejected),
            "pair_cutoffs": dict(manifest.pair_cutoffs),
            "pair_cutoffs_units": "angstrom",
            "statistics": manifest.statistics,
            "warnings": manifest.statistics.get("warnings", []),
        }
    )


@calcfunction
def report_failure(labels: orm.Dict) -> orm.Dict:
    """The same when no dataset came about."""
    submitted = labels.get_dict()
    return orm.Dict({**submitted, "n_failed": len(submitted["failed"]), "n_members": 0})


MEV = 1000.0


@calcfunction
def summarise(
    times: orm.Dict, dataset: orm.Dict, training: orm.Dict, evaluation: orm.Dict, **comparisons: orm.Dict
) -> orm.Dict:
    """One Dict with what a reader wants to know first.

    :param times: step -> seconds between its submission and its end.
    :param comparisons: per validation structure.
    """
    cells, trained, errors = dataset.get_dict(), training.get_dict(), evaluation.get_dict()
    compared = {name: node.get_dict() for name, node in comparisons.items()}
    result: dict[str, Any] = {
        "n_labels": cells["n_labels"],
        "n_failed": cells["n_failed"],
        "failed": cells["failed"],
        "n_rejected": cells["n_rejected"],
        "n_members": cells["n_members"],
        **_of_cutoff(cells.get("statistics", {})),
        **{name: trained.get(name) for name in ("n_train", "n_validation", "n_test")},
        "epochs": trained.get("epochs"),
        "test_mae_meV": MEV * errors["mae_eV"],
        "test_max_meV": MEV * errors["max_eV"],
        "seconds": times.get_dict(),
        "seconds_units": "s",
    }
    if compared:
        result["band_mae_meV"] = max(values["band_mae_meV"] for values in compared.values())
        result["band_max_meV"] = max(values["band_max_meV"] for values in compared.values())
        result["validation"] = {name: values["band_mae_meV"] for name, values in compared.items()}
    return orm.Dict(result)


def _of_cutoff(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """What the cutoff of atom pairs costs, copies among the cells, and warnings, where there are any."""
    cost = statistics.get("max_band_error_of_cutoff_eV")
    found = {"copies": statistics.get("groups"), "warnings": statistics.get("warnings")}
    if cost is not None:
        found["band_error_of_cutoff_meV"] = MEV * cost
    return {key: value for key, value in found.items() if value not in (None, {}, [])}
