"""Whether a run is of the structure that was asked for: a program may read another input than it was given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.info import read_json_object

# Programs print lengths with at least so many digits, and convert them with constants that differ by less, Angstrom.
PRINTED = 2e-4


def as_asked(structure: Structure) -> dict[str, Any]:
    """A structure as it stands in a file of those that were asked for, cell and positions in Angstrom."""
    return {
        "symbols": list(structure.symbols),
        "cell": structure.cell.tolist(),
        "positions": structure.positions.tolist(),
    }


def read_asked(path: Path) -> Mapping[str, Structure]:
    """Structures that were asked for, by the name of the member.

    :raises InputError: it is no such file.
    """
    values = read_json_object(path, "not a file of structures", "name -> symbols, cell, positions")
    try:
        return {
            name: Structure(tuple(one["symbols"]), np.array(one["positions"]), np.array(one["cell"]))
            for name, one in values.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("not a file of structures", where=path, found=repr(error)) from None


def check_asked(found: Structure, asked: Structure, where: object) -> None:
    """The cell is the same and each atom stands where one of its element was asked for, up to lattice vectors.

    :raises DataError: the run is of another structure.
    """
    if sorted(found.symbols) != sorted(asked.symbols):
        raise DataError("run of another structure", where=where, found=_formula(found), expected=_formula(asked))
    change = float(np.abs(found.cell - asked.cell).max())
    if change > PRINTED:
        _refuse(where, f"a lattice vector {change:.4f} Angstrom off")
    inverse = np.linalg.inv(asked.cell)
    symbols, free = np.array(asked.symbols), np.ones(len(asked), dtype=bool)
    for symbol, position in zip(found.symbols, found.positions, strict=True):
        candidates = np.flatnonzero(free & (symbols == symbol))
        vectors = asked.positions[candidates] - position
        vectors -= np.rint(vectors @ inverse) @ asked.cell
        distances = np.linalg.norm(vectors, axis=1)
        nearest = int(np.argmin(distances))
        if distances[nearest] > PRINTED:
            _refuse(where, f"{symbol} {distances[nearest]:.4f} Angstrom from where it should be")
        free[candidates[nearest]] = False


def _refuse(where: object, found: str) -> None:
    raise DataError("run of another structure", where=where, found=found, expected="the one that was asked for")


def _formula(structure: Structure) -> str:
    return " ".join(f"{symbol}{structure.symbols.count(symbol)}" for symbol in sorted(set(structure.symbols)))
