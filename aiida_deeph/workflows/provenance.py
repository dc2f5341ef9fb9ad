"""From a model back to the DFT runs behind it."""

from __future__ import annotations

from aiida import orm
from aiida.common.exceptions import NotExistent


def reader_of(model: orm.Data) -> str | None:
    """Name of the reader of a model's labels; None if the database does not know."""
    try:
        reader: str = model.creator.inputs.dataset.creator.inputs.reader.value
    except (AttributeError, NotExistent):
        return None
    return reader


def runs_of(model: orm.Data) -> list[orm.CalcJobNode]:
    """The DFT runs whose output a model was trained on, as far as the database knows; imported labels have none."""
    runs: list[orm.CalcJobNode] = []
    try:
        dataset = model.creator.inputs.dataset
    except (AttributeError, NotExistent):
        return runs
    while dataset is not None and dataset.creator is not None:
        inputs = dataset.creator.inputs
        labels = inputs.labels if "labels" in inputs else {}
        runs += [labels[name].creator for name in labels if labels[name].creator is not None]
        # A dataset that was extended has labels of its own.
        dataset = inputs.extend if "extend" in inputs else None
    return runs
