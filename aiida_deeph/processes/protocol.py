"""Protocols: named sets of inputs in YAML, merged with overrides that mirror the ports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from aiida.engine import PortNamespace

from aiida_deeph.engine.errors import InputError, nearest
from aiida_deeph.processes.options import GPUS


def merge(base: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """`base` with the values of `changes`, key by key through all levels; neither argument is modified.

    What has another `name` (a network, a scheduler) is another kind of thing and takes the place of the old one.
    """
    result = dict(base)
    for key, value in (changes or {}).items():
        known: Any = result.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        if both and ("name" not in known or value.get("name", known["name"]) == known["name"]):
            result[key] = merge(known, value)
        else:
            result[key] = value
    return result


def check_overrides(ports: PortNamespace, overrides: Mapping[str, Any], where: str = "overrides") -> None:
    """Refuse keys that are no port; what lies inside a port (a Dict of parameters) is checked by the port itself.

    :raises InputError: naming the key, where it stands and the keys that exist.
    """
    if not isinstance(overrides, Mapping):
        raise InputError(
            "overrides are no mapping", where=where, found=repr(overrides)[:60], expected="keys and values"
        )
    for key, value in overrides.items():
        if key not in ports:
            if ports.dynamic or (key == GPUS and ports.name == "options"):
                continue
            raise InputError(
                "unknown key",
                where=where,
                found=key,
                expected=nearest(key, sorted(ports)),
                remedy="overrides mirror the input ports: `aiida-deeph protocol show` prints them",
            )
        port = ports[key]
        if isinstance(port, PortNamespace) and value is not None:
            check_overrides(port, value, f"{where}.{key}")


def split_overrides(overrides: Mapping[str, Any] | None, *steps: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overrides of a workchain's own inputs, and those of its steps by their names, as far as there are some."""
    given = overrides or {}
    return {k: v for k, v in given.items() if k not in steps}, {k: v for k, v in given.items() if k in steps}


class ProtocolMixin:
    """`get_protocol_inputs` and its relatives, over a YAML file beside the workchain."""

    _protocol_file: ClassVar[Path]

    @classmethod
    def _protocol_content(cls) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(cls._protocol_file.read_text(encoding="utf-8"))
        return content

    @classmethod
    def get_available_protocols(cls) -> dict[str, str]:
        """Name of each protocol and what it is for."""
        return {name: values["description"] for name, values in cls._protocol_content()["protocols"].items()}

    @classmethod
    def get_default_protocol(cls) -> str:
        """Name of the protocol that is taken when none is given."""
        name: str = cls._protocol_content()["default_protocol"]
        return name

    @classmethod
    def protocol_ports(cls) -> PortNamespace:
        """Input ports that the protocols and their overrides mirror."""
        ports: PortNamespace = cls.spec().inputs  # type: ignore[attr-defined]  # Of the process that it is mixed into.
        return ports

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: Mapping[str, Any] | None = None, where: str = "overrides"
    ) -> dict[str, Any]:
        """Plain inputs of a protocol with the overrides merged in.

        :param where: what the overrides are called in messages.
        :raises InputError: no such protocol, or an override that is no port.
        """
        content = cls._protocol_content()
        name = protocol or content["default_protocol"]
        if name not in content["protocols"]:
            raise InputError(
                "unknown protocol", where=cls.__name__, found=name, expected=nearest(name, content["protocols"])
            )
        inputs = merge(content["default_inputs"], content["protocols"][name])
        inputs.pop("description")
        # Inputs are derived from some keys that are no ports themselves (a width of the k-mesh, for instance).
        derived = content.get("derived", ())
        check_overrides(
            cls.protocol_ports(), {key: value for key, value in (overrides or {}).items() if key not in derived}, where
        )
        return merge(inputs, overrides)
