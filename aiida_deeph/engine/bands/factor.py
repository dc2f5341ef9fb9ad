"""Factorisations A = L D L^dagger of sparse Hermitian matrices of one pattern, by whichever library there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError


@dataclass(frozen=True)
class Factorisation:
    """A factorised matrix.

    :param solve: B -> A^-1 B, shapes (n,) or (n, n_right).
    :param n_negative: negative eigenvalues of A (Sylvester's law of inertia: the signs of D); None if unknown.
    :param n_bytes: memory of the factors.
    """

    solve: Callable[[NDArray[Any]], NDArray[Any]]
    n_negative: int | None
    n_bytes: int


class Factoriser(Protocol):
    """Factorises one matrix after the other, all on the same pattern."""

    name: str

    def analyse(self) -> int:
        """Prepare the pattern; return the bytes that a factorisation will take at its peak."""

    def factor(self, data: NDArray[Any]) -> Factorisation:
        """Factorise the matrix with these entries; the factorisation before it becomes invalid."""

    def close(self) -> None:
        """Give memory back."""


class SuperluFactoriser:
    """SuperLU with a nested dissection of the atoms as its ordering and pivots on the diagonal.

    :param indptr: of the full CSR pattern, sorted, shape (n + 1,).
    :param indices: of the full CSR pattern, shape (n_nonzero,).
    :param atom_of_row: atom of each row, ascending, shape (n,).
    """

    name = "superlu"

    def __init__(
        self, indptr: NDArray[Any], indices: NDArray[Any], atom_of_row: NDArray[np.int64], *, complex_values: bool
    ) -> None:
        n = len(indptr) - 1
        self._itemsize = 16 if complex_values else 8
        self._complex = complex_values
        graph = atom_graph(indptr, indices, atom_of_row)
        atom_order = nested_dissection(graph)
        rows_per_atom = np.bincount(atom_of_row, minlength=len(graph))
        self._n_factor = factor_size(graph, atom_order, rows_per_atom)
        place = np.empty(len(graph), dtype=np.int64)
        place[atom_order] = np.arange(len(graph))
        self._order = np.argsort(place[atom_of_row], kind="stable")
        # Where each entry of the reordered matrix comes from, found once by reordering their numbers.
        numbers = sp.csr_matrix((np.arange(len(indices)), indices, indptr), shape=(n, n))
        moved = numbers[self._order][:, self._order].tocsr()
        moved.sort_indices()
        self._source, self._indices, self._indptr = moved.data, moved.indices, moved.indptr

    def analyse(self) -> int:
        """Bytes of L and U (value and row index of each entry) and of the reordered matrix."""
        return (2 * self._n_factor + len(self._source)) * (self._itemsize + 4)

    def factor(self, data: NDArray[Any]) -> Factorisation:
        """Factorise the matrix with these entries of the full pattern.

        :raises DataError: memory ran out, or a pivot is exactly zero.
        """
        n = len(self._indptr) - 1
        # The rows of A are the conjugate columns of a Hermitian A.
        matrix = sp.csc_matrix((data[self._source].conj(), self._indices, self._indptr), shape=(n, n))
        if self._complex:
            matrix = matrix.astype(np.complex128)
        try:
            factors = spla.splu(
                matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True, "Equil": False}
            )
        except (RuntimeError, MemoryError) as error:
            raise DataError("SuperLU failed", found=str(error) or type(error).__name__) from None
        order = self._order

        def solve(right: NDArray[Any]) -> NDArray[Any]:
            solution = np.empty(right.shape, dtype=matrix.dtype)
            solution[order] = factors.solve(np.asarray(right[order], dtype=matrix.dtype))
            return solution

        # With pivots on the diagonal U = D L^dagger, so the signs of its diagonal are the inertia.
        on_diagonal = np.array_equal(factors.perm_r, factors.perm_c)
        negative = int((factors.U.diagonal().real < 0).sum()) if on_diagonal else None
        return Factorisation(solve, negative, factors.nnz * (self._itemsize + 4))

    def close(self) -> None:
        """Nothing is held."""


def atom_graph(indptr: NDArray[Any], indices: NDArray[Any], atom_of_row: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Neighbours of each atom in a pattern whose rows come atom by atom, itself left out."""
    first_rows = np.searchsorted(atom_of_row, np.arange(atom_of_row[-1] + 1))
    graph = []
    for atom, row in enumerate(first_rows):
        neighbours = np.unique(atom_of_row[indices[indptr[row] : indptr[row + 1]]])
        graph.append(neighbours[neighbours != atom])
    return graph


def nested_dissection(graph: list[NDArray[np.int64]], leaf: int = 24) -> NDArray[np.int64]:
    """Order of elimination: both halves of the graph first, the atoms that separate them last, recursively.

    Halves are found by distance from a far end of the graph (A. George, J. Liu, SIAM J. Numer. Anal. 15, 1053 (1978)).

    :param graph: neighbours of each node.
    :param leaf: parts up to this size are not divided.
    :return: nodes in the order of elimination, shape (n_nodes,).
    """
    member = np.zeros(len(graph), dtype=bool)
    order: list[NDArray[np.int64]] = []
    stack: list[tuple[str, NDArray[np.int64]]] = [("part", np.arange(len(graph)))]
    while stack:
        kind, nodes = stack.pop()
        if kind == "done" or len(nodes) <= leaf:
            order.append(nodes)
            continue
        member[nodes] = True
        near, far, separator = _divide(graph, nodes, member)
        member[nodes] = False
        # Last in, first out: the separator is written after both halves.
        stack.append(("done", separator))
        if len(near):
            stack.append(("part", near))
        if len(far):
            stack.append(("part", far))
    return np.concatenate(order)


def _divide(
    graph: list[NDArray[np.int64]], nodes: NDArray[np.int64], member: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    level = np.full(len(graph), -1, dtype=np.int64)
    visited = _levels(graph, nodes[0], member, level)
    if len(visited) < len(nodes):  # not connected: nothing separates the parts
        rest = nodes[level[nodes] < 0]
        return visited, rest, np.zeros(0, dtype=np.int64)
    level[nodes] = -1
    visited = _levels(graph, visited[-1], member, level)
    half = visited[: len(visited) // 2]
    inside = np.zeros(len(graph), dtype=bool)
    inside[half] = True
    other = visited[len(visited) // 2 :]
    boundary = [
        np.array([v for v in side if (member[graph[v]] & (inside[graph[v]] != inside[v])).any()], dtype=np.int64)
        for side in (half, other)
    ]
    separator = min(boundary, key=len)
    return np.setdiff1d(half, separator), np.setdiff1d(other, separator), separator


def _levels(
    graph: list[NDArray[np.int64]], start: np.int64, member: NDArray[np.bool_], level: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Breadth-first search inside the members: nodes by distance from the start; `level` is filled in."""
    front = np.array([start])
    level[start] = 0
    visited = [front]
    while len(front):
        reached = np.unique(np.concatenate([graph[v] for v in front]))
        reached = reached[member[reached] & (level[reached] < 0)]
        level[reached] = level[front[0]] + 1
        visited.append(reached)
        front = reached
    return np.concatenate(visited)


def factor_size(graph: list[NDArray[np.int64]], order: NDArray[np.int64], rows_per_atom: NDArray[np.int64]) -> int:
    """Entries of L: symbolic elimination of the atoms, sets of atoms being the bits of one integer each."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    weights = {int(count): 0 for count in np.unique(rows_per_atom)}
    for n, atom in enumerate(order):
        weights[int(rows_per_atom[atom])] |= 1 << n
    pending = [0] * len(order)
    total = 0
    for n, atom in enumerate(order):
        later = pending[n]
        for neighbour in place[graph[atom]]:
            if neighbour > n:
                later |= 1 << int(neighbour)
        later &= ~(1 << n)
        rows = int(rows_per_atom[atom])
        below = sum(count * (later & mask).bit_count() for count, mask in weights.items())
        total += rows * (rows + 1) // 2 + rows * below
        pending[n] = 0
        if later:
            parent = (later & -later).bit_length() - 1
            pending[parent] |= later
    return total
