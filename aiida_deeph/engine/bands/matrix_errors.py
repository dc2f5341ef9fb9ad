"""Errors of H(R) and S(R) against a reference, and the multiple of S by which two H differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.bands.projection import LETTERS
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import InputError

DISTANCE_STEP = 1.0
"""Width of the bins of distances, Angstrom."""


def check_same_system(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian, where: str) -> RealSpaceHamiltonian:
    """Refuse a Hamiltonian of another structure, basis or spin than the reference.

    :param where: name of the first one in error messages.
    :raises InputError: naming what differs.
    """
    for name, ours, theirs in (
        ("structure", found.structure.symbols, reference.structure.symbols),
        ("basis", dict(found.basis.shells), dict(reference.basis.shells)),
        ("spin", found.spin.value, reference.spin.value),
    ):
        if ours != theirs:
            raise InputError("two different systems", where=f"{name} of {where}", found=ours, expected=theirs)
    moved = np.abs(found.structure.positions - reference.structure.positions).max()
    strained = np.abs(found.structure.cell - reference.structure.cell).max()
    if max(moved, strained) > 1e-3:
        raise InputError(
            "two different structures",
            where=where,
            found=f"atoms {moved:.3g} and cell {strained:.3g} Angstrom away",
            expected="the same positions and cell",
        )


def spinful(overlap: BlockSparseMatrix, data: RealSpaceHamiltonian) -> BlockSparseMatrix:
    """S on the pairs of H in the rows of H."""
    if data.spin.multiplicity == 1:
        return overlap
    pairs, counts = overlap.atom_pairs, data.orbitals_per_atom
    doubled = BlockSparseMatrix.from_pairs(pairs, 2 * counts)
    rows, columns = doubled.entry_positions()
    i, j = (counts[pairs[:, 3 + n]][doubled.pair_of_entry] for n in (0, 1))
    same = (rows >= i) == (columns >= j)
    start = overlap.chunk_boundaries[:-1][doubled.pair_of_entry]
    place = start + (rows % i) * j + columns % j
    return doubled.with_entries(np.where(same, overlap.entries[place], 0.0))


def gauge_shift(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian) -> float:
    """Multiple of S (eV) that both H differ by, in the sense of least squares over all matrix elements."""
    pairs, rows = reference.hamiltonian.atom_pairs, reference.rows_per_atom
    difference = found.hamiltonian.aligned_to(pairs, rows) - reference.hamiltonian
    s = spinful(reference.overlap.aligned_to(pairs, reference.orbitals_per_atom), reference).entries
    return float(np.vdot(s, difference.entries).real / np.vdot(s, s).real)


def matrix_errors(found: RealSpaceHamiltonian, reference: RealSpaceHamiltonian) -> dict[str, Any]:
    """Mean and largest |error| of H (eV) overall, by pair of elements, of shells and by distance; largest of S."""
    h, structure, basis = reference.hamiltonian, reference.structure, reference.basis
    error = np.abs((found.hamiltonian.aligned_to(h.atom_pairs, reference.rows_per_atom) - h).entries)
    pairs, pair = h.atom_pairs, h.pair_of_entry
    symbols = np.array(structure.symbols)
    copies = reference.spin.multiplicity
    names = {
        e: np.tile([f"{e} {LETTERS[l]}" for l in basis.shells_of(e) for _ in range(2 * l + 1)], copies)
        for e in structure.elements
    }
    first = np.concatenate([[0], np.cumsum(reference.rows_per_atom)])
    shell_of_row = np.concatenate([names[s] for s in structure.symbols])
    rows, columns = h.entry_positions()
    left, right = shell_of_row[first[pairs[:, 3]][pair] + rows], shell_of_row[first[pairs[:, 4]][pair] + columns]
    by_elements = np.char.add(np.char.add(symbols[pairs[:, 3]], " "), symbols[pairs[:, 4]])
    distance = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    step = (distance / DISTANCE_STEP).astype(np.int64)
    by_distance = np.array([f"{n * DISTANCE_STEP:g}-{(n + 1) * DISTANCE_STEP:g}" for n in range(step.max() + 1)])[step]
    overlap = reference.overlap
    s_error = (found.overlap.aligned_to(overlap.atom_pairs, reference.orbitals_per_atom) - overlap).entries
    return {
        **summary(error),
        "by_elements": _grouped(error, by_elements[pair]),
        "by_shells": _grouped(error, np.char.add(np.char.add(left, "-"), right)),
        "by_distance": _grouped(error, by_distance[pair]),
        "distance_units": "angstrom",
        "overlap_max": float(np.abs(s_error).max(initial=0.0)),
    }


def _grouped(error: NDArray[np.float64], names: NDArray[np.str_]) -> dict[str, dict[str, float]]:
    kinds, kind = np.unique(names, return_inverse=True)
    return {str(name): summary(error[kind == n]) for n, name in enumerate(kinds)}


def summary(error: NDArray[np.float64]) -> dict[str, float]:
    size = np.abs(error)
    return {"mean": float(size.mean()) if size.size else 0.0, "max": float(size.max(initial=0.0))}
