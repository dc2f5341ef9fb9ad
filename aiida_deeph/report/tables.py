"""Rows of results as text: a table for the eye, CSV, JSON, extended xyz with the structures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import ase.io
from aiida import orm

from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.io.structure import to_ase
from aiida_deeph.report.optimade import as_optimade
from aiida_deeph.report.rows import COLUMNS

Rows = Sequence[Mapping[str, Any]]
# Decimals that make sense of a value with a unit.
DIGITS = {"meV": 2, "eV": 3, "s": 1, "GiB": 2}


def digits(key: str, value: Any) -> str:
    """A value with as many digits as make sense of its unit."""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    if not isinstance(value, float):
        return "" if value is None else str(value)
    unit = key.rpartition("_")[2]
    return f"{value:.{ {'meV': 2, 'eV': 3, 'A': 3, 's': 1, 'GiB': 2}.get(unit, 4) }f}"


def as_table(rows: Rows) -> str:
    """Columns of plain text, those that are empty everywhere left out; one unit per column, warnings below."""
    shown = [key for key in COLUMNS if any(row.get(key) not in (None, [], "") for row in rows)]
    cells = [[title(key) for key in shown] + ["process"]]
    for row in rows:
        found = [str(len(row[key])) if key == "warnings" else digits(key, row.get(key)) for key in shown]
        cells.append([*found, str(row["process"])])
    lines = columns(cells, {n for n, key in enumerate(shown) if key in ("name", "formula", "state")})
    notes = [f"{row['name']}: {text}" for row in rows for text in row["warnings"]]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def title(key: str) -> str:
    """`gap_eV` becomes `gap (eV)`."""
    name, _, unit = key.rpartition("_")
    return f"{name} ({unit})".replace("_", " ") if unit in DIGITS else key.replace("_", " ")


def columns(cells: Sequence[Sequence[str]], left: Container[int]) -> list[str]:
    """Lines of a table, a rule below its head.

    :param left: columns that are flush left.
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(values: Sequence[str]) -> str:
        places = enumerate(zip(values, widths, strict=True))
        return "  ".join(v.ljust(width) if n in left else v.rjust(width) for n, (v, width) in places).rstrip()

    head, *rest = map(line, cells)
    return [head, "  ".join("-" * width for width in widths), *rest]


def as_csv(rows: Rows) -> str:
    """All keys as columns; warnings in one cell, separated by semicolons."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(keys)
    for row in rows:
        values = ("; ".join(row[key]) if isinstance(row.get(key), list) else row.get(key) for key in keys)
        writer.writerow(["" if value is None else value for value in values])
    return stream.getvalue()


def as_json(rows: Rows) -> str:
    """A list of objects."""
    return json.dumps(list(rows), indent=2) + "\n"


def as_extxyz(rows: Rows) -> str:
    """Structures one after the other, with the values in their comment lines; readable by ase."""
    stream = io.StringIO()
    for row in rows:
        if row["structure"] is None:
            continue
        node = orm.load_node(row["structure"])
        atoms = to_ase(to_engine(node))
        atoms.info = {key: value for key, value in row.items() if isinstance(value, int | float | str)}
        if row["warnings"]:
            atoms.info["warnings"] = "; ".join(row["warnings"]).replace('"', "'").replace("\n", " ")
        ase.io.write(stream, atoms, format="extxyz")
    return stream.getvalue()


FORMATS: dict[str, Callable[[Rows], str]] = {
    "table": lambda rows: as_table(rows) + "\n",
    "csv": as_csv,
    "json": as_json,
    "extxyz": as_extxyz,
    "optimade": as_optimade,
}
