"""Which elements a named basis holds: known here, so that a job without basis is refused before it is submitted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import yaml

TABLE = Path(__file__).parent / "bases.yaml"


def elements_without_basis(basis: str, symbols: Iterable[str]) -> list[str]:
    """Elements that a basis of the table lacks; a basis that is not in the table is left to the code's own verdict."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    key = basis.lower().replace("_", "-")
    if key not in table:
        return []
    known = set(table[key].split())
    return sorted(set(symbols) - known)


def misspelt_basis(basis: str) -> str | None:
    """The basis of the table that a name means which differs from it in a letter or two; None if it means another."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return misspelt(basis.lower().replace("_", "-"), table, 0.96)


def misspelt(name: str, known: Iterable[str], likeness: float = 0.8) -> str | None:
    """The known name that another one is meant to be; None if it is known, or like none.

    :param likeness: from 0 to 1, from which on it is.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, 1, likeness) if name not in names else []
    return close[0] if close else None
