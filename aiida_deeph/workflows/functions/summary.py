"""The numbers of a whole run."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import calcfunction

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
