"""Exposing the inputs of another process without opening the door to unknown keys."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import PortNamespace, Process, ProcessSpec


def value_input(
    spec: ProcessSpec, name: str, kind: type[orm.Data], text: str, default: Any = None, **options: Any
) -> None:
    """An input that takes a plain value as well as its node; without a default it may be left out."""
    needed = {"required": False} if default is None else {"default": lambda: kind(default)}
    spec.input(name, valid_type=kind, serializer=orm.to_aiida_type, help=text, **needed, **options)


def named_inputs(spec: ProcessSpec, name: str, kind: type[orm.Data], text: str, **options: Any) -> None:
    """A namespace of nodes by names that the user chooses; it may be empty."""
    spec.input_namespace(name, valid_type=kind, dynamic=True, required=False, help=text, **options)


def expose_inputs(spec: ProcessSpec, process_class: type[Process], namespace: str, **kwargs: Any) -> None:
    """`spec.expose_inputs` into a namespace that stays closed.

    AiiDA copies the valid type of the inputs along, which makes a namespace accept any key that is a node; a misspelt
    input would pass unnoticed.
    """
    spec.expose_inputs(process_class, namespace=namespace, **kwargs)
    _close(spec.inputs[namespace], process_class.spec().inputs)


def _close(copy: Any, original: Any) -> None:
    copy.dynamic = original.dynamic
    for name, port in copy.items():
        if isinstance(port, PortNamespace) and name in original:
            _close(port, original[name])
