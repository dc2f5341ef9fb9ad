"""A report as one HTML file: everything is inside, nothing is loaded from anywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any
from urllib.parse import quote

from aiida import orm

from aiida_deeph import __version__
from aiida_deeph.engine.errors import InputError
from aiida_deeph.report.figures import Figure
from aiida_deeph.report.gather import Report
from aiida_deeph.report.graph_svg import draw
from aiida_deeph.report.provenance import condensed
from aiida_deeph.report.rows import COLUMNS
from aiida_deeph.report.tables import as_csv, digits, title

# Numbers of a whole workflow that a reader wants first -> what they are called.
HEADLINES = {
    "n_structures": "structures",
    "n_labels": "DFT runs for the labels",
    "n_members": "members of the dataset",
    "n_failed": "failed",
    "test_mae_meV": "mean |ΔH| of the test cells",
    "band_mae_meV": "mean band error of unseen cells",
}
OF_ONE = {
    "n_atoms": "atoms",
    "gap_eV": "gap",
    "fermi_eV": "Fermi level",
    "expected_mae_meV": "mean |ΔH| to expect",
    "band_mae_meV": "mean band error",
}
# Nothing may be fetched, whatever a name or a label holds.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>{css}</style></head><body>
<a class="skip" href="#main">To the results</a>
<header><h1>{title}</h1>{facts}<p><button type="button" id="theme" hidden>Light or dark</button></p></header>
<main id="main">{warnings}{tiles}{body}</main>
<footer>Written by aiida-deeph {version} from AiiDA's provenance graph; keys in a figure: + and - zoom, arrows move,
0 shows all. <noscript>Figures need JavaScript; their data and all numbers do not.</noscript></footer>
<script type="application/json" id="figures">{figures}</script>
<script>{plotly}</script><script>{js}</script></body></html>
"""


def page(process: orm.ProcessNode, report: Report) -> str:
    """The text of the file.

    :raises InputError: plotly is not installed.
    """
    body = [
        _section("Structures", "structures", _rows(report.rows)) if report.rows else "",
        _section("Figures", "figures-seen", "".join(map(_figure, report.figures))) if report.figures else "",
        _section("What failed on the way", "failures", _pairs(report.failures)) if report.failures else "",
        _section("Model card", "card", _nested(report.card)) if report.card else "",
        _section("Numbers", "numbers", _nested(report.tables)) if report.tables else "",
        _section("Provenance", "provenance", _graph(process)),
        _section("Go on from here", "commands", _commands(report.commands)),
    ]
    return PAGE.format(
        policy=POLICY,
        title=html.escape(report.title),
        css=_asset("page.css"),
        facts=_facts(report.facts),
        warnings=_warnings(report.warnings),
        tiles=_tiles(report),
        body="\n".join(part for part in body if part),
        version=__version__,
        figures=_json([{key: value for key, value in asdict(f).items() if key != "data"} for f in report.figures]),
        plotly=_plotly(),
        js=_asset("page.js"),
    )


def _asset(name: str) -> str:
    return resources.files("aiida_deeph.report").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The library, once. Plotly's own package holds it, so that its version is pinned like that of all else."""
    try:
        found = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    except ModuleNotFoundError:
        remedy = 'pip install "aiida-deeph[report]"'
        raise InputError("plotly is not installed", where="the report", remedy=remedy) from None
    return found.read_text(encoding="utf-8").replace("</script", "<\\/script")


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(heading: str, key: str, content: str) -> str:
    return f'<section aria-labelledby="{key}"><h2 id="{key}">{html.escape(heading)}</h2>{content}</section>'


def _facts(facts: Mapping[str, Any]) -> str:
    known = {key: value for key, value in facts.items() if value not in (None, "")}
    rows = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(str(value))}</dd>" for key, value in known.items())
    return f'<dl class="facts">{rows}</dl>'


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = [f"<li>{html.escape(text)}</li>" for text in warnings]
    shown, rest = "".join(items[:8]), "".join(items[8:])
    more = f"<details><summary>{len(items) - 8} more</summary><ul>{rest}</ul></details>" if rest else ""
    return f'<div class="warnings" role="note"><h2>Warnings</h2><ul>{shown}</ul>{more}</div>'


def _tiles(report: Report) -> str:
    """The numbers to see first: those of the workflow, or of its one structure."""
    told: dict[str, str] = {}
    numbers = report.tables.get("output_parameters", {})
    sources = [(numbers, HEADLINES)]
    if len(report.rows) == 1:
        sources.append((report.rows[0], OF_ONE))
    for values, names in sources:
        for key, name in names.items():
            if isinstance(values.get(key), int | float):
                unit = key.rpartition("_")[2]
                told[name] = digits(key, values[key]) + (f" {unit}" if unit in ("meV", "eV") else "")
    tiles = "".join(f"<div><b>{html.escape(v)}</b><span>{html.escape(k)}</span></div>" for k, v in told.items())
    return f'<div class="tiles">{tiles}</div>' if tiles else ""


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = [key for key in (*COLUMNS, "job_s") if any(row.get(key) not in (None, [], "") for row in rows)]
    numeric = {key for key in keys if all(isinstance(row.get(key), int | float | None) for row in rows)}
    heads = "".join(f'<th scope="col"{_class(key in numeric)}>{html.escape(title(key))}</th>' for key in keys)
    lines = []
    for row in rows:
        told = {key: digits(key, row.get(key)) for key in keys} | {"warnings": str(len(row["warnings"]))}
        cells = "".join(f"<td{_class(key in numeric)}>{html.escape(told[key])}</td>" for key in keys)
        lines.append(f'<tr>{cells}<td class="number">{row["process"]}</td></tr>')
    head = f'<tr>{heads}<th scope="col" class="number">PK</th></tr>'
    download = _download(as_csv(rows), "structures.csv", "Data of all structures (CSV)")
    return (
        f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table></div><p>{download}</p>'
    )


def _class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _figure(figure: Figure) -> str:
    key = html.escape(figure.key)
    download = _download(figure.data, f"{figure.key}.csv", "Data (CSV)")
    names = [(n, trace["name"]) for n, trace in enumerate(figure.traces) if trace.get("name")]
    boxes = "".join(
        f'<label><input type="checkbox" value="{n}" checked> {name}</label>' for n, name in names if len(names) > 1
    )
    return (
        f'<figure><h3 id="title-{key}">{html.escape(figure.title)}</h3>'
        f'<div class="plot" id="plot-{key}" tabindex="0" role="img" aria-label="{html.escape(figure.alt)}" '
        f'style="min-height:{figure.height}px"></div><figcaption>{html.escape(figure.text)}</figcaption>'
        f'<div class="tools" id="tools-{key}">{download}{boxes}</div></figure>'
    )


def _download(text: str, name: str, label: str) -> str:
    """A link that holds what it gives."""
    return (
        f'<a class="button" download="{html.escape(name)}" href="data:text/csv;charset=utf-8,{quote(text)}">'
        f"{html.escape(label)}</a>"
    )


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(str(key).replace("_", " "))}</th>'
        f'<td class="text">{_value(key, value)}</td></tr>'
        for key, value in values.items()
    )
    return f'<div class="wide"><table><tbody>{rows}</tbody></table></div>'


def _value(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(html.escape(f"{name}: {digits(str(name), item)}") for name, item in value.items())
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else digits(key, value)
    return html.escape(text)


def _nested(tables: Mapping[str, Mapping[str, Any]]) -> str:
    return "".join(
        f"<details{' open' if n == 0 else ''}><summary>{html.escape(str(heading))}</summary>{_pairs(values)}</details>"
        for n, (heading, values) in enumerate(tables.items())
        if values
    )


def _graph(process: orm.ProcessNode) -> str:
    """The condensed graph, each box a link to the nodes that it stands for."""
    boxes, edges = condensed(process)
    if not boxes:
        return "<p>Nothing was computed yet.</p>"
    keys = {name: f"nodes-{n}" for n, name in enumerate(boxes)}
    svg = draw(boxes, edges, {name: f"#{key}" for name, key in keys.items()})
    rows = "".join(
        f'<tr id="{keys[name]}"><th scope="row">{html.escape(box.text)}</th><td>{html.escape(box.kind)}</td>'
        f'<td class="text">{", ".join(map(str, box.pks))}</td></tr>'
        for name, box in boxes.items()
    )
    head = '<tr><th scope="col">box</th><th scope="col">is</th><th scope="col">PK</th></tr>'
    return (
        "<p>From the structures to the results; processes of one kind, and the data that link them, are one box. "
        "<code>verdi node show PK</code> shows a node.</p>"
        f'<div class="wide graph" tabindex="0" role="group" aria-label="Graph of {len(boxes)} boxes">{svg}</div>'
        f'<details><summary>Nodes behind the boxes</summary><div class="wide"><table><thead>{head}</thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _commands(commands: Mapping[str, str]) -> str:
    width = max(map(len, commands), default=0)
    lines = "\n".join(html.escape(f"{command:<{width}}  # {what}") for command, what in commands.items())
    return f'<pre tabindex="0">{lines}</pre>'
