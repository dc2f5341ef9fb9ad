"""Symbolic factorisation: which rows each front eliminates and what it couples them to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray


@dataclass(frozen=True)
class Front:
    """One group of rows to eliminate and what it couples to.

    :param rows: rows of A: the group's own first, then those eliminated later, in the order of elimination.
    :param n_own: how many are the group's own.
    :param parent: front that takes its Schur complement; -1 for a root.
    :param place_in_parent: place of each later row in the parent's rows, ascending.
    """

    rows: NDArray[np.int64]
    n_own: int
    parent: int
    place_in_parent: NDArray[np.int64]


def build_fronts(
    indptr: NDArray[Any], indices: NDArray[Any], atom_of_row: NDArray[np.int64], leaf: int = 24
) -> list[Front]:
    """Symbolic factorisation on the atoms, children before their parents."""
    graph = atom_graph(indptr, indices, atom_of_row)
    groups = nested_dissection(graph, leaf)
    n_atoms = graph.shape[0]
    order = np.concatenate(groups)
    place = np.empty(n_atoms, dtype=np.int64)
    place[order] = np.arange(n_atoms)
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])  # by place
    ends = np.cumsum([len(group) for group in groups])
    inherited: list[list[NDArray[np.int64]]] = [[] for _ in groups]
    later_places: list[NDArray[np.int64]] = []
    parents = []
    for n, group in enumerate(groups):
        coupled = place[np.concatenate([graph.indices[graph.indptr[a] : graph.indptr[a + 1]] for a in group])]
        later = np.unique(np.concatenate([coupled, *inherited[n]]))
        later = later[later >= ends[n]]
        inherited[n] = []
        parent = int(group_of[later[0]]) if len(later) else -1
        if parent >= 0:
            inherited[parent].append(later)
        later_places.append(later)
        parents.append(parent)

    first_row = np.searchsorted(atom_of_row, np.arange(n_atoms + 1))

    def rows_of(atoms: NDArray[np.int64]) -> NDArray[np.int64]:
        pieces = [np.arange(first_row[a], first_row[a + 1]) for a in atoms]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)

    own_rows = [rows_of(group) for group in groups]
    later_rows = [rows_of(order[later]) for later in later_places]
    spot = np.empty(len(atom_of_row), dtype=np.int64)
    fronts = []
    for own, later, parent in zip(own_rows, later_rows, parents, strict=True):
        places = np.zeros(0, dtype=np.int64)
        if parent >= 0:
            all_rows = np.concatenate([own_rows[parent], later_rows[parent]])
            spot[all_rows] = np.arange(len(all_rows))
            places = spot[later]
        fronts.append(Front(np.concatenate([own, later]), len(own), parent, places))
    return fronts


Solve = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Factorisation:
    """A = L D L^dagger.

    :param solve: B -> A^-1 B, shapes (n,) or (n, n_right).
    :param half_solve: Z -> L^-dagger |D|^(-1/2) Z: uncorrelated Z become vectors of covariance A^-1, if A is positive.
    :param n_negative: negative eigenvalues of A (Sylvester's law of inertia: the signs of D).
    :param n_bytes: memory of the factors.
    """

    solve: Solve
    half_solve: Solve
    n_negative: int
    n_bytes: int


Nodes = NDArray[np.int64]


def atom_graph(
    indptr: NDArray[np.integer[Any]], indices: NDArray[np.integer[Any]], atom_of_row: NDArray[np.int64]
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
