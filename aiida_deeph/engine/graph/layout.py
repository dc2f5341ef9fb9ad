"""Which network output is which entry of a Hamiltonian block (SPEC of the reference, its 'target blocks').

Each pair of shells with the same (l1, n1, l2, n2) in different pairs of elements shares one target, n counting the
shells of the same l of an element. Targets of the same (l1, l2) form a class; the columns of the network's output run
class by class, target by target, then over the 2x2 spin blocks (uu, ud, du, dd) if there is spin, then over the
(2 l1 + 1)(2 l2 + 1) elements of the block, row-major.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import DataError, InputError


@dataclass(frozen=True)
class Target:
    """A pair of shells that one set of outputs describes.

    :param shells: pair of elements -> places of the two shells in their lists.
    """

    l1: int
    l2: int
    shells: Mapping[tuple[str, str], tuple[int, int]]

    def as_json(self) -> dict[str, tuple[int, int]]:
        """`{"C H": (0, 1), ...}`."""
        return {f"{a} {b}": places for (a, b), places in self.shells.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Sequence[int]], basis: OrbitalBasis) -> Target:
        """Read `{"C H": [0, 1], ...}`.

        :raises DataError: a place is outside the basis or the l differ between pairs of elements.
        """
        shells = {
            (key.split()[0], key.split()[1]): (int(first), int(second)) for key, (first, second) in values.items()
        }
        try:
            ls = {(basis.shells_of(a)[first], basis.shells_of(b)[second]) for (a, b), (first, second) in shells.items()}
        except IndexError:
            ls = set()
        if len(ls) != 1:
            raise DataError(
                "target does not fit the basis",
                where=dict(values),
                found=sorted(ls),
                expected="one (l1, l2) for all its pairs",
            )
        return cls(*ls.pop(), shells)


def targets_of(basis: OrbitalBasis) -> tuple[Target, ...]:
    """All pairs of shells of all pairs of elements, those of the same (l1, n1, l2, n2) merged, by first occurrence."""
    ordinal = {symbol: [(l, ls[:place].count(l)) for place, l in enumerate(ls)] for symbol, ls in basis.shells.items()}
    found: dict[tuple[int, int, int, int], dict[tuple[str, str], tuple[int, int]]] = {}
    for a in basis.elements:
        for b in basis.elements:
            for first, (l1, n1) in enumerate(ordinal[a]):
                for second, (l2, n2) in enumerate(ordinal[b]):
                    found.setdefault((l1, n1, l2, n2), {})[a, b] = (first, second)
    return tuple(Target(l1, l2, shells) for (l1, _, l2, _), shells in found.items())


@dataclass(frozen=True)
class EntryLayout:
    """Columns of the network's output for the blocks of every pair of elements.

    :param targets: pairs of shells, none of them twice.
    """

    basis: OrbitalBasis
    spin: SpinMode
    targets: tuple[Target, ...]

    @classmethod
    def of(
        cls,
        basis: OrbitalBasis,
        spin: SpinMode,
        targets: Sequence[Mapping[str, Any]] | None = None,
    ) -> EntryLayout:
        """The layout of a basis, or of targets as written in a model's description."""
        if targets is None:
            return cls(basis, spin, targets_of(basis))
        return cls(basis, spin, tuple(Target.from_json(target, basis) for target in targets))

    def require_complete(self) -> None:
        """Refuse targets that leave entries of H without a value.

        :raises DataError: naming a pair of shells without target.
        """
        missing = [(pair, entry) for pair, table in self.columns.items() for entry in np.flatnonzero(table < 0)[:1]]
        if missing:
            raise DataError(
                "model does not predict all of the Hamiltonian",
                where=f"pair of elements {' '.join(missing[0][0])}, entry {missing[0][1]} of its block",
                found=f"{len(missing)} pairs of elements with entries without target",
                expected="one target for each pair of shells",
                remedy="import all models of the set together",
            )

    @property
    def n_spin_blocks(self) -> int:
        """1 without spin, else 4: uu, ud, du, dd."""
        return self.spin.multiplicity**2

    @cached_property
    def classes(self) -> dict[tuple[int, int], list[int]]:
        """(l1, l2) -> the targets of this class, classes sorted."""
        keys = sorted({(target.l1, target.l2) for target in self.targets})
        return {key: [n for n, target in enumerate(self.targets) if (target.l1, target.l2) == key] for key in keys}

    @cached_property
    def first_columns(self) -> NDArray[np.int64]:
        """First column of each target, shape (n_targets + 1,); the last value is the number of columns."""
        first = np.zeros(len(self.targets) + 1, dtype=np.int64)
        position = 0
        for (l1, l2), members in self.classes.items():
            for n in members:
                first[n] = position
                position += self.n_spin_blocks * (2 * l1 + 1) * (2 * l2 + 1)
        first[-1] = position
        return first

    @property
    def n_columns(self) -> int:
        """Columns of the output: numbers per edge, real or complex."""
        return int(self.first_columns[-1])

    @cached_property
    def columns(self) -> dict[tuple[str, str], NDArray[np.int64]]:
        """Column of each entry of a block (row-major, spin-major), by pair of elements."""
        result = {}
        n_spin = self.spin.multiplicity
        for a in self.basis.elements:
            for b in self.basis.elements:
                table = np.full(
                    (n_spin, self.basis.n_orbitals(a), n_spin, self.basis.n_orbitals(b)), -1, dtype=np.int64
                )
                for first, target in zip(self.first_columns, self.targets, strict=False):
                    if (a, b) not in target.shells:
                        continue
                    i, j = target.shells[a, b]
                    d1, d2 = 2 * target.l1 + 1, 2 * target.l2 + 1
                    row = sum(2 * l + 1 for l in self.basis.shells[a][:i])
                    col = sum(2 * l + 1 for l in self.basis.shells[b][:j])
                    place = table[:, row : row + d1, :, col : col + d2]
                    if (place >= 0).any():
                        raise DataError("two targets for one pair of shells", where=f"{a} {b}", found=(i, j))
                    block = first + np.arange(n_spin * n_spin * d1 * d2).reshape(n_spin, n_spin, d1, d2)
                    place[...] = block.transpose(0, 2, 1, 3)
                result[a, b] = table.reshape(-1)
        return result

    def entry_index(
        self, species: NDArray[np.int64], edges: NDArray[np.int64], places: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Place of each entry in the flattened output (n_edges, n_columns), in the order of the pairs.

        :param species: index of each atom's element in the basis, shape (n_atoms,).
        :param edges: the two atoms of each pair, shape (n_pairs, 2).
        :param places: row of each pair in the output, shape (n_pairs,).
        :returns: shape (n_entries,); -1 where no target gives the entry.
        :raises InputError: an atom's element is not in the basis.
        """
        n = len(self.basis.elements)
        if len(species) and (species.min() < 0 or species.max() >= n):
            raise InputError("species outside the basis", found=int(species.max()), expected=f"0 to {n - 1}")
        tables = [self.columns[a, b] for a in self.basis.elements for b in self.basis.elements]
        kind = species[edges[:, 0]] * n + species[edges[:, 1]]
        sizes = np.array([len(table) for table in tables], dtype=np.int64)[kind]
        index = np.repeat(places * self.n_columns, sizes)
        first = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        for k, table in enumerate(tables):
            rows = first[kind == k]
            places_k = (rows[:, None] + np.arange(len(table))).reshape(-1)
            index[places_k] += np.tile(table, len(rows))
            if (table < 0).any():
                index[places_k[np.tile(table < 0, len(rows))]] = -1
        return index


@dataclass(frozen=True)
class JoinedLayout(EntryLayout):
    """Several networks that share the Hamiltonian among them: the columns of the second follow those of the first.

    :param parts: with disjoint targets.
    """

    parts: tuple[EntryLayout, ...] = ()

    @classmethod
    def join(cls, parts: Sequence[EntryLayout]) -> JoinedLayout:
        """All targets of all parts.

        :raises DataError: two parts hold the same pair of shells.
        """
        targets = tuple(target for part in parts for target in part.targets)
        EntryLayout(parts[0].basis, parts[0].spin, targets).columns  # noqa: B018  (refuses targets that overlap)
        return cls(parts[0].basis, parts[0].spin, targets, tuple(parts))

    @property
    def n_columns(self) -> int:
        """Columns of all parts together."""
        return sum(part.n_columns for part in self.parts)

    @cached_property
    def columns(self) -> dict[tuple[str, str], NDArray[np.int64]]:
        """Column of each entry of a block, counted over all parts."""
        result = {pair: np.full_like(table, -1) for pair, table in self.parts[0].columns.items()}
        first = 0
        for part in self.parts:
            for pair, table in part.columns.items():
                result[pair][table >= 0] = table[table >= 0] + first
            first += part.n_columns
        return result
