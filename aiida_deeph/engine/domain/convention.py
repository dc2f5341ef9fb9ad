"""How a shell's orbitals are ordered and signed: data of each code's record, applied in `transforms` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class OrbitalConvention:
    """How the orbitals of a shell are ordered, and which of them have the opposite sign of ours.

    :param order: `ascending` is m = -l..l; `alternating` is m = 0, 1, -1, 2, -2, ..
    :param exceptions: l -> values of m in this order, where it differs from `order`.
    :param negated: orbitals whose sign is opposite: `none`, `odd` (odd m) or `odd_positive` (odd m > 0).
    """

    order: Literal["ascending", "alternating"] = "ascending"
    exceptions: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    negated: Literal["none", "odd", "odd_positive"] = "none"

    def ms(self, l: int) -> tuple[int, ...]:
        """m of each orbital of a shell in this order."""
        if l in self.exceptions:
            return self.exceptions[l]
        ascending = tuple(range(-l, l + 1))
        return ascending if self.order == "ascending" else tuple(sorted(ascending, key=lambda m: (abs(m), -m)))

    def permutation(self, l: int) -> tuple[int, ...]:
        """Place in such a shell of each of our orbitals m = -l..l."""
        ms = self.ms(l)
        return tuple(ms.index(m) for m in range(-l, l + 1))

    def signs(self, l: int) -> tuple[int, ...]:
        """Factor of each of our orbitals m = -l..l."""

        def negative(m: int) -> bool:
            return m % 2 == 1 and (self.negated == "odd" or (self.negated == "odd_positive" and m > 0))

        return tuple(-1 if negative(m) else 1 for m in range(-l, l + 1))


_XYZ = (1, -1, 0)  # p orbitals as x, y, z

# Ours, and that of DeepH folders.
E3NN = OrbitalConvention()
# Of the library that evaluates Gaussian integrals.
LIBCINT = OrbitalConvention(exceptions={1: _XYZ})
# Of the older DeepH folders: d as z2, x2-y2, xy, xz, yz; f as m = 0, 1, -1, 2, -2, 3, -3.
DEEPH_LEGACY = OrbitalConvention("alternating", {1: _XYZ, 2: (0, 2, -2, 1, -1)})
