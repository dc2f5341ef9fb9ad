"""What the fields of a configuration are, from annotations and docstrings: for messages, schemas and documentation."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

PARAMETER = re.compile(r":param (\w+):\s*(.*?)(?=\n\s*:(?:param|raises|returns?|ivar)\b|\Z)", re.DOTALL)
BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}
KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "anything"}
# What is said of an error of pydantic in place of its own words.
WORDS = {
    "missing": "a value: it is required",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "list_type": "a list",
    "tuple_type": "a list",
}


@dataclass(frozen=True)
class Field:
    """A field as a user meets it. :param default: as it is written, empty if the field is required."""

    name: str
    kind: str
    default: str
    bounds: str
    text: str


def fields_of(config: type[BaseModel]) -> list[Field]:
    """All fields of a configuration, in their order."""
    texts = descriptions(config)
    return [
        Field(name, kind_of(info.annotation), _default(info), _bounds(info), texts.get(name, ""))
        for name, info in config.model_fields.items()
    ]


def descriptions(config: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a class and of those that it extends say of each field."""
    found: dict[str, str] = {}
    for each in reversed(config.__mro__):
        if each.__doc__ and issubclass(each, BaseModel):
            text = inspect.cleandoc(each.__doc__)
            found |= {name: " ".join(words.split()) for name, words in PARAMETER.findall(text)}
    return found


def kind_of(annotation: Any) -> str:
    """A type in a few words: `number`, `text`, `list of number`, `one of a, b`."""
    names = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        Any: "anything",
    }
    if annotation in names:
        return names[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments)) if len(arguments) > 1 else str(arguments[0])
    if origin is Annotated:
        return kind_of(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(each) for each in arguments))
    if origin in (list, tuple, frozenset, set):
        inner = " and ".join(dict.fromkeys(kind_of(each) for each in arguments if each is not Ellipsis))
        return f"list of {inner}"
    if origin is dict:
        return f"name: {kind_of(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    if hasattr(annotation, "__members__"):
        return "one of " + ", ".join(str(member.value) for member in annotation)
    return str(getattr(annotation, "__name__", annotation))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    value = info.default_factory() if info.default_factory else info.default  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    return {"None": "null", "True": "true", "False": "false", "": '""'}.get(str(value), str(value))


def _bounds(info: FieldInfo) -> str:
    return ", ".join(
        text.format(getattr(mark, key))
        for mark in info.metadata
        for key, text in BOUNDS.items()
        if getattr(mark, key, None) is not None
    )


def schema_of(config: type[BaseModel]) -> dict[str, Any]:
    """JSON schema with the words of the docstrings, which editors show."""
    schema = config.model_json_schema()
    by_title = {each.__name__: each for each in _models(config)}
    for part in (schema, *schema.get("$defs", {}).values()):
        known = by_title.get(part.get("title", ""))
        texts = {} if known is None else descriptions(known)
        if known is not None and known.__doc__:
            part["description"] = " ".join(inspect.cleandoc(known.__doc__).split("\n\n")[0].split())
        for name, field in part.get("properties", {}).items():
            if name in texts:
                field["description"] = texts[name]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _models(annotation: Any, seen: set[Any] | None = None) -> Iterator[type[BaseModel]]:
    """Configurations inside an annotation, at any depth."""
    seen = set() if seen is None else seen
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            return
        seen.add(annotation)
        yield annotation
        for info in annotation.model_fields.values():
            yield from _models(info.annotation, seen)
        return
    for argument in get_args(annotation):
        yield from _models(argument, seen)


def names_at(config: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Names of the fields that may stand beside the last part of a place, where an unknown one stands."""
    models: list[type[BaseModel]] = [config]
    for part in place[:-1]:
        inner = [info.annotation for model in models for name, info in model.model_fields.items() if name == part]
        if inner:
            models = [model for annotation in inner for model in _direct(annotation)]
    # Keys of a mapping, indices of a list and tags of a choice lead to no other fields than those of their kind.
    tags = set(place)
    chosen = [model for model in models if tags & _tags(model)]
    return sorted({name for model in chosen or models for name in model.model_fields})


def _direct(annotation: Any) -> Iterator[type[BaseModel]]:
    """Configurations that an annotation is made of, without what stands inside of these."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _direct(argument)


def _tags(model: type[BaseModel]) -> set[Any]:
    """Values of fields that say which of several configurations one is."""
    fields = model.model_fields.values()
    return {value for info in fields if get_origin(info.annotation) is Literal for value in get_args(info.annotation)}
