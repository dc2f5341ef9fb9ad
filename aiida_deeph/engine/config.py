"""Base of every configuration: frozen, strict, read from JSON or YAML without running code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aiida_deeph.engine.errors import InputError, nearest
from aiida_deeph.engine.fields import WORDS, names_at


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
        place, kind = first["loc"], first["type"]
        if kind == "extra_forbidden":
            found, expected = repr(place[-1]), nearest(place[-1], names_at(cls, place))
        else:
            found = "nothing" if kind == "missing" else repr(first.get("input"))[:80]
            expected = WORDS.get(kind, first["msg"].removeprefix("Value error, ").removeprefix("Input should be "))
        raise InputError(
            f"{len(error.errors())} wrong field(s), first: {'.'.join(map(str, place)) or 'top level'}",
            where=where,
            found=found,
            expected=expected,
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
