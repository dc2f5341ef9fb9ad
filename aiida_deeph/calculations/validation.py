"""Checks before submission, shared by the CalcJobs; each returns one line of text, or None if all is well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiida.orm import AbstractCode, RemoteData, RemoteStashData, StructureData

from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.errors import DeepHError, InputError


def runs_engine(plugin: str | None) -> bool:
    """Whether jobs of a plugin run `deeph-engine`: those of this package, but for DFT programs."""
    programs = {program.plugin for record in records().values() for program in record.programs}
    return plugin is not None and plugin.startswith("deeph.") and plugin not in programs


def check_code(code: AbstractCode, _: Any) -> str | None:
    """The code has to be `deeph-engine`."""
    plugin = code.default_calc_job_plugin
    if not runs_engine(plugin):
        return str(
            InputError(
                "code is not deeph-engine",
                where=f"code `{code.label}`",
                found=f"default plugin {plugin}",
                expected="default plugin deeph.* of an engine command",
                remedy="register the engine with `aiida-deeph setup codes`, or give the code the plugin deeph.train",
            )
        )
    return None


def check_parameters(values: Mapping[str, Any], config: type[Config], filled: Mapping[str, Any]) -> str | None:
    """The user's part of a configuration.

    :param filled: fields that come from the other inputs -> a stand-in for them here (None: leave out).
    """
    taken = sorted(set(values) & set(filled))
    try:
        if taken:
            raise InputError(
                "field is not the user's",
                where="parameters",
                found=", ".join(taken),
                expected="it to come from the other inputs of the calculation",
                remedy=f"remove {', '.join(taken)} from parameters",
            )
        stand_ins = {name: value for name, value in filled.items() if value is not None}
        parse_config(config, {**stand_ins, **values}, "parameters")
    except DeepHError as error:
        return str(error)
    return None


def check_structure(structure: StructureData, _: Any = None) -> str | None:
    """Every site has one element, and the cell is a cell."""
    try:
        to_engine(structure)
    except DeepHError as error:
        return str(error)
    return None


def check_elements(model: DeepHModelData, symbols: tuple[str, ...]) -> str | None:
    """The model knows every element."""
    try:
        model.model_description.require_elements(symbols)
    except DeepHError as error:
        return str(error)
    return None


def check_remote_folders(inputs: Mapping[str, Any]) -> str | None:
    """Folders of earlier jobs lie on the computer of the code and were not cleaned."""
    code = inputs.get("code")
    computer = code.computer if code is not None else None
    for name, remote in remote_inputs(inputs):
        place = remote.computer
        if code is not None and computer is not None and place is not None and place.uuid != computer.uuid:
            return str(
                InputError(
                    "folder lies on another computer",
                    where=f"input {name}",
                    found=place.label,
                    expected=f"{computer.label}, where code `{code.label}` runs",
                    remedy="use a code on that computer",
                )
            )
        if isinstance(remote, RemoteData) and remote.is_stored and remote.is_cleaned:
            return str(
                InputError(
                    "folder was cleaned",
                    where=f"input {name}",
                    found=f"RemoteData {remote.pk}",
                    expected="its files",
                    remedy="give its stash if it has one, or run the job that made it again, without caching",
                )
            )
    return None


def remote_inputs(inputs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, RemoteData | RemoteStashData]]:
    """All folders and stashes among the inputs with their dotted names.

    AiiDA's own `remote_folder` (import of a finished job) is none.
    """
    for name, value in inputs.items():
        if name in ("metadata", "monitors") or (not prefix and name == "remote_folder"):
            continue
        if isinstance(value, RemoteData | RemoteStashData):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from remote_inputs(value, f"{prefix}{name}.")
