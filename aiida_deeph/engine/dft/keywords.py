"""Keywords of a DFT code's input: which the user may set, how their values are written, which other inputs decide."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiida_deeph.engine.errors import InputError

# Checks a value and returns its text in the input; a ValueError says what is expected.
Check = Callable[[Any], str]


def number(low: float | None = None, strict: bool = False) -> Check:
    """A number, of at least (above, if `strict`) `low`."""

    def text(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise ValueError("a number")
        if low is not None and (value < low or (strict and value == low)):
            raise ValueError(f"a number {'above' if strict else 'of at least'} {low:g}")
        return repr(value)

    return text


def integer(low: int) -> Check:
    """An integer of at least `low`."""

    def text(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"an integer of at least {low}")
        return str(value)

    return text


def logical(yes: str, no: str) -> Check:
    """True or false, in the code's words for them."""
    known = {word: yes for word in ("on", "yes", "true", "1")} | {word: no for word in ("off", "no", "false", "0")}

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return yes if value else no
        if not isinstance(value, str) or value.lower() not in known:
            raise ValueError("true or false")
        return known[value.lower()]

    return text


def one_of(*names: str) -> Check:
    """One of some words, in any case."""

    def text(value: Any) -> str:
        # YAML reads `on` and `off` as true and false.
        word = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
        found = [name for name in names if name.lower() == word.lower()]
        if not found:
            raise ValueError(f"one of {', '.join(names)}")
        return found[0]

    return text


def several(count: int, check: Check) -> Check:
    """A list of `count` values."""

    def text(value: Any) -> str:
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
            raise ValueError(f"a list of {count} numbers")
        return " ".join(check(item) for item in value)

    return text


def word(value: Any) -> str:
    """A single word."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w.+:-]+", value):
        raise ValueError("one word")
    return value


def quantity(*units: str) -> Check:
    """A number with one of some units: `200 Ry`."""

    def text(value: Any) -> str:
        words = value.split() if isinstance(value, str) else []
        found = [unit for unit in units if len(words) == 2 and unit.lower() == words[1].lower()]
        try:
            return f"{float(words[0])!r} {found[0]}"
        except (ValueError, IndexError):
            raise ValueError(f"a number with its unit, one of {', '.join(units)}") from None

    return text


def lines(forbidden: str = "") -> Check:
    """Lines of a block, each a string or a list of words, none of them empty or with a forbidden character."""

    def text(value: Any) -> str:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ValueError("a list of lines")
        rows = [" ".join(map(str, row)) if isinstance(row, list | tuple) else row for row in value]
        if any(not isinstance(row, str) or not row.strip() or set(row) & {"\n", *forbidden} for row in rows):
            raise ValueError(f"a list of lines without {' and '.join(forbidden) or 'line breaks'}")
        return "\n".join(rows)

    return text


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"scf": {"XcType": "LDA", "Mixing": {"Type": "Simple"}}}` as keywords with their dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def grouped(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords by what stands before their first dot: the keys of a node hold no dots."""
    groups: dict[str, Any] = {}
    for name, value in keywords.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = value
        else:
            groups[name] = value
    return groups


@dataclass(frozen=True)
class KeywordTable:
    """The keywords of one code.

    :param known: keyword as the code's manual spells it -> how its value is checked and written.
    :param owned: keyword, or its beginning if a dot ends it, in plain spelling -> what decides it.
    :param plain: plain spelling of a keyword: two keywords are the same if it is.
    """

    known: Mapping[str, Check]
    owned: Mapping[str, str]
    plain: Callable[[str], str] = str.lower

    def checked(self, values: Mapping[str, Any], where: str = "parameters") -> dict[str, str]:
        """Keywords as they are written to the input, in the order of the table.

        :param values: keyword, in any spelling, with its dots or nested -> value; blocks are lists of lines.
        :raises InputError: a keyword that another input decides, one that is unknown, one given twice, a wrong value.
        """
        spelling = {self.plain(name): name for name in self.known}
        found: dict[str, str] = {}
        for key, value in flat(values).items():
            name = spelling.get(self.plain(key))
            if name is None:
                raise self._refusal(key, where, spelling)
            if name in found:
                raise InputError("keyword stands twice", where=where, found=key, expected=f"{name} once")
            try:
                found[name] = self.known[name](value)
            except ValueError as error:
                raise InputError(
                    "wrong value of a keyword", where=f"{where}, {name}", found=repr(value)[:60], expected=error
                ) from None
        return {name: found[name] for name in self.known if name in found}

    def value(self, parameters: Mapping[str, Any], name: str, default: Any) -> Any:
        """Value of a keyword, in whatever spelling it stands there."""
        wanted = self.plain(name)
        return next((value for key, value in flat(parameters).items() if self.plain(key) == wanted), default)

    def replaced(self, parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters, as a node holds them, with some keywords replaced, in whatever spelling they stood there."""
        names = {self.plain(name) for name in changes}
        kept = {key: value for key, value in flat(parameters).items() if self.plain(key) not in names}
        return grouped({**kept, **changes})

    def _refusal(self, key: str, where: str, spelling: Mapping[str, str]) -> InputError:
        plain = self.plain(key)
        owner = next((who for own, who in self.owned.items() if self._owns(own, plain)), None)
        if owner is not None:
            expected = f"it to come from {owner}"
            return InputError(
                "keyword is not the user's", where=where, found=key, expected=expected, remedy="remove it"
            )
        close = difflib.get_close_matches(plain, spelling, n=1)
        return InputError(
            "unknown keyword",
            where=where,
            found=key,
            expected=spelling[close[0]] if close else f"one of {', '.join(self.known)}",
        )

    def _owns(self, own: str, key: str) -> bool:
        begin = self.plain(own)
        return key.startswith(begin) if own.endswith(".") else key == begin
