"""Pairs beyond a cutoff: leaving them out, what that costs in bands, and the cutoffs that cost next to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.gate import Gate
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import TOLERANCE, pair_cutoffs, pair_distances, pair_key
from aiida_deeph.engine.domain.transforms import with_common_pairs, without_gauge

Cutoffs = float | Mapping[str, float]
# Bands are compared at Gamma, a corner of the Brillouin zone and a point without symmetry; of small cells, whose zone
# is large, also at its other corners and at points that fill it evenly, as far as the work allows (rows^3, by point).
K_POINTS = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.17, 0.31, 0.43))
MOST_POINTS, WORK = 48, 3e8
# Of such points in three dimensions: powers of the inverse of the root of x^4 = x + 1.
STEPS = np.array([1.2207440846057596**-n for n in (1, 2, 3)])
# Bands up to so much above the Fermi level count, eV.
WINDOW = 3.0
# Beyond so many rows H(k) is not diagonalised: the bands of a dataset's cells are those of its smaller members.
DENSE_LIMIT = 1000
# What measured cutoffs leave for pairs that are a little further apart in other members, Angstrom.
MARGIN = 0.3
# Thresholds on |H - mu S| that are tried for measured cutoffs, eV.
THRESHOLDS = tuple(10.0 ** (-n / 2) for n in range(3, 13))


def within_cutoff(data: RealSpaceHamiltonian, cutoff: Cutoffs, max_dropped: float) -> tuple[RealSpaceHamiltonian, Gate]:
    """The data without pairs further apart than the cutoff, and a gate on the largest |H| that was lost.

    :param cutoff: Angstrom; or one per element pair, keys of `pair_key`, where a missing pair keeps nothing but atoms
        with themselves.
    :param max_dropped: eV.
    """

    def near(matrix: BlockSparseMatrix | None) -> tuple[BlockSparseMatrix | None, float, int]:
        if matrix is None:
            return None, 0.0, 0
        limits = _limits(data, matrix, cutoff)
        keep = pair_distances(data.structure, matrix.atom_pairs) <= limits + TOLERANCE
        return matrix.selected(keep), float(matrix.norms()[~keep].max(initial=0.0)), int((~keep).sum())

    hamiltonian, dropped, count = near(data.hamiltonian)
    overlap, dropped_overlap, _ = near(data.overlap)
    gate = Gate(
        "H beyond cutoff",
        dropped <= max_dropped,
        dropped,
        max_dropped,
        "eV",
        "warning",
        f"{count} pairs, largest |S| {dropped_overlap:.2g}",
    )
    return replace(data, hamiltonian=hamiltonian, overlap=overlap), gate


def sample_points(n_rows: int) -> NDArray[np.float64]:
    """Fractional k-points where the bands of a matrix of so many rows are looked at, shape (n_k, 3)."""
    corners = [corner for corner in product((0.0, 0.5), repeat=3) if corner not in K_POINTS]
    even = np.outer(np.arange(1, MOST_POINTS + 1), STEPS) % 1.0
    points = np.concatenate([np.array(K_POINTS), np.array(corners), even])
    count = int(np.clip(WORK / max(n_rows, 1) ** 3, len(K_POINTS), MOST_POINTS))
    return np.asarray(points[:count], dtype=np.float64)


def band_cost(
    full: RealSpaceHamiltonian, cut: RealSpaceHamiltonian, known: dict[int, NDArray[np.float64]] | None = None
) -> float | None:
    """Largest change of a band, up to `WINDOW` above the Fermi level, eV; infinite where S(k) is no longer positive.

    :param known: bands of `full` at the points that were looked at before; filled here.
    :return: None where H or S is missing, or H(k) is too large to be diagonalised in passing.
    """
    if full.hamiltonian is None or full.overlap is None or full.rows_per_atom.sum() > DENSE_LIMIT:
        return None
    worst, known = 0.0, {} if known is None else known
    for number, k in enumerate(sample_points(int(full.rows_per_atom.sum()))):
        try:
            if number not in known:
                known[number] = _bands_at(full, k)
            before, after = known[number], _bands_at(cut, k)
        except la.LinAlgError:
            return float(np.inf)
        counted = _counted(full, before)
        worst = max(worst, float(np.abs(after - before)[:counted].max(initial=0.0)))
    return worst


def _bands_at(data: RealSpaceHamiltonian, k: NDArray[np.float64]) -> NDArray[np.float64]:
    H, S = data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray()
    return np.asarray(la.eigh(H, S, eigvals_only=True), dtype=np.float64)


def bands_with_cutoff(full: RealSpaceHamiltonian, cut: RealSpaceHamiltonian, limit: float) -> Gate | None:
    """A gate on what a cutoff costs in bands.

    :param limit: eV.
    :return: None where it was not measured.
    """
    cost = band_cost(full, cut)
    if cost is None:
        return None
    detail = "" if cost <= limit else "pairs beyond the cutoff matter: raise it, or let `cutoff: auto` measure it"
    if np.isinf(cost):
        # There are no bands at all.
        detail = f"S(k) is not positive definite without the pairs beyond; {detail}"
    severity: Literal["error", "warning"] = "error" if np.isinf(cost) else "warning"
    return Gate("bands with the cutoff", cost <= limit, cost, limit, "eV", severity, detail)


def measured_cutoffs(data: RealSpaceHamiltonian, limit: float) -> dict[str, float]:
    """Cutoffs per element pair, keys of `pair_key`, Angstrom, from how far H and S of a structure reach.

    Of each element pair the pairs are kept up to the last one with |H - mu S| beyond a threshold; the threshold is the
    largest with which no band moves by more than the limit.

    :param limit: eV. Where bands cannot be computed, the smallest threshold is taken.
    """
    if data.hamiltonian is None or data.overlap is None:
        matrix = data.hamiltonian or data.overlap
        return {} if matrix is None else pair_cutoffs(data.structure, matrix.atom_pairs)
    both = with_common_pairs(data)
    free = without_gauge(both)[0].hamiltonian
    assert free is not None and both.overlap is not None
    # Where S is not small either, its product with an energy matters: |S| counts as much as |H| over an eV.
    sizes = np.maximum(free.norms(), both.overlap.norms())
    everything = pair_cutoffs(data.structure, free.atom_pairs)
    bands: dict[int, NDArray[np.float64]] = {}
    for threshold in THRESHOLDS:
        matter = free.atom_pairs[sizes > threshold]
        known = pair_cutoffs(data.structure, matter)
        cutoffs = {key: known.get(key, 0.0) + MARGIN for key in everything}
        cost = band_cost(both, within_cutoff(both, cutoffs, np.inf)[0], bands)
        if cost is not None and cost <= limit:
            return cutoffs
    return cutoffs if cost is None else {key: largest + MARGIN for key, largest in everything.items()}


def _limits(data: RealSpaceHamiltonian, matrix: BlockSparseMatrix, cutoff: Cutoffs) -> NDArray[np.float64]:
    """Cutoff of each pair, shape (n_pairs,), Angstrom."""
    if not isinstance(cutoff, Mapping):
        return np.full(len(matrix), cutoff)
    elements = data.structure.elements
    kinds = np.array([elements.index(symbol) for symbol in data.structure.symbols])
    table = np.array([[cutoff.get(pair_key(a, b), 0.0) for b in elements] for a in elements])
    return np.asarray(table[kinds[matrix.atom_pairs[:, 3]], kinds[matrix.atom_pairs[:, 4]]], dtype=np.float64)


def _counted(data: RealSpaceHamiltonian, energies: NDArray[np.float64]) -> int:
    """How many bands count: those up to the window above the Fermi level, else above the last occupied one."""
    level = data.fermi_energy
    if level is None and data.n_electrons is not None:
        occupied = int(np.ceil(data.n_electrons / data.spin.electrons_per_state))
        level = float(energies[min(max(occupied, 1), len(energies)) - 1])
    if level is None:
        return (len(energies) + 1) // 2
    return int(np.searchsorted(energies, level + WINDOW))
