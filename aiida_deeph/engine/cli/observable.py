"""The command of an observable, made from its configuration: one option per field, explained by its docstring."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
import yaml

from aiida_deeph.engine.config import load_config, parse_config
from aiida_deeph.engine.fields import descriptions
from aiida_deeph.engine.observables.registry import load_observable

PROGRESS = click.option(
    "--progress/--no-progress", "show_progress", default=None, help="Progress bar. [default: on a terminal]"
)
LABELS = "labels"  # come with the file of k-points


def use_threads(arguments: Sequence[str]) -> None:
    """Tell the linear algebra libraries, which read this once when they are loaded: before numpy is.

    :param arguments: of a command: `--threads N`, or a configuration that names them.
    """
    count = None
    for n, argument in enumerate(arguments):
        if argument == "--threads" and n + 1 < len(arguments):
            count = arguments[n + 1]
        elif argument.startswith("--threads="):
            count = argument.partition("=")[2]
        elif count is None and n == 0 and Path(argument).is_file():
            try:
                values = yaml.safe_load(Path(argument).read_text(encoding="utf-8"))
                count = values.get("threads")
            except (OSError, ValueError, yaml.YAMLError, AttributeError, RecursionError):
                continue  # the command says what is wrong with it
    if count is not None and str(count).isdigit():
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(count)


def observable_command(name: str) -> click.Command:
    """The command `deeph-engine NAME`: FOLDERs and options, or a CONFIG with the same names; options win."""
    observable = load_observable(name)
    config_class = observable.Config
    documents = field_texts(config_class)
    fields = {key: field for key, field in config_class.model_fields.items() if key != LABELS}
    required = [key for key, field in fields.items() if field.is_required()]
    folders = [key for key in observable.FOLDERS if key in required]
    parameters: list[click.Parameter] = [
        click.Argument([key], metavar=("DEEPH_DIR|CONFIG" if n == 0 else f"[{key.upper()}_DIR]"), required=n == 0)
        for n, key in enumerate(folders)
    ]
    for key, field in fields.items():
        if key not in folders:
            help_text = documents.get(key, "")
            if not field.is_required() and field.default not in (None, ()):
                help_text += f"  [default: {_shown(field.default)}]"
            flag = config_class.OPTIONS.get(key, f"--{key.replace('_', '-')}")
            parameters.append(_option(key, flag, field.annotation, help_text))

    def callback(show_progress: bool | None, **given: Any) -> None:
        config = _resolve(config_class, folders, given)
        path = observable.run(config, show_progress=show_progress)
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            share = f"{result['n_solved']} solutions kept, what they are written" if "share" in result else None
            click.echo(f"{share or observable.summary(result)} to {path}")

    text = f"{documents['']}\n\nSay what to do by the options, or by CONFIG (JSON or YAML with the same names)."
    text += " Several ranks, started by mpirun or srun, share the k-points."
    command = click.Command(name, callback=callback, params=parameters, help=text)
    return PROGRESS(command)


def field_texts(config_class: type[Any]) -> dict[str, str]:
    """What the docstrings of a configuration and its bases say of each field; under "" what it is itself."""
    texts = {name: text.replace("`", "") for name, text in descriptions(config_class).items()}
    return texts | {"": " ".join((config_class.__doc__ or "").split("\n\n")[0].split())}


def _resolve(config_class: type[Any], folders: Sequence[str], given: Mapping[str, Any]) -> Any:
    """A configuration from a file, or from folders and options; options win over the file."""
    options = {key: value for key, value in given.items() if value is not None and value != ()}
    if isinstance(options.get("kpoints"), str):
        from aiida_deeph.engine.domain.kpoints import read_kpoints

        points = read_kpoints(Path(options["kpoints"]))
        options |= {"kpoints": points.fractional.tolist(), LABELS: points.labels or None}
    target = Path(options[folders[0]])
    if not target.is_file():
        return parse_config(config_class, options, "command line")
    del options[folders[0]]
    config = load_config(config_class, target)
    return parse_config(config_class, {**config.model_dump(), **options}, target) if options else config


def _option(key: str, flag: str, annotation: Any, text: str) -> click.Option:
    """An option for a field of a certain type."""
    kind = _without_none(annotation)
    origin, arguments = get_origin(kind), get_args(kind)
    shared: dict[str, Any] = {"help": text, "default": None}
    if key == "kpoints":
        return click.Option([flag, key], metavar="FILE", type=click.Path(dir_okay=False), **shared)
    if kind is bool:
        return click.Option([flag if "/" in flag else f"{flag}/--no-{flag[2:]}", key], **shared)
    if origin is Literal:
        return click.Option([flag, key], type=click.Choice(list(arguments)), **shared)
    if origin is tuple and arguments[-1] is ...:
        return click.Option([flag, key], type=_plain(arguments[0]), multiple=True, **{**shared, "default": ()})
    if origin is tuple:
        return click.Option([flag, key], type=_plain(arguments[0]), nargs=len(arguments), **shared)
    if origin in (Union, UnionType) and any(get_origin(part) is tuple for part in arguments):
        return click.Option([flag, key], type=str, multiple=True, **{**shared, "default": ()})
    return click.Option([flag, key], type=_plain(kind), **shared)


def _without_none(annotation: Any) -> Any:
    """The type of a field that may be None."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    is_union = get_origin(annotation) in (Union, UnionType)
    return parts[0] if is_union and len(parts) == 1 else annotation


def _plain(kind: Any) -> Any:
    """int, float or str; what is none of these is taken as text, which the configuration reads."""
    kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    return kind if kind in (int, float) else str


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
