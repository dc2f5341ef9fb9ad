"""Point defects: vacancies and substitutions at random, spread-out sites."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

TRIES = 200


def random_sites(
    structure: Structure, element: str | None, number: int, separation: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Some atoms of an element, no two of them nearer than `separation` Angstrom, periodic images included.

    :param element: None takes all elements.
    :raises InputError: there are not so many, or none so far apart was found.
    """
    candidates = np.array([n for n, symbol in enumerate(structure.symbols) if element in (None, symbol)], dtype=int)
    if number > len(candidates):
        raise InputError("not so many atoms", where=element or "structure", found=len(candidates), expected=number)
    pairs = pairs_within(structure, separation)
    # A site that is nearer to its own image than allowed cannot be cured by choosing another one; it is left alone.
    close = {(int(i), int(j)) for i, j in pairs[:, 3:] if i != j}
    for _ in range(TRIES):
        chosen: list[int] = []
        for site in rng.permutation(candidates).tolist():
            if all((site, other) not in close for other in chosen):
                chosen.append(site)
            if len(chosen) == number:
                return np.sort(np.array(chosen, dtype=np.int64))
    raise InputError(
        "no sites far enough apart",
        where="defects",
        found=f"{number} in {len(candidates)} atoms",
        expected=f"{separation:g} Angstrom between them",
        remedy="a larger supercell, fewer defects or a smaller separation",
    )


def with_vacancies(structure: Structure, sites: NDArray[np.int64]) -> Structure:
    """The structure without some atoms.

    :raises InputError: no atom is left.
    """
    kept = np.setdiff1d(np.arange(len(structure)), sites)
    if not len(kept):
        raise InputError("no atom is left", where="vacancies")
    return structure.permuted(kept)


def substituted(structure: Structure, sites: NDArray[np.int64], element: str) -> Structure:
    """The structure with another element at some sites."""
    there = set(sites.tolist())
    symbols = tuple(element if n in there else symbol for n, symbol in enumerate(structure.symbols))
    return Structure(symbols, structure.positions, structure.cell, structure.pbc)
