"""Orbitals in `.ion.xml` files, or `.ion` where there is no XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.radial import RadialShell


def load_ion(symbol: str, folder: Path, orbitals: str | None) -> tuple[tuple[RadialShell, ...], float | None]:
    """Shells of one element in the order of the file, and its valence electrons.

    :param folder: where a run left its `.ion.xml` (or `.ion`) files.
    :param orbitals: label of the species, by default the element's symbol.
    :raises InputError: no such file, or it is of another element.
    :raises DataError: the file is damaged.
    """
    label = orbitals or symbol
    path = next((p for p in (folder / f"{label}.ion.xml", folder / f"{label}.ion") if p.is_file()), None)
    if path is None:
        raise InputError(
            "no such file of orbitals",
            where=folder,
            expected=f"{label}.ion.xml or {label}.ion",
            remedy=f"make them by a run with {symbol}, or name the species: {symbol}=LABEL",
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    element, valence, shells = read_ion_xml(text, path) if path.suffix == ".xml" else read_ion(text, path)
    if element != symbol:
        raise InputError("orbitals of another element", where=path, found=element, expected=symbol)
    return shells, valence


def read_ion_xml(text: str, where: object) -> tuple[str, float, tuple[RadialShell, ...]]:
    """Element, valence electrons and shells; the tables hold R / r^l at r = 0, delta, ..

    :raises DataError: the text is no `.ion.xml` or is damaged.
    """
    try:
        # The preamble is free text, in which nothing is escaped.
        root = ElementTree.fromstring(re.sub(r"<preamble>.*?</preamble>", "", text, flags=re.DOTALL))
        shells = []
        for orbital in root.findall("paos/orbital"):
            n_points = int(_text(orbital, "radfunc/npts"))
            table = np.array(_text(orbital, "radfunc/data").split(), dtype=np.float64)
            shells.append(_shell(int(orbital.attrib["l"]), table, n_points))
        if not shells:
            raise ValueError("no orbitals")
        return _text(root, "symbol").strip(), float(_text(root, "valence")), tuple(shells)
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise DataError("file of orbitals is damaged", where=where, found=error) from None


def read_ion(text: str, where: object) -> tuple[str, float, tuple[RadialShell, ...]]:
    """The same of a `.ion`: a header with comments, then l, n, zeta, .. and a table per orbital.

    :raises DataError: the text is no `.ion` or is damaged.
    """
    lines = iter(text.partition("</preamble>")[2].splitlines())
    try:
        header = [line.split("#")[0].split() for _, line in zip(range(8), _filled(lines), strict=False)]
        element, valence, n_shells = header[0][0], float(header[3][0]), int(header[6][1])
        rows = (line for line in _filled(lines) if not line.lstrip().startswith("#"))
        shells = []
        for _ in range(n_shells):
            l, n_points = int(next(rows).split()[0]), int(next(rows).split()[0])
            table = np.array([next(rows).split()[:2] for _ in range(n_points)], dtype=np.float64)
            shells.append(_shell(l, table.ravel(), n_points))
        return element, valence, tuple(shells)
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise DataError("file of orbitals is damaged", where=where, found=error or "its end") from None


def _filled(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if line.strip())


def _text(node: ElementTree.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text


def _shell(l: int, table: NDArray[np.float64], n_points: int) -> RadialShell:
    if table.size != 2 * n_points:
        raise ValueError(f"{table.size} numbers instead of {2 * n_points}")
    r, values = table.reshape(-1, 2).T
    return RadialShell(l, r.copy(), values * r**l)
