"""Which workchains label, by entry point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiida import orm
from aiida.common.exceptions import EntryPointError
from aiida.engine import ProcessSpec
from aiida.plugins import WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.ports import expose_inputs, value_input

PREFIX = "deeph.label."
# Of the code that needs no program besides the engine.
DEFAULT_LABEL = PREFIX + next(name for name, record in records().items() if record.plugin and not record.programs)


def label_entry_points() -> list[str]:
    """Entry points of all workchains that label."""
    return sorted(name for name in get_entry_point_names("aiida.workflows") if name.startswith(PREFIX))


def label_class(entry_point: str) -> type[LabelWorkChain]:
    """The workchain of an entry point."""
    workchain: type[LabelWorkChain] = WorkflowFactory(entry_point)
    return workchain


def label_classes() -> Iterator[type[LabelWorkChain]]:
    """All workchains that label whose plugins are installed: those of others are extras."""
    for name in label_entry_points():
        with suppress(EntryPointError):
            yield label_class(name)


def validate_label_workchain(node: orm.Str | None, _: Any) -> str | None:
    """Message if an entry point is no workchain that labels."""
    if node is None:
        return None
    try:
        workchain = WorkflowFactory(node.value)
    except EntryPointError as error:
        return f"unknown workchain `{node.value}` ({error}), expected one of {', '.join(label_entry_points())}"
    if not (isinstance(workchain, type) and issubclass(workchain, LabelWorkChain)):
        return f"`{node.value}` does not label structures, expected one of {', '.join(label_entry_points())}"
    return None


def define_labelling(spec: ProcessSpec, text: str) -> None:
    """The inputs `label_workchain`, and `label`, those of the workchain without the structure.

    :param text: what it is for.
    """
    value_input(spec, "label_workchain", orm.Str, text, validator=validate_label_workchain)
    optional = {"required": False, "populate_defaults": False}
    given = ("structure", "bands_kpoints")
    expose_inputs(spec, LabelWorkChain, namespace="label", exclude=given, namespace_options=optional)


def labelling_inputs(
    label: str,
    code: orm.AbstractCode,
    structures: Sequence[orm.StructureData],
    protocol: str | None,
    overrides: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The inputs of `define_labelling` by a protocol; for the arguments see `LabelWorkChain.label_inputs`."""
    workchain, where = checked_label_class(label), "overrides.label"
    inputs = workchain.label_inputs(code, structures, protocol, overrides, options, where=where)
    return {"label_workchain": label, "label": inputs}


def checked_label_class(label: str) -> type[LabelWorkChain]:
    """The workchain of an entry point.

    :raises InputError: it is none that labels.
    """
    message = validate_label_workchain(orm.Str(label), None)
    if message:
        raise InputError(message)
    return label_class(label)
