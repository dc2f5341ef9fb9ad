"""S(R) as a function of distance: what ties overlaps to the geometry they are said to belong to.

An overlap is a two-centre integral: the Frobenius norm of the block of two atoms does not depend on the direction
between them, but on their elements and their distance alone. A norm that does not lie on the curve of its neighbours in
distance belongs to other positions, to another basis, or to another pair of atoms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_distances, pair_key

# Curve of an element pair: distances, Angstrom, rising, and norms.
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
# How much a norm may bend between two distances, 1 / Angstrom^2 per unit of the norm: twice what narrow shells do.
CURVATURE = 16.0
# Deviations below this are noise of grids and thresholds, not another geometry.
NOISE = 0.01
# Distances that differ by less may be one, printed with few digits, Angstrom.
DIGITS = 3e-3
# Points of a curve that are kept in a manifest.
KEPT = 200


def block_norms(matrix: BlockSparseMatrix) -> NDArray[np.float64]:
    """Frobenius norm of each block, shape (n_pairs,)."""
    squares = np.add.reduceat(np.abs(matrix.entries) ** 2, matrix.chunk_boundaries[:-1])
    return np.asarray(np.sqrt(squares), dtype=np.float64)


def decay_curves(data: RealSpaceHamiltonian) -> dict[str, Curve]:
    """Norm of S over distance of each element pair, keys of `pair_key`; an atom with itself left out."""
    S = data.overlap
    if S is None or not len(S):
        return {}
    symbols = np.array(data.structure.symbols)
    distances, norms = pair_distances(data.structure, S.atom_pairs), block_norms(S)
    first, second = symbols[S.atom_pairs[:, 3]], symbols[S.atom_pairs[:, 4]]
    curves = {}
    for a in data.structure.elements:
        for b in data.structure.elements:
            if a > b:
                continue
            rows = np.flatnonzero((first == a) & (second == b) & (distances > 1e-6))
            rows = rows[np.argsort(distances[rows], kind="stable")]
            if len(rows):
                curves[pair_key(a, b)] = distances[rows], norms[rows]
    return curves


def scatter(curve: Curve) -> tuple[float, float]:
    """Largest distance of a norm from the line between its neighbours, beyond what a smooth curve explains, and where.

    :return: without unit, and Angstrom.
    """
    d, f = curve
    if len(d) < 2:
        return 0.0, float(d[0]) if len(d) else 0.0
    # Norms at one and the same distance are equal; of neighbours further apart the line between them is looked at.
    step = np.diff(d)
    close = np.abs(np.diff(f)) - _slope(f) * step
    worst = int(np.argmax(close))
    largest, place = float(close[worst]), float(d[worst])
    if len(d) > 2:
        span = d[2:] - d[:-2]
        weight = np.divide(d[1:-1] - d[:-2], span, out=np.full(len(span), 0.5), where=span > 1e-9)
        off = np.abs(f[1:-1] - (f[:-2] + weight * (f[2:] - f[:-2])))
        off -= CURVATURE / 2 * float(f.max()) * (d[1:-1] - d[:-2]) * (d[2:] - d[1:-1])
        worst = int(np.argmax(off))
        if off[worst] > largest:
            largest, place = float(off[worst]), float(d[worst + 1])
    return max(largest, 0.0), place


def frozen(curve: Curve) -> tuple[float, float]:
    """Share of neighbours with the very same norm although their distances differ, and one such distance, Angstrom.

    So look the overlaps of a crystal whose atoms were moved afterwards.
    """
    d, f = curve
    order = np.argsort(f, kind="stable")
    d, f = d[order], f[order]
    rows = np.flatnonzero(f[:-1] > 0.05 * f[-1])
    if not len(rows) or f[-1] < NOISE:
        return 0.0, 0.0
    equal = f[rows + 1] - f[rows] < 1e-5 * f[rows]
    apart = equal & (np.abs(d[rows + 1] - d[rows]) > DIGITS)
    share = float(apart.mean())
    return (share, float(d[rows[apart][0]])) if share > 0.05 else (0.0, 0.0)


def deviation(curve: Curve, known: Curve) -> tuple[float, float]:
    """Largest distance of norms from a known curve, beyond what interpolating it costs, and where, Angstrom.

    Distances outside the known ones are not compared.
    """
    d, f = curve
    at, norms = known
    inside = (d >= at[0]) & (d <= at[-1])
    if len(at) < 2 or not inside.any():
        return 0.0, 0.0
    d, f = d[inside], f[inside]
    right = np.clip(np.searchsorted(at, d), 1, len(at) - 1)
    allowed = CURVATURE / 2 * float(norms.max()) * (d - at[right - 1]) * (at[right] - d)
    off = np.abs(f - np.interp(d, at, norms)) - np.maximum(allowed, 0.0)
    worst = int(np.argmax(off))
    return max(float(off[worst]), 0.0), float(d[worst])


def thinned(curves: Mapping[str, Curve]) -> dict[str, list[list[float]]]:
    """The curves with at most `KEPT` points each, evenly spread, as JSON types."""
    result = {}
    for key, (d, f) in curves.items():
        wanted = np.linspace(d[0], d[-1], KEPT)
        rows = np.unique([int(np.argmin(np.abs(d - x))) for x in wanted])
        result[key] = [np.round(d[rows], 6).tolist(), np.round(f[rows], 6).tolist()]
    return result


def as_curves(values: Mapping[str, Sequence[Sequence[float]]]) -> Iterator[tuple[str, Curve]]:
    """What `thinned` made, as arrays again."""
    for key, (d, f) in values.items():
        yield key, (np.asarray(d, dtype=np.float64), np.asarray(f, dtype=np.float64))


def _slope(norms: NDArray[np.float64]) -> float:
    """How fast a norm may fall with distance, 1 / Angstrom."""
    return 4.0 * float(norms.max())
