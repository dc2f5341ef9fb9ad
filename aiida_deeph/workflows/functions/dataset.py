"""The report of a dataset."""

from __future__ import annotations

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
            "warnings": preprocess.get_dict().get("warnings", []),
        }
    )


@calcfunction
def report_failure(labels: orm.Dict) -> orm.Dict:
    """The same when no dataset came about."""
    submitted = labels.get_dict()
    return orm.Dict({**submitted, "n_failed": len(submitted["failed"]), "n_members": 0})
