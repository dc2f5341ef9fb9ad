"""What is refused before a dataset is begun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.workflows.dataset_inputs import design_of
from aiida_deeph.workflows.functions.perturb import cell_name
from aiida_deeph.workflows.label.registry import label_class


def validate_perturbation(node: orm.Dict | None, _: Any) -> str | None:
    """Message if the settings are wrong."""
    try:
        design_of(None if node is None else node.get_dict())
    except DeepHError as error:
        return str(error)
    return None


def validate_positive(node: orm.Int | None, _: Any) -> str | None:
    """Message if a count is below one."""
    return f"found {node.value}, expected at least 1" if node is not None and node.value < 1 else None


def validate_share(node: orm.Float | None, _: Any) -> str | None:
    """Message if a share is not within [0, 1)."""
    return f"found {node.value}, expected 0 <= share < 1" if node is not None and not 0 <= node.value < 1 else None


def cell_names(structures: Mapping[str, orm.StructureData], perturbation: orm.Dict | None) -> list[str]:
    """Names of the cells that are labelled, in their order."""
    return sorted(structures) if perturbation is None else [cell_name(n) for n in range(perturbation["n"])]


def validate_dataset(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Message if the inputs do not fit together."""
    structures, labels = inputs.get("structures", {}), inputs.get("labels", {})
    if not structures and not labels:
        return "no `structures` and no `labels`: give at least one"
    if "perturbation" in inputs and not structures:
        return "`perturbation` without `structures` to draw cells around"
    if structures and "label_workchain" not in inputs:
        return "`structures` without the `label_workchain` that labels them"
    if ("extend" in inputs) != ("extend_folder" in inputs):
        return "`extend` and `extend_folder` belong together: give both, or none"
    twice = set(cell_names(structures, inputs.get("perturbation"))) & set(labels)
    if twice:
        return f"a name stands in both structures and labels: {', '.join(sorted(twice))}"
    if "extend" in inputs:
        twice = {member.name for member in inputs["extend"].members} & set(labels)
        if twice:
            return f"a name stands in both labels and the dataset that is extended: {', '.join(sorted(twice))}"
    if "label" not in inputs or "label_workchain" not in inputs or "code" not in inputs["label"]:
        return None
    workchain = label_class(inputs["label_workchain"].value)
    common = {
        name: inputs["label"][name] for name in ("code", "codes", "parameters", "files") if name in inputs["label"]
    }
    for name, structure in structures.items():
        message = workchain._validate({**common, "structure": structure}, None)
        if message:
            return f"structures.{name}: {message}"
    return None
