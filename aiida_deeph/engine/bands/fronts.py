"""Symbolic factorisation: which rows each front eliminates and what it couples them to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.bands.dissection import atom_graph, nested_dissection


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
