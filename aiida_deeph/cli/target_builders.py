"""From an inputs file to the builder of what is done with a model: one structure or many, H(R) alone or all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_deeph.cli import inputs as schema
from aiida_deeph.cli.builders import codes_of, entry_point
from aiida_deeph.cli.sources import structure_node, structure_nodes
from aiida_deeph.engine.observables.registry import OBSERVABLES

BANDS = "bands"


def observable_changes(observables: Mapping[str, Any] | None, kpath: str | None) -> dict[str, Any]:
    """What a choice of observables changes of the inputs of a workflow.

    :param observables: name -> whether it is wanted, or its parameters; empty: H(R) alone; None: as the protocol says.
    :returns: `bands`, which is None for H(R) alone.
    """
    wanted = {name: value for name, value in (observables or {}).items() if value is not False}
    if observables is not None and not wanted:
        return {BANDS: None}
    changes: dict[str, Any] = {} if kpath is None else {"kpath": kpath}
    for name in OBSERVABLES if observables is not None else ():
        if name in wanted:
            changes[name] = {"parameters": wanted[name]} if isinstance(wanted[name], Mapping) else {}
        elif name != BANDS:
            changes[name] = None
    return {BANDS: changes}


def predict_builder(values: schema.PredictInputs, path: Path, *, engine: Any = None, dry_run: bool = False) -> Any:
    """Builder of the workflow that predicts: H(R) alone unless observables are asked for.

    :param path: the inputs file; what it names lies relative to its folder.
    :param engine: the engine's code, instead of the file's.
    :param dry_run: leave no node behind.
    :raises InputError: anything that cannot run.
    """
    if values.structure is None or values.observables:
        asked = values.model_copy(update={"observables": values.observables or {}})
        return target_builder(schema.TargetInputs(**dict(asked)), path, engine=engine, dry_run=dry_run)
    from aiida_deeph.workflows.predict import PredictWorkChain

    return PredictWorkChain.get_builder_from_protocol(
        codes_of(values, path, engine=engine)["engine"],
        structure_node(values.structure, path.parent, "structure", store=not dry_run),
        model_of(values.model, path),
        protocol=values.protocol,
        overrides=values.overrides,
        options=values.options,
        basis=values.basis,
    )


def target_builder(
    values: schema.TargetInputs, path: Path, *, engine: Any = None, dft: Any = None, dry_run: bool = False
) -> Any:
    """Builder of the workflow that gives H(R) and observables of one structure or of many.

    :param dft: the DFT code, instead of the file's; the rest as in `predict_builder`.
    :raises InputError: anything that cannot run.
    """
    from aiida_deeph.processes.protocol import merge
    from aiida_deeph.workflows.target import TargetWorkChain
    from aiida_deeph.workflows.targets import TargetsWorkChain

    changes = observable_changes(values.observables, values.kpath)
    common: dict[str, Any] = {
        "codes": codes_of(values, path, engine=engine, dft=dft),
        "model": model_of(values.model, path),
        "protocol": values.protocol,
        "options": values.options,
        "basis": values.basis,
        "label": None if values.label is None else entry_point(values.label),
    }
    if values.structure is not None:
        structure = structure_node(values.structure, path.parent, "structure", store=not dry_run)
        return TargetWorkChain.get_builder_from_protocol(
            structure=structure, overrides=merge(values.overrides, changes), **common
        )
    if values.max_concurrent is not None:
        changes["max_concurrent"] = values.max_concurrent
    structures = structure_nodes(values.structures, path.parent)
    return TargetsWorkChain.get_builder_from_protocol(
        targets={} if values.label else structures,
        validation=structures if values.label else {},
        overrides=merge(values.overrides, changes),
        group=values.group,
        **common,
    )


def model_of(identifier: int | str, path: Path) -> Any:
    """The model that an inputs file names.

    :raises InputError: there is none.
    """
    from aiida.plugins import DataFactory

    from aiida_deeph.cli.nodes import load

    return load(identifier, DataFactory("deeph.model"), f"{path}: model")
