"""Order in which atoms are eliminated: nested dissection of the graph of atoms whose orbitals couple."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray

Nodes = NDArray[np.int64]


def atom_graph(
    indptr: NDArray[np.integer], indices: NDArray[np.integer], atom_of_row: NDArray[np.int64]
) -> sp.csr_matrix:
    """Adjacency of the atoms in a pattern whose rows come atom by atom, without loops, shape (n_atoms, n_atoms)."""
    first_rows = np.searchsorted(atom_of_row, np.arange(atom_of_row[-1] + 1))
    rows, columns = [], []
    for atom, row in enumerate(first_rows):
        neighbours = atom_of_row[indices[indptr[row] : indptr[row + 1]]]
        neighbours = np.unique(neighbours[neighbours != atom])
        rows.append(np.full(len(neighbours), atom))
        columns.append(neighbours)
    row, column = np.concatenate(rows), np.concatenate(columns)
    n = len(first_rows)
    return sp.csr_matrix((np.ones(len(row), dtype=np.int8), (row, column)), shape=(n, n))


def nested_dissection(graph: sp.csr_matrix, leaf: int = 24) -> list[Nodes]:
    """Groups of atoms in the order of elimination: both parts of a divided group first, their separator after them.

    A. George, SIAM J. Numer. Anal. 10, 345 (1973); parts by spectral bisection.

    :param graph: symmetric adjacency, shape (n_atoms, n_atoms).
    :param leaf: groups up to this size are not divided.
    """
    groups: list[Nodes] = []
    stack: list[tuple[bool, Nodes]] = [(False, np.arange(graph.shape[0]))]
    while stack:
        finished, nodes = stack.pop()
        if finished or len(nodes) <= leaf:
            groups.append(nodes)
            continue
        inner = graph[nodes][:, nodes]
        n_parts, part = sp.csgraph.connected_components(inner, directed=False)
        if n_parts > 1:  # nothing separates them
            stack.extend((False, nodes[part == n]) for n in range(n_parts))
            continue
        separator, first, second = _divide(inner)
        if not len(first) or not len(second):  # all coupled with all
            groups.append(nodes)
            continue
        # Last in, first out: the separator is written after everything that the two parts become.
        stack.extend([(True, nodes[separator]), (False, nodes[first]), (False, nodes[second])])
    return groups


def _divide(graph: sp.csr_matrix) -> tuple[Nodes, Nodes, Nodes]:
    """The smallest separator along the order of the Fiedler vector, and the two parts it leaves."""
    order = np.argsort(_fiedler(graph), kind="stable")
    n = len(order)
    best = None
    for share in (0.4, 0.45, 0.5, 0.55, 0.6):
        low = np.zeros(n, dtype=bool)
        low[order[: max(1, int(share * n))]] = True
        for side in (low, ~low):  # the atoms of one side that touch the other
            touching = side & ((graph @ (~side).astype(np.int32)) > 0)
            if best is None or touching.sum() < best[0].sum():
                best = (touching, low)
    assert best is not None
    separator, low = best
    return np.flatnonzero(separator), np.flatnonzero(low & ~separator), np.flatnonzero(~low & ~separator)


def _fiedler(graph: sp.csr_matrix) -> NDArray[np.float64]:
    """Second eigenvector of the graph Laplacian: along it a connected graph is long."""
    laplacian = sp.csgraph.laplacian(graph.astype(np.float64)).tocsc()
    n = laplacian.shape[0]
    if n <= 400:
        return np.asarray(np.linalg.eigh(laplacian.toarray())[1][:, 1])
    shift = -1e-3 * laplacian.diagonal().max()
    start = np.random.default_rng(0).standard_normal(n)
    _, vectors = spla.eigsh(laplacian, k=2, sigma=shift, tol=1e-2, v0=start)
    return np.asarray(vectors[:, 1])
