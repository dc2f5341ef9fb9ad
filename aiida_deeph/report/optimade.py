"""Structures with their results as OPTIMADE JSON lines, which databases of materials read.

The specification: Evans et al., Digital Discovery 3, 1509 (2024), and https://www.optimade.org; the file is what its
section "OPTIMADE JSON lines" describes: a header, then one entry of the endpoint `structures` a line. Results are
properties of a provider, whose names begin with `_deeph_`.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from functools import reduce
from math import gcd
from typing import Any

from aiida import orm

from aiida_deeph import __version__
from aiida_deeph.data.structure import atom_symbols

API_VERSION = "1.1.0"
PREFIX = "_deeph_"


def as_optimade(rows: Sequence[Mapping[str, Any]]) -> str:
    """All structures of some rows of results."""
    provider = {"name": "aiida-deeph", "description": f"written by aiida-deeph {__version__}", "prefix": "deeph"}
    header = {"x-optimade": {"meta": {"api_version": API_VERSION, "provider": provider}}}
    entries = [entry(row) for row in rows if row["structure"] is not None]
    return "\n".join(json.dumps(line, allow_nan=False) for line in [header, *entries]) + "\n"


def entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of one row."""
    node = orm.load_node(row["structure"])
    results = {
        PREFIX + key.replace(".", "_").lower(): value
        for key, value in row.items()
        if value is not None and isinstance(value, int | float | str | list) and key not in ("formula", "n_atoms")
    }
    return {
        "type": "structures",
        "id": node.uuid,
        "attributes": {
            "immutable_id": node.uuid,
            "last_modified": node.mtime.strftime("%Y-%m-%dT%H:%M:%SZ"),
            **geometry(atom_symbols(node), node.cell, node.pbc, [site.position for site in node.sites]),
            **results,
        },
    }


def geometry(
    symbols: Sequence[str], cell: Sequence[Sequence[float]], pbc: Sequence[bool], positions: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Attributes of a structure that the specification asks for.

    :param cell: lattice vectors in rows, Angstrom, shape (3, 3).
    :param positions: Cartesian, Angstrom, shape (n_atoms, 3).
    """
    elements = sorted(set(symbols))
    counts = {symbol: list(symbols).count(symbol) for symbol in elements}
    divisor = reduce(gcd, counts.values())
    reduced = {symbol: count // divisor for symbol, count in counts.items()}
    ordered = sorted(reduced.values(), reverse=True)
    letters = _letters(len(ordered))
    hill = ["C", *(["H"] if "H" in counts else [])] if "C" in counts else []
    hill += [symbol for symbol in elements if symbol not in hill]
    return {
        "elements": elements,
        "nelements": len(elements),
        "elements_ratios": [counts[symbol] / len(symbols) for symbol in elements],
        "chemical_formula_descriptive": _formula(elements, counts),
        "chemical_formula_reduced": _formula(elements, reduced),
        "chemical_formula_hill": _formula(hill, counts),
        "chemical_formula_anonymous": _formula(letters, dict(zip(letters, ordered, strict=True))),
        "dimension_types": [int(periodic) for periodic in pbc],
        "nperiodic_dimensions": sum(map(bool, pbc)),
        "lattice_vectors": [[float(x) for x in row] for row in cell],
        "cartesian_site_positions": [[float(x) for x in row] for row in positions],
        "nsites": len(symbols),
        "species_at_sites": list(symbols),
        "species": [{"name": symbol, "chemical_symbols": [symbol], "concentration": [1.0]} for symbol in elements],
        "structure_features": [],
    }


def _formula(names: Sequence[str], counts: Mapping[str, int]) -> str:
    return "".join(name + (str(counts[name]) if counts[name] > 1 else "") for name in names)


def _letters(count: int) -> list[str]:
    """`A`, `B`, ..., `Z`, `Aa`, ...: names of the elements of an anonymous formula."""
    names = list(string.ascii_uppercase) + [a + b for b in string.ascii_lowercase for a in string.ascii_uppercase]
    return names[:count]
