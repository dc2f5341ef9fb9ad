"""Base of every configuration: frozen, strict, read from JSON or YAML without running code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aiida_deeph.engine.errors import InputError


class Config(BaseModel):
    """A frozen configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def write(self, path: Path) -> None:
        """Save the resolved configuration as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


ConfigType = TypeVar("ConfigType", bound=Config)


def parse_config(cls: type[ConfigType], values: object, where: object = "configuration") -> ConfigType:
    """Validate plain values.

    :raises InputError: one line that names the first wrong field.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "top level"
        found = first.get("input")
        raise InputError(
            f"{len(error.errors())} wrong field(s), first: {field}",
            where=where,
            found=repr(found)[:80],
            expected=first["msg"].removeprefix("Value error, "),
            remedy="see the fields of " + cls.__name__,
        ) from None


def load_config(cls: type[ConfigType], path: Path) -> ConfigType:
    """Read a JSON or YAML file.

    :raises InputError: the file is missing, is not JSON or YAML, or has wrong fields.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            "configuration cannot be read", where=path, found=found, expected="a JSON or YAML file"
        ) from None
    return parse_config(cls, values, path)
