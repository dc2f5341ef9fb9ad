"""Multifrontal A = L D L^dagger of sparse Hermitian matrices with dense BLAS, inertia included.

I. S. Duff, J. K. Reid, ACM Trans. Math. Softw. 9, 302 (1983). Atoms are eliminated in groups; the rows that a group
couples to form a dense front. Inside a front blocks of columns are eliminated whole: the diagonal block is
diagonalised, A_pp = U diag(d) U^dagger, so that pivoting within a block is as good as it can be and the signs of d are
the inertia.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.linalg.symbolic import Factorisation, Front, Solve

BLOCK = 128
"""Columns eliminated together."""

LATER_BLOCK = 512
"""Columns of a Schur complement updated together."""

NARROW = 4
"""Right-hand sides up to which column by column is faster: reading L once per column beats copying it for a product."""

TINY = 1e-14
"""Eigenvalues of a diagonal block below this share of its largest are moved there."""


@dataclass
class Panel:
    """A block of columns of a front, from the diagonal downwards; L after its elimination.

    :param begin: first of its places in the front's rows.
    :param width: number of columns.
    :param lower: entries, shape (n_rows - begin, width) before the elimination, (n_rows - begin - width, width) after.
    :param scale: |d|^(-1/2) U^dagger of an eliminated block, shape (width, width).
    :param signs: of d, shape (width,).
    """

    begin: int
    width: int
    lower: NDArray[Any]
    scale: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))
    signs: NDArray[Any] = field(default_factory=lambda: np.zeros(0))

    @property
    def end(self) -> int:
        """First place after the block."""
        return self.begin + self.width


def peak_bytes(fronts: list[Front], *, complex_values: bool) -> int:
    """Memory at the peak of a factorisation in double precision: factors, the front in work, parts that wait."""
    factors = waiting = peak = 0
    pending = [0] * len(fronts)
    for n, front in enumerate(fronts):
        own, total = front.n_own, len(front.rows)
        later = (total - own) * (total - own + LATER_BLOCK) // 2
        made = own * total - own * own // 2 + own * BLOCK
        peak = max(peak, factors + waiting + made + later + 2 * total * BLOCK)
        waiting += (later if front.parent >= 0 else 0) - pending[n]
        if front.parent >= 0:
            pending[front.parent] += later
        factors += made
    return peak * (16 if complex_values else 8)


def factorise(
    fronts: list[Front], indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], *, single: bool = False
) -> Factorisation:
    """Factorise a Hermitian matrix given by its full, sorted CSR pattern and entries.

    :param single: keep the factors in single precision, half the memory; solutions are then refined in double.
    """
    dtype = data.dtype
    if single:
        dtype = np.dtype(np.complex64 if np.iscomplexobj(data) else np.float32)
    place = np.full(len(indptr) - 1, -1, dtype=np.int64)
    waiting: dict[int, list[tuple[NDArray[np.int64], list[Panel]]]] = {}
    factors: list[list[Panel]] = []
    negative = n_values = 0
    for n, front in enumerate(fronts):
        own = _empty_panels(0, front.n_own, len(front.rows), BLOCK, dtype)
        later = _empty_panels(front.n_own, len(front.rows), len(front.rows), LATER_BLOCK, dtype)
        _scatter(front, indptr, indices, data, place, own)
        children = waiting.pop(n, [])
        while children:
            _extend_add([*own, *later], *children.pop())
        for number, panel in enumerate(own):
            _update(panel, own[:number])
            _eliminate(panel)
            negative += int((panel.signs < 0).sum())
            n_values += panel.lower.size + panel.scale.size
        if front.parent >= 0:
            for panel in later:
                _update(panel, own)
            waiting.setdefault(front.parent, []).append((front.place_in_parent, later))
        factors.append(own)

    def solve(right: NDArray[Any]) -> NDArray[Any]:
        return _backward(fronts, factors, _forward(fronts, factors, right.astype(dtype)))

    def half_solve(right: NDArray[Any]) -> NDArray[Any]:
        return _backward(fronts, factors, right.astype(dtype))

    if single:
        matrix = sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1,) * 2, copy=False)
        return Factorisation(_refined(solve, matrix), half_solve, negative, n_values * dtype.itemsize)
    return Factorisation(solve, half_solve, negative, n_values * dtype.itemsize)


def _scatter(
    front: Front,
    indptr: NDArray[Any],
    indices: NDArray[Any],
    data: NDArray[Any],
    place: NDArray[np.int64],
    panels: list[Panel],
) -> None:
    """Put the entries of A in the own columns of a front in their places.

    :param place: work space of -1, shape (n,).
    """
    place[front.rows] = np.arange(len(front.rows))
    for panel in panels:
        own = front.rows[panel.begin : panel.end]
        counts = indptr[own + 1] - indptr[own]
        starts = np.repeat(indptr[own] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        entries = np.arange(counts.sum()) + starts
        row = place[indices[entries]] - panel.begin
        kept = row >= 0
        column = np.repeat(np.arange(len(own)), counts)[kept]
        # A row of a Hermitian matrix is its conjugate column.
        panel.lower[row[kept], column] = data[entries[kept]].conj()
    place[front.rows] = -1


def _forward(fronts: list[Front], factors: list[list[Panel]], x: NDArray[Any]) -> NDArray[Any]:
    """D^-1 L^-1 x in place, front by front."""
    shape = x.shape
    x = x.reshape(len(x), -1)
    product = _product(x)
    for front, panels in zip(fronts, factors, strict=True):
        part = x[front.rows]
        for panel in panels:
            y = panel.scale @ part[panel.begin : panel.end]
            part[panel.end :] -= product(panel.lower, y, 0)
            part[panel.begin : panel.end] = panel.signs[:, None] * y
        x[front.rows] = part
    return x.reshape(shape)


def _backward(fronts: list[Front], factors: list[list[Panel]], x: NDArray[Any]) -> NDArray[Any]:
    """L^-dagger x in place, front by front from the last."""
    shape = x.shape
    x = x.reshape(len(x), -1)
    product = _product(x)
    for front, panels in zip(reversed(fronts), reversed(factors), strict=True):
        part = x[front.rows]
        for panel in reversed(panels):
            y = part[panel.begin : panel.end] - product(panel.lower, part[panel.end :], 2)
            part[panel.begin : panel.end] = panel.scale.conj().T @ y
        x[front.rows[: front.n_own]] = part[: front.n_own]
    return x.reshape(shape)


def _product(x: NDArray[Any]) -> Callable[[NDArray[Any], NDArray[Any], int], NDArray[Any]]:
    """(L, y, 0 or 2) -> L y or L^dagger y, for right-hand sides y as many as those of x, by the faster routine."""
    gemm, gemv = la.get_blas_funcs(("gemm", "gemv"), (x,))
    if x.shape[1] > NARROW:
        return lambda lower, y, trans: gemm(1.0, lower, y, trans_a=trans)

    def by_columns(lower: NDArray[Any], y: NDArray[Any], trans: int) -> NDArray[Any]:
        result = np.empty((lower.shape[1 if trans else 0], y.shape[1]), dtype=lower.dtype)
        if lower.size:
            for column in range(y.shape[1]):
                result[:, column] = gemv(1.0, lower, y[:, column], trans=trans)
        else:
            result[:] = 0.0
        return result

    return by_columns


def _refined(solve: Solve, matrix: sp.csr_matrix) -> Solve:
    """Solutions of a factorisation in single precision, refined with residuals in double until these stop shrinking."""

    def refined(right: NDArray[Any]) -> NDArray[Any]:
        x = solve(right).astype(matrix.dtype)
        remainder = right - matrix @ x
        size = np.linalg.norm(remainder)
        for _ in range(10):
            better = x + solve(remainder)
            remainder = right - matrix @ better
            before, size = size, np.linalg.norm(remainder)
            if size >= before:
                break
            x = better
            if size <= 1e-10 * np.linalg.norm(right):
                break
        return x

    return refined


def _empty_panels(begin: int, end: int, n_rows: int, width: int, dtype: np.dtype[Any]) -> list[Panel]:
    starts = range(begin, end, width)
    widths = [min(width, end - start) for start in starts]
    return [
        Panel(start, w, np.zeros((n_rows - start, w), dtype=dtype, order="F"))
        for start, w in zip(starts, widths, strict=True)
    ]


def _extend_add(panels: list[Panel], where: NDArray[np.int64], schur: list[Panel]) -> None:
    """Add a child's Schur complement to the front.

    :param where: place in this front of each later row of the child, ascending, so that lower stays lower.
    """
    offset = schur[0].begin if schur else 0
    for source in schur:
        rows = where[source.begin - offset :]
        columns = rows[: source.width]
        for target in panels:
            low, high = np.searchsorted(columns, [target.begin, target.end])
            if low < high:
                places = np.ix_(rows[low:] - target.begin, columns[low:high] - target.begin)
                target.lower[places] += source.lower[low:, low:high]


def _update(panel: Panel, eliminated: list[Panel]) -> None:
    """Subtract L D L^dagger of the eliminated columns of the same front."""
    if not eliminated:
        return
    (gemm,) = la.get_blas_funcs(("gemm",), (panel.lower,))
    for before in eliminated:
        below = before.lower[panel.begin - before.end :]
        scaled = below[: panel.width] * before.signs
        panel.lower = gemm(-1.0, below, scaled, 1.0, panel.lower, trans_b=2, overwrite_c=1)


def _eliminate(panel: Panel) -> None:
    """Diagonalise the block on the diagonal and turn the rest into L."""
    d, u = la.eigh(panel.lower[: panel.width], check_finite=False)
    smallest = TINY * np.abs(d).max()
    d = np.where(np.abs(d) < smallest, np.copysign(smallest, d), d)
    panel.signs = np.sign(d)
    panel.scale = np.ascontiguousarray((u / np.sqrt(np.abs(d))).conj().T)
    # Columns stay contiguous, as BLAS wants them.
    panel.lower = ((panel.scale.conj().T * panel.signs).T @ panel.lower[panel.width :].T).T
