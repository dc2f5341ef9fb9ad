"""Atoms that are too close to each other to be meant."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from aiida_deeph.engine.domain.neighbours import pair_distances, pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

# Smallest distance of two atoms, as a share of the sum of their covalent radii.
CLOSEST = 0.5


def closest_contact(structure: Structure, reach: float = 1.0, smallest: float = 0.0) -> tuple[float, int, int]:
    """Smallest distance of two atoms in units of the sum of their covalent radii, and the atoms; images included.

    :param reach: contacts beyond are not looked for, in the same units: the ratio may be infinite then.
    :param smallest: radius that every atom has at least, Angstrom.
    """
    radii = np.array([max(covalent_radii[atomic_numbers[symbol]], smallest) for symbol in structure.symbols])
    pairs = pairs_within(structure, 2 * reach * float(radii.max(initial=0.0)))
    pairs = pairs[(pairs[:, 3] != pairs[:, 4]) | pairs[:, :3].any(axis=1)]
    if not len(pairs):
        return np.inf, 0, 0
    ratios = pair_distances(structure, pairs) / (radii[pairs[:, 3]] + radii[pairs[:, 4]])
    closest = int(np.argmin(ratios))
    return float(ratios[closest]), int(pairs[closest, 3]), int(pairs[closest, 4])


def require_apart(structure: Structure, where: object, remedy: str = "remove one of them, or mend the cell") -> None:
    """Refuse a structure whose atoms are closer than half the sum of their covalent radii.

    :raises InputError: naming the two atoms, counted from 0.
    """
    ratio, i, j = closest_contact(structure)
    if ratio < CLOSEST:
        raise InputError(
            "two atoms are too close",
            where=where,
            found=f"atoms {i} ({structure.symbols[i]}) and {j} ({structure.symbols[j]}) at {ratio:.2f} times the sum "
            "of their covalent radii",
            expected=f"at least {CLOSEST:g}",
            remedy=remedy,
        )
