"""Which elements a named basis holds: known here, so that a job without basis is refused before it is submitted."""

from __future__ import annotations

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
