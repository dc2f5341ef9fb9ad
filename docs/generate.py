"""Pages that the code itself knows best: commands, fields of inputs, Python, exit codes, benchmarks, citations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import click

REPOSITORY = Path(__file__).parents[1]


def write(docs: Path) -> None:
    """Write all of them; a page that is as it should be is left alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from aiida_deeph.cli.main import command as host
        from aiida_deeph.engine.cli.main import engine

        pages = {
            "reference/cli.md": commands("aiida-deeph", host, "The command of the host that submits."),
            "reference/engine.md": commands("deeph-engine", engine, "The command of compute nodes, without AiiDA."),
            "reference/inputs.md": inputs(),
            "reference/api.md": api(),
            "reference/exit_codes.md": exit_codes(),
            "benchmarks.md": benchmarks(),
            "cite.md": cite(),
        }
    for name, text in pages.items():
        path = docs / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def commands(name: str, command: click.Command, about: str) -> str:
    """Help of a command and of all below it."""
    lines = [f"# `{name}`", "", about, ""]
    for path, each in _walk(name, command):
        context = click.Context(each, info_name=path, max_content_width=100, terminal_width=100)
        lines += [f"{'#' * min(4, 1 + len(path.split()))} `{path}`", "", "```text", each.get_help(context), "```", ""]
    return "\n".join(lines)


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if path.count(" "):
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _walk(f"{path} {name}", below)


def inputs() -> str:
    """Every field of every kind of inputs file and of parameters."""
    from aiida_deeph.cli.explain import config_of, kinds
    from aiida_deeph.engine.fields import fields_of

    lines = [
        "# Fields of inputs",
        "",
        "What `aiida-deeph inputs fields KIND` prints; `inputs schema KIND` is for editors.",
        "",
    ]
    for kind in kinds():
        lines += [f"## `{kind}`", "", "| field | type | range | default | |", "|---|---|---|---|---|"]
        for field in fields_of(config_of(kind)):
            cells = (f"`{field.name}`", field.kind, field.bounds, field.default or "required", field.text)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("{", "&#123;").replace("*", "\\*")


def api() -> str:
    """Public names, in their order."""
    from aiida_deeph import _HOMES

    lines = ["# Python", "", "What `aiida_deeph.__all__` names is public; nothing else is.", ""]
    for name, home in _HOMES.items():
        lines += [f"## {name}", "", "```{eval-rst}", f".. currentmodule:: aiida_deeph.{home}"]
        lines += ["", f".. {_directive(name, home)}:: {name}", "   :no-index:", "", "```", ""]
    return "\n".join(lines)


def _directive(name: str, home: str) -> str:
    import importlib
    import inspect

    found = getattr(importlib.import_module(f"aiida_deeph.{home}"), name)
    return "autoclass" if inspect.isclass(found) else "autofunction" if callable(found) else "autodata"


def exit_codes() -> str:
    """Of every process, from its specification."""
    from aiida.plugins import CalculationFactory, WorkflowFactory
    from aiida.plugins.entry_point import get_entry_point_names

    lines = [
        "# Exit codes",
        "",
        "2xx: wrong inputs; 3xx: beyond repair; 4xx: worth another try; 7xx: finished with a warning. AiiDA's own",
        "stand below 200: 110 out of memory, 120 out of walltime, 140 the node failed. `deeph-engine` and",
        "`aiida-deeph` end with 0, with 1 on failure, with 2 on wrong use; `deeph-engine train` also with 3 (diverged)",
        "and 4 (stopped, with a checkpoint).",
        "",
    ]
    for group, factory in (("aiida.workflows", WorkflowFactory), ("aiida.calculations", CalculationFactory)):
        lines += [f"## {group.partition('.')[2].capitalize()}", ""]
        for name in sorted(each for each in get_entry_point_names(group) if each.startswith("deeph.")):
            codes = {code.status: (label, code) for label, code in factory(name).spec().exit_codes.items()}
            codes = {status: found for status, found in codes.items() if status >= 200}
            if codes:
                lines += [f"### `{name}`", "", "| code | name | meaning |", "|---|---|---|"]
                rows = [(status, *codes[status]) for status in sorted(codes)]
                lines += [f"| {status} | `{label}` | {_cell(code.message)} |" for status, label, code in rows]
                lines.append("")
    return "\n".join(lines)


def benchmarks() -> str:
    """The measured files, as they were written when they were measured."""
    folder = REPOSITORY / "tests" / "benchmarks"
    lines = ["# Benchmarks", "", "Measured by the scripts in `tests/benchmarks`, whose files these are.", ""]
    for path in sorted(folder.glob("*.md")):
        if path.name != "README.md":
            lines += [
                "```{include} ../tests/benchmarks/" + path.name,
                ":heading-offset: 1",
                ":relative-images:",
                "```",
                "",
            ]
    return "\n".join(lines)


def cite() -> str:
    """What a result asks to be cited by."""
    from aiida_deeph.engine.dft.base import records
    from aiida_deeph.engine.nn.config import NETWORKS
    from aiida_deeph.report.model_card import citations

    lines = ["# How to cite", "", "`aiida-deeph model show PK` lists what a model of yours asks for. In all:", ""]
    lines += [f"- {text}" for text in dict.fromkeys(citations(["deeph", "aiida", *NETWORKS, *records()]))]
    return "\n".join([*lines, "", "The package itself: `CITATION.cff` in its repository.", ""])
