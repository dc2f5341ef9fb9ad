"""Which shells sit on which element, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError, InputError


@dataclass(frozen=True)
class OrbitalBasis:
    """Angular momenta of the shells of each element; inside a shell m = -l..l of real spherical harmonics.

    :param shells: element symbol -> l of each shell in order, e.g. `{"C": (0, 0, 1, 1, 2)}`.
    """

    shells: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        for symbol, ls in self.shells.items():
            if not ls or any(int(l) != l or l < 0 for l in ls):
                raise InputError(
                    "shells of an element are wrong",
                    where=f"basis of {symbol}",
                    found=list(ls),
                    expected="one l >= 0 per shell",
                )
        object.__setattr__(self, "shells", {s: tuple(int(l) for l in ls) for s, ls in self.shells.items()})

    @property
    def elements(self) -> tuple[str, ...]:
        """Element symbols in the order of the basis."""
        return tuple(self.shells)

    def n_orbitals(self, symbol: str) -> int:
        """Spatial orbitals on one atom of an element."""
        return sum(2 * l + 1 for l in self.shells_of(symbol))

    def shells_of(self, symbol: str) -> tuple[int, ...]:
        """l of each shell of an element.

        :raises InputError: the element has no basis.
        """
        try:
            return self.shells[symbol]
        except KeyError:
            raise InputError(
                "element without basis",
                where="structure",
                found=symbol,
                expected=f"one of {', '.join(self.shells)}",
                remedy="add the element's shells to the basis or leave its atoms out",
            ) from None

    def orbitals_per_atom(self, symbols: Iterable[str]) -> NDArray[np.int64]:
        """Spatial orbitals of each atom, shape (n_atoms,)."""
        symbols = list(symbols)
        sizes = {symbol: self.n_orbitals(symbol) for symbol in set(symbols)}
        return np.array([sizes[symbol] for symbol in symbols], dtype=np.int64)

    def union(self, other: OrbitalBasis) -> OrbitalBasis:
        """Both bases together.

        :raises DataError: an element has different shells in the two.
        """
        for symbol in set(self.shells) & set(other.shells):
            if self.shells[symbol] != other.shells[symbol]:
                raise DataError(
                    "two bases for one element",
                    where=symbol,
                    found=f"{list(self.shells[symbol])} and {list(other.shells[symbol])}",
                    expected="one basis per element over the whole dataset",
                )
        return OrbitalBasis({**self.shells, **other.shells})


class SpinMode(StrEnum):
    """How spin enters H.

    Without spin a block is real, shape (n_i, n_j). With spin, collinear or not, it is complex, shape (2 n_i, 2 n_j),
    spin-major: [[uu, ud], [du, dd]]. Overlaps never carry spin.
    """

    NONE = "none"
    COLLINEAR = "collinear"
    NONCOLLINEAR = "noncollinear"

    @property
    def multiplicity(self) -> int:
        """Rows of a Hamiltonian block per spatial orbital: 1 or 2."""
        return 1 if self is SpinMode.NONE else 2

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type of the Hamiltonian: float64 or complex128."""
        return np.dtype(np.float64 if self is SpinMode.NONE else np.complex128)

    @property
    def electrons_per_state(self) -> int:
        """Electrons that one eigenstate holds: 2 without spin, 1 with it."""
        return 2 if self is SpinMode.NONE else 1
