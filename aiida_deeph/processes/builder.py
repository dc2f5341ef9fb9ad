"""From plain values (YAML, protocols) to the inputs of a builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm
from aiida.engine import PortNamespace, Process, ProcessBuilder, ProcessBuilderNamespace

from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.aiida_internals import input_ports
from aiida_deeph.processes.options import scheduler_options
from aiida_deeph.processes.protocol import merge

CONVERTERS: dict[type, Callable[[Any], orm.Data]] = {
    bool: orm.Bool,
    int: orm.Int,
    float: orm.Float,
    str: orm.Str,
    dict: orm.Dict,
    list: orm.List,
}


def as_node(port: Any, value: Any, where: str) -> Any:
    """A plain value as the node that its port takes; nodes and metadata stay as they are.

    :raises InputError: the value cannot be what the port wants.
    """
    if isinstance(value, orm.Node) or value is None or port is None or getattr(port, "is_metadata", False):
        return value
    types = port.valid_type if isinstance(port.valid_type, tuple) else (port.valid_type,)
    types = tuple(kind for kind in types if isinstance(kind, type))
    if not any(issubclass(kind, orm.Node) for kind in types):
        return value
    if orm.KpointsData in types and isinstance(value, list | tuple) and len(value) == 3:
        kpoints = orm.KpointsData()
        kpoints.set_kpoints_mesh(list(value))
        return kpoints
    if orm.Float in types and orm.Int not in types and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    converter = CONVERTERS.get(type(value))
    if converter is None or not (isinstance(converter, type) and any(issubclass(converter, kind) for kind in types)):
        wanted = " or ".join(kind.__name__ for kind in types if kind is not type(None))
        raise InputError("value of the wrong type", where=where, found=repr(value)[:60], expected=wanted)
    return converter(value)


def fill(namespace: ProcessBuilderNamespace, values: Mapping[str, Any], where: str = "inputs") -> None:
    """Set the ports of a builder from nested plain values; None leaves a port alone."""
    ports = input_ports(namespace)
    for key, value in values.items():
        if value is None:
            continue
        port = ports.get(key)
        if isinstance(port, PortNamespace) and not port.is_metadata:
            if port.dynamic:
                _set(namespace, key, {name: _as_member(port, item) for name, item in value.items()}, where)
            else:
                fill(namespace[key], value, f"{where}.{key}")
        elif isinstance(port, PortNamespace):
            _set_metadata(namespace[key], value)
        else:
            _set(namespace, key, as_node(port, value, f"{where}.{key}"), where)


def _as_member(port: PortNamespace, value: Any) -> Any:
    """A plain mapping as the Dict that a dynamic namespace takes; all else as it is."""
    types = port.valid_type if isinstance(port.valid_type, tuple) else (port.valid_type,)
    return orm.Dict(dict(value)) if orm.Dict in types and isinstance(value, Mapping) else value


def _set(namespace: ProcessBuilderNamespace, key: str, value: Any, where: str) -> None:
    try:
        setattr(namespace, key, value)
    except (ValueError, TypeError) as error:
        raise InputError(f"input refused: {error}", where=f"{where}.{key}") from None


def _set_metadata(namespace: ProcessBuilderNamespace, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(input_ports(namespace).get(key), PortNamespace):
            _set_metadata(namespace[key], value)
            continue
        try:
            setattr(namespace, key, value)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"option refused: {error}", where=f"options.{key}", found=repr(value)[:60]) from None


def job_inputs(code: orm.AbstractCode, inputs: Mapping[str, Any], options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Inputs of a CalcJob with its code and the options in the words of the code's scheduler."""
    metadata = dict(inputs.get("metadata", {}))
    wanted = merge(metadata.get("options", {}), options)
    metadata["options"] = scheduler_options(wanted, code)
    return {**inputs, "code": code, "metadata": metadata}


def filled_builder(process_class: type[Process], values: Mapping[str, Any]) -> ProcessBuilder:
    """A builder of a process with nested values set."""
    builder = process_class.get_builder()
    fill(builder, values)
    return builder


def codes_of(codes: Mapping[str, orm.AbstractCode]) -> tuple[orm.AbstractCode, orm.AbstractCode]:
    """The engine and the DFT code.

    :raises InputError: a name that is neither, or none.
    """
    unknown = sorted(set(codes) - {"engine", "dft"})
    if unknown or not codes:
        raise InputError("wrong codes", where="codes", found=", ".join(unknown) or "none", expected="engine and dft")
    engine = codes.get("engine") or codes["dft"]
    return engine, codes.get("dft") or engine
