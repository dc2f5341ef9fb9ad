"""Which basis a model speaks: needed for the overlap of every structure that it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_deeph.codes.registry import label_class, label_entry_points
from aiida_deeph.processes.orbitals import reader_of, runs_of

Basis = str | dict[str, str]


def basis_of(model: orm.Data) -> Basis | None:
    """The basis of a model's training data in the words of `deeph-engine overlap`; None if nothing tells.

    Looked for in what the model says of its labels, then in the inputs of the DFT runs that it descends from.
    """
    data = model.model_description.data
    if "overlap_basis" in data:
        basis: Basis = data["overlap_basis"]
        return basis
    labels = data.get("labels", {})
    symbols = set(model.elements)
    # Data sets name the basis of each element; members differ in their elements.
    named = labels.get("basis", {})
    known = {s: text for one in (named if isinstance(named, list) else [named]) for s, text in one.items()}
    if symbols <= set(known):
        return known
    # Where the members of a dataset differ in something, all distinct settings are listed.
    settings = labels.get("settings")
    found = [
        _translate(labels.get("code"), one, symbols) for one in (settings if isinstance(settings, list) else [settings])
    ]
    return next((basis for basis in found if basis is not None), None) or _from_runs(model, symbols)


def _from_runs(model: orm.Data, symbols: set[str]) -> Basis | None:
    reader = reader_of(model)
    parameters = [run.inputs.parameters.get_dict() for run in runs_of(model) if "parameters" in run.inputs]
    found = (_translate(reader, values, symbols) for values in parameters)
    return next((basis for basis in found if basis is not None), None)


def _translate(code: object, parameters: Any, symbols: set[str]) -> Basis | None:
    name = f"deeph.label.{code}"
    if name not in label_entry_points() or not isinstance(parameters, Mapping):
        return None
    try:
        return label_class(name).overlap_basis(parameters, symbols)
    except KeyError:
        return None
