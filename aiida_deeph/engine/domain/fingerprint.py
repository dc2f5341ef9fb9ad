"""Which structures are copies of one another: moved, turned, mirrored, renumbered, repeated, or with a little noise.

The fingerprint of a structure are mean and spread, over its atoms of an element, of the distances to their nearest
neighbours of each element, sorted. It does not depend on origin, orientation, order of the atoms or choice of the cell,
and changes by no more than the atoms are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.neighbours import pair_distances, pairs_within
from aiida_deeph.engine.domain.structure import Structure

# Neighbours of each element that count, and how far they are looked for, Angstrom.
NEIGHBOURS = 8
REACH = 6.0
# Fingerprints that differ by less are those of copies, Angstrom: noise of 1e-5 in each coordinate makes 3.5e-5.
NOISE = 1e-4


def fingerprint(structure: Structure) -> NDArray[np.float64]:
    """Angstrom; shape (n_elements, n_elements, 2, NEIGHBOURS), elements sorted by symbol, flat."""
    elements = sorted(structure.elements)
    kinds = np.array([elements.index(symbol) for symbol in structure.symbols])
    pairs = pairs_within(structure, REACH)
    distances = pair_distances(structure, pairs)
    others = distances > 1e-9
    atoms, partner, distances = pairs[others, 3], kinds[pairs[others, 4]], distances[others]
    order = np.lexsort((distances, partner, atoms))
    atoms, partner, distances = atoms[order], partner[order], distances[order]
    group = atoms * len(elements) + partner
    first = np.searchsorted(group, group)
    rank = np.arange(len(group)) - first
    nearest = np.full((len(structure), len(elements), NEIGHBOURS), REACH)
    kept = rank < NEIGHBOURS
    nearest[atoms[kept], partner[kept], rank[kept]] = distances[kept]
    parts = [nearest[kinds == kind] for kind in range(len(elements))]
    return np.concatenate([np.stack([part.mean(axis=0), part.std(axis=0)]).ravel() for part in parts])


@dataclass
class Groups:
    """Copies among many structures; a copy of a copy is one of the same group.

    :param names: of the first structure of each group.
    """

    names: list[str] = field(default_factory=list)
    _prints: dict[tuple[tuple[str, float], ...], list[tuple[int, NDArray[np.float64]]]] = field(default_factory=dict)

    def add(self, name: str, structure: Structure) -> str:
        """Name of the first structure of which this one is a copy: its own if there is none.

        :param name: of the structure.
        """
        known = self._prints.setdefault(_composition(structure), [])
        own = fingerprint(structure)
        if known:
            off = np.abs(np.stack([one for _, one in known]) - own).max(axis=1)
            closest = int(np.argmin(off))
            if off[closest] < NOISE:
                known.append((known[closest][0], own))
                return self.names[known[closest][0]]
        self.names.append(name)
        known.append((len(self.names) - 1, own))
        return name


def groups_of(members: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Group -> its members, of groups of several alone.

    :param members: name and group of each.
    """
    found: dict[str, list[str]] = {}
    for name, group in members:
        found.setdefault(group, []).append(name)
    return {group: names for group, names in found.items() if len(names) > 1}


def _composition(structure: Structure) -> tuple[tuple[str, float], ...]:
    """Share of each element, the same for all repetitions of a cell."""
    n = len(structure)
    return tuple((symbol, round(structure.symbols.count(symbol) / n, 9)) for symbol in sorted(structure.elements))
