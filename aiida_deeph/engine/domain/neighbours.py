"""Pairs of atoms within a range: the atom pairs of overlaps, graphs and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from aiida_deeph.engine.domain.blocksparse import pair_keys
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

# Distances that exceed a cutoff by less than this count as equal to it, so that rounding never splits a shell of
# equivalent neighbours, Angstrom.
TOLERANCE = 1e-6


def pair_key(a: str, b: str) -> str:
    """Name of an element pair, the same in both orders: `C-H`."""
    return "-".join(sorted((a, b)))


def pairs_within(structure: Structure, cutoff: float | Mapping[str, float]) -> NDArray[np.int64]:
    """All pairs of atoms with |r_j + R - r_i| <= cutoff, both directions, each atom with itself included.

    The cost is linear in the number of pairs. R refers to the positions as they are, wrapped or not.

    :param cutoff: Angstrom; or one per element pair (keys of `pair_key`), where a missing pair has no edge.
    :return: rows (R1, R2, R3, i, j) in the order of (i, j, R1, R2, R3), shape (n_pairs, 5).
    :raises InputError: a cutoff is negative or not finite.
    """
    ranges = np.array(list(cutoff.values()) if isinstance(cutoff, Mapping) else [cutoff], dtype=np.float64)
    if not (np.isfinite(ranges).all() and (ranges >= 0).all()):
        raise InputError("cutoff is wrong", found=cutoff, expected="a distance >= 0 in Angstrom")
    if not len(structure):
        return np.zeros((0, 5), dtype=np.int64)
    pairs = _pairs_within_largest(structure, float(ranges.max(initial=0.0)) + TOLERANCE)
    on_site = (pairs[:, 3] == pairs[:, 4]) & ~pairs[:, :3].any(axis=1)
    species, codes = _pair_codes(structure, pairs)
    if isinstance(cutoff, Mapping):
        limits = np.array([[cutoff.get(pair_key(a, b), -np.inf) for b in species] for a in species]).ravel()[codes]
    else:
        limits = np.full(len(pairs), cutoff)
    pairs = pairs[on_site | (pair_distances(structure, pairs) <= limits + TOLERANCE)]
    by_atoms = pairs[:, [3, 4, 0, 1, 2]]
    low = by_atoms.min(axis=0)
    order = np.argsort(pair_keys(by_atoms, low, by_atoms.max(axis=0) - low + 1))
    sorted_pairs: NDArray[np.int64] = pairs[order]
    return sorted_pairs


def pair_cutoffs(structure: Structure, atom_pairs: NDArray[np.int64]) -> dict[str, float]:
    """Largest distance of each element pair, keys of `pair_key` sorted by name, Angstrom; an atom with itself counts 0.

    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    """
    species, codes = _pair_codes(structure, atom_pairs)
    largest = np.full(len(species) ** 2, -np.inf)
    np.maximum.at(largest, codes, pair_distances(structure, atom_pairs))
    result: dict[str, float] = {}
    for code in np.flatnonzero(np.isfinite(largest)):
        key = pair_key(*(species[n] for n in divmod(int(code), len(species))))
        result[key] = max(result.get(key, 0.0), float(largest[code]))
    return dict(sorted(result.items()))


def pair_distances(structure: Structure, atom_pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """|r_j + R - r_i|, shape (n_pairs,), Angstrom; bit-identical for (R, i, j) and (-R, j, i).

    Sums are taken element by element: a matrix product may round the two directions differently, and a pair at the
    very cutoff would lose its partner.
    """
    shift = sum(atom_pairs[:, axis, None] * structure.cell[axis] for axis in range(3))
    vectors = structure.positions[atom_pairs[:, 4]] - structure.positions[atom_pairs[:, 3]] + shift
    x, y, z = vectors.T
    return np.asarray(np.sqrt(x * x + y * y + z * z), dtype=np.float64)


def _pair_codes(structure: Structure, atom_pairs: NDArray[np.int64]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Elements and, for each pair, index of its ordered element pair in their square, shape (n_pairs,)."""
    species = structure.elements
    index = {symbol: n for n, symbol in enumerate(species)}
    kinds = np.array([index[symbol] for symbol in structure.symbols], dtype=np.int64)
    return species, kinds[atom_pairs[:, 3]] * len(species) + kinds[atom_pairs[:, 4]]


def _pairs_within_largest(structure: Structure, cutoff: float) -> NDArray[np.int64]:
    """Pairs within one cutoff and perhaps a little beyond, unsorted, shape (n_pairs, 5).

    Atoms are wrapped into the home cell and only those periodic images are made that lie within `cutoff` of it: a
    distance is at least the difference of fractional coordinates times the height of the cell along that vector.
    """
    fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
    wrap = np.where(structure.pbc, np.floor(fractional), 0.0).astype(np.int64)
    home = fractional - wrap
    heights = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
    margin = 1.01 * cutoff / heights + 1e-9
    atoms = np.arange(len(structure), dtype=np.int64)
    cells = np.zeros((len(structure), 3), dtype=np.int64)
    for axis in np.flatnonzero(structure.pbc):
        low, high = home[:, axis].min() - margin[axis], home[:, axis].max() + margin[axis]
        place = home[atoms, axis]
        first = np.ceil(low - place).astype(np.int64)
        count = np.floor(high - place).astype(np.int64) - first + 1
        begin = np.repeat(np.cumsum(count) - count, count)
        step = np.arange(count.sum()) - begin + np.repeat(first, count)
        atoms, cells = np.repeat(atoms, count), np.repeat(cells, count, axis=0)
        cells[:, axis] = step
    found = cKDTree(home @ structure.cell).sparse_distance_matrix(
        cKDTree((home[atoms] + cells) @ structure.cell), 1.000001 * cutoff, output_type="ndarray"
    )
    i, j = found["i"].astype(np.int64), atoms[found["j"]]
    # r_j + R - r_i of the wrapped atoms belongs to R + wrap_i - wrap_j of the atoms as they are.
    R = cells[found["j"]] + wrap[i] - wrap[j]
    return np.concatenate([R, i[:, None], j[:, None]], axis=1)


def species_of(structure: Structure, elements: Sequence[str]) -> NDArray[np.int64]:
    """Place of each atom's element in `elements`, shape (n_atoms,).

    :raises InputError: an element is missing.
    """
    place = {symbol: n for n, symbol in enumerate(elements)}
    unknown = [symbol for symbol in structure.elements if symbol not in place]
    if unknown:
        raise InputError(
            "element unknown to the model",
            where="structure",
            found=", ".join(unknown),
            expected=f"only {', '.join(elements)}",
        )
    return np.array([place[symbol] for symbol in structure.symbols], dtype=np.int64)
