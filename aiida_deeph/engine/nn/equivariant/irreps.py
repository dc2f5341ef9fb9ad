"""Irreducible representations of O(3) and lists of them with multiplicities.

Written as `64x0e+32x1o`: 64 even scalars and 32 odd vectors. `p` is the sign under inversion, `e` = +1, `o` = -1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aiida_deeph.engine.errors import InputError

_ENTRY = re.compile(r"\s*(?:(\d+)\s*x\s*)?(\d+)\s*([eo])\s*$")


class Irrep(NamedTuple):
    """One irreducible representation; sorted by l, odd before even (the order of the reference's checkpoints)."""

    l: int
    p: int

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p > 0 else 'o'}"

    @property
    def dim(self) -> int:
        """Number of components, 2 l + 1."""
        return 2 * self.l + 1

    @property
    def natural(self) -> bool:
        """Whether the parity is that of the spherical harmonics, (-1)^l."""
        return self.p == (-1 if self.l % 2 else 1)

    def couples(self, other: Irrep, result: Irrep) -> bool:
        """Whether `result` is contained in the product of this one and `other`."""
        return self.p * other.p == result.p and abs(self.l - other.l) <= result.l <= self.l + other.l


class Entry(NamedTuple):
    """`mul` channels of one irreducible representation."""

    mul: int
    irrep: Irrep

    def __str__(self) -> str:
        return f"{self.mul}x{self.irrep}"


class Irreps(tuple[Entry, ...]):
    """An ordered list of entries; how features of them lie in memory says `FeatureLayout`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str | Irreps) -> Irreps:
        """Read `64x0e+32x1o`; an empty text is an empty list.

        :raises InputError: the text is not of this form.
        """
        if isinstance(text, Irreps):
            return text
        entries = []
        for part in text.split("+") if text.strip() else []:
            match = _ENTRY.match(part)
            if match is None:
                raise InputError(
                    "irreps cannot be read",
                    where=repr(text)[:80],
                    found=repr(part)[:40],
                    expected="a form like 64x0e+32x1o",
                )
            mul, l, p = match.groups()
            entries.append(Entry(int(mul or 1), Irrep(int(l), 1 if p == "e" else -1)))
        return cls(entries)

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, Irrep]]) -> Irreps:
        """From pairs (mul, irrep)."""
        return cls(Entry(mul, irrep) for mul, irrep in pairs)

    def __str__(self) -> str:
        return "+".join(map(str, self))

    def __add__(self, other: Iterable[Entry]) -> Irreps:  # type: ignore[override]
        return Irreps((*self, *Irreps(other)))

    @property
    def dim(self) -> int:
        """Number of components of all channels."""
        return sum(mul * irrep.dim for mul, irrep in self)

    @property
    def n_channels(self) -> int:
        """Number of channels of all entries."""
        return sum(mul for mul, _ in self)

    @property
    def lmax(self) -> int:
        """Largest l; 0 if there is no entry."""
        return max((irrep.l for _, irrep in self), default=0)

    def irreps(self) -> Iterator[Irrep]:
        """The irreducible representation of each entry."""
        return (irrep for _, irrep in self)

    def simplified(self) -> Irreps:
        """Neighbouring entries of the same representation merged, empty ones dropped."""
        merged: list[tuple[int, Irrep]] = []
        for mul, irrep in self:
            if mul and merged and merged[-1][1] == irrep:
                merged[-1] = (merged[-1][0] + mul, irrep)
            elif mul:
                merged.append((mul, irrep))
        return Irreps.of(merged)

    def sorted(self) -> Irreps:
        """Entries sorted by (l, p), odd first; stable."""
        return Irreps(sorted(self, key=lambda entry: entry.irrep))

    def all_even(self) -> Irreps:
        """The same list with every parity set to even (for networks that ignore parity)."""
        return Irreps.of((mul, Irrep(irrep.l, 1)) for mul, irrep in self)


def spherical_irreps(lmax: int, ignore_parity: bool = False) -> Irreps:
    """Irreps of the spherical harmonics l = 0..lmax, one channel each."""
    return Irreps.of((1, Irrep(l, 1 if ignore_parity else (-1) ** l)) for l in range(lmax + 1))


def reachable(irrep: Irrep, first: Irreps, second: Irreps) -> bool:
    """Whether a product of an entry of `first` and one of `second` contains `irrep`."""
    return any(a.couples(b, irrep) for a in first.irreps() for b in second.irreps())
