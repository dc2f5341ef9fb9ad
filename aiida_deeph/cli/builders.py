"""From an inputs file to a builder: what `aiida-deeph launch` and the scripts of recipes share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_deeph.cli import inputs as schema
from aiida_deeph.cli.sources import structure_node
from aiida_deeph.engine.errors import InputError


def full_builder(
    values: schema.FullInputs, path: Path, *, engine: Any = None, dft: Any = None, dry_run: bool = False
) -> Any:
    """Builder of the FullWorkChain of an inputs file; of a TargetsWorkChain if its model is taken as it is.

    :param path: the file; what it names lies relative to its folder.
    :param engine: the engine's code, instead of the file's.
    :param dft: the DFT code, instead of the file's.
    :param dry_run: leave no node behind.
    :raises InputError: anything that cannot run.
    """
    from aiida_deeph.cli.imported import by_member_name, imported_bands
    from aiida_deeph.processes.protocol import merge
    from aiida_deeph.workflows.full import FullWorkChain
    from aiida_deeph.workflows.targets import TargetsWorkChain

    groups = {
        group: structures_of(getattr(values, group), path, dry_run, group)
        for group in ("structures", "targets", "validation")
    }
    reference = {
        name: imported_bands(path.parent / source.dft_bands, groups["validation"][name])
        for name, source in by_member_name(values.validation, "validation").items()
        if source.dft_bands is not None
    }
    others = by_member_name({**values.targets, **values.validation}, "targets and validation")
    changes: dict[str, Any] = {} if values.kpath is None else {"bands": {"kpath": values.kpath}}
    common: dict[str, Any] = {
        "codes": codes_of(values, path, engine=engine, dft=dft),
        "targets": groups["targets"],
        "validation": groups["validation"],
        "protocol": values.protocol,
        "options": values.options,
        "reference_bands": reference,
        "basis": values.basis,
        "settings": {name: source.settings for name, source in others.items() if source.settings},
    }
    if values.uses_model_alone:
        builder = TargetsWorkChain.get_builder_from_protocol(
            model=initial_model(values, path),
            overrides=merge(values.overrides, changes),
            label=entry_point(values.label) if set(groups["validation"]) - set(reference) else None,
            **common,
        )
    else:
        changes |= {"dataset": dataset_changes(values), **training_changes(values, path, "train")}
        builder = FullWorkChain.get_builder_from_protocol(
            structures=groups["structures"],
            overrides=merge(values.overrides, changes),
            label=entry_point(values.label),
            labels=labels_of(values, path),
            extend=extended(values, path),
            **common,
        )
    builder.metadata.label = values.title
    builder.metadata.description = values.description
    return builder


def codes_of(values: schema.Inputs, path: Path, **given: Any) -> dict[str, Any]:
    """Codes of the file, replaced by those of the command line.

    :raises InputError: none is named.
    """
    from aiida_deeph.cli.nodes import load_code

    codes = {
        name: load_code(label, f"{path}: codes.{name}")
        for name, label in values.codes.model_dump(exclude_none=True).items()
    }
    codes |= {name: code for name, code in given.items() if code is not None}
    if not codes:
        raise InputError(
            "no code", where=f"{path}: codes", expected="engine (and dft)", remedy="name it there or with --code"
        )
    return codes


def structures_of(
    sources: Mapping[str, schema.StructureSource], path: Path, dry_run: bool, where: str = "structures"
) -> dict[str, Any]:
    """Structures of a group, under their names as inputs; their labels are the names as they are given.

    :raises InputError: two names are not told apart as inputs.
    """
    from aiida_deeph.cli.imported import by_member_name

    nodes = {name: structure_node(source, path.parent, name, store=not dry_run) for name, source in sources.items()}
    return by_member_name(nodes, where)


def labels_of(values: schema.DatasetInputs, path: Path) -> dict[str, Any]:
    """Labels that are there already, by member name."""
    from aiida_deeph.cli.imported import group_nodes, label_nodes

    if values.labels is None:
        return {}
    if values.labels.folder is not None:
        return label_nodes(path.parent / values.labels.folder, values.labels.members)
    return {k: v for label in values.labels.groups for k, v in group_nodes(label, f"{path}: labels").items()}


def dataset_changes(values: schema.DatasetInputs) -> dict[str, Any]:
    """What the file's own fields change of a dataset's protocol."""
    given = {"perturbation": values.perturbation, "keep": values.keep}
    return {name: value for name, value in given.items() if value is not None}


def training_changes(values: schema.TrainInputs | schema.FullInputs, path: Path, *ports: str) -> dict[str, Any]:
    """What the file's own fields change of a training's protocol.

    :param ports: where the inputs of the training's workchain lie.
    :raises InputError: the model to start from is no model.
    """
    if values.initial_model is None:
        return {}
    changes: dict[str, Any] = {"train": {"initial_model": initial_model(values, path)}}
    for name in reversed(ports):
        changes = {name: changes}
    return changes


def initial_model(values: schema.TrainInputs | schema.FullInputs, path: Path) -> Any:
    """The model to start from, or to use as it is.

    :raises InputError: it is no model.
    """
    from aiida.plugins import DataFactory

    from aiida_deeph.cli.nodes import load

    assert values.initial_model is not None
    return load(values.initial_model, DataFactory("deeph.model"), f"{path}: initial_model")


def extended(values: schema.DatasetInputs, path: Path) -> Any:
    """The dataset that is extended, None without one.

    :raises InputError: it is no dataset.
    """
    if values.extend is None:
        return None
    from aiida.plugins import DataFactory

    from aiida_deeph.cli.nodes import load

    return load(values.extend, DataFactory("deeph.dataset"), f"{path}: extend")


def entry_point(label: str | None) -> str:
    """That of a code's labels, by the name of the code."""
    from aiida_deeph.codes.registry import DEFAULT_LABEL, PREFIX

    if label is None:
        return DEFAULT_LABEL
    return label if label.startswith("deeph.") else f"{PREFIX}{label}"
