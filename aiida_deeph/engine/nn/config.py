"""Networks by name: which there are, and how a new one is asked for. Needs no torch."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any, ClassVar

from pydantic import ModelWrapValidatorHandler, model_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.errors import InputError

DEFAULT = "deephe3"
ENTRY_POINTS = "aiida_deeph.networks"
"""Group of entry points through which other packages add networks: name -> `module:ConfigClass`."""


class NetworkConfig(Config):
    """Base of the networks' configurations: validating plain values gives that of their `name`.

    :cvar implementation: `module:Class` of the `Network`, imported when a network is built.
    :cvar citation: for model cards; empty if there is no paper.
    :cvar has_posterior: whether it tells which labels it would learn from.
    :param name: entry in the registry of networks.
    """

    implementation: ClassVar[str]
    citation: ClassVar[str] = ""
    has_posterior: ClassVar[bool] = False

    name: str

    @model_validator(mode="wrap")
    @classmethod
    def _by_name(cls, values: Any, handler: ModelWrapValidatorHandler[NetworkConfig]) -> NetworkConfig:
        if cls is not NetworkConfig or isinstance(values, NetworkConfig) or not isinstance(values, dict):
            return handler(values)
        try:
            return network_config(values.get("name", DEFAULT)).model_validate(values)
        except InputError as error:
            raise ValueError(str(error)) from None


NETWORKS: dict[str, str | type[NetworkConfig]] = {
    "deephe3": "aiida_deeph.engine.nn.deephe3.config:DeepHE3Config",
    "deephe3-set": "aiida_deeph.engine.nn.deephe3.config:DeepHE3SetConfig",
    "deephe3-residual": "aiida_deeph.engine.nn.deephe3.config:ResidualDeepHE3Config",
    "closed-form": "aiida_deeph.engine.nn.closed_form.config:ClosedFormConfig",
    "deephe3-on-site": "aiida_deeph.engine.nn.deephe3.config:OnSiteDeepHE3Config",
    "qhnet": "aiida_deeph.engine.nn.qhnet.config:QHNetConfig",
}
"""Name -> configuration class, or where it is: the registry."""


def register_network(config: type[NetworkConfig]) -> type[NetworkConfig]:
    """Class decorator: make a network known under the default of its configuration's `name`."""
    NETWORKS[config.model_fields["name"].default] = config
    return config


def network_config(name: str) -> type[NetworkConfig]:
    """The configuration class of a network.

    :raises InputError: no such network.
    """
    entry = NETWORKS.get(name)
    for found in () if entry else entry_points(group=ENTRY_POINTS, name=str(name)):
        entry = found.value
    if entry is None:
        raise InputError("unknown network", where="network.name", found=name, expected=f"one of {', '.join(NETWORKS)}")
    config: type[NetworkConfig] = entry if isinstance(entry, type) else located(entry)
    return config


def located(path: str) -> Any:
    """The object `module:name`."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
