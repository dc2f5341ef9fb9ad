"""Exposing the inputs of another process without opening the door to unknown keys."""

from __future__ import annotations

from typing import Any

from aiida.engine import PortNamespace, Process, ProcessSpec


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
