"""From a structure and its atom pairs to the graph that the networks read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import species_of
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.graph.wigner import edge_wigner


class HamiltonianGraph(Data):
    """A structure as a graph; graphs are joined by torch-geometric's DataLoader.

    | field | shape | what |
    |---|---|---|
    | species | (n_atoms,) | place of each atom's element in the basis |
    | edge_index | (2, n_edges) | atoms i (source) and j (target), sorted by source |
    | edge_vec | (n_edges, 3) | vector from i to j + R, Angstrom, float64 |
    | loops | (n_loops,) | edges from an atom to itself at R = 0 |
    | wigner | (n_edges, .) | rotations into the edge frames, see `graph.wigner.edge_wigner` |
    | edge_of_pair | (n_edges,) | edge that holds each atom pair as they were given |
    | atom_pairs | (n_edges, 5) | (R1, R2, R3, i, j) as they were given, atoms of this graph alone |
    | entry_index | (n_entries,) | place of each entry in the flattened output (n_edges, n_columns), given a layout |
    | label | (n_entries,) | matrix entries in eV, after `attach_labels` |
    | messages | (n_messages,) | edges that carry messages, for networks in which not all do |
    | partner | (n_entries,) | entry of the reverse pair that is the same in a Hermitian H, for networks that ask |
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key in ("loops", "edge_of_pair", "messages"):
            return self.edge_index.shape[1]
        if key == "entry_index":
            return self.edge_index.shape[1] * self.n_columns
        if key == "partner":
            return len(value)
        return self.num_nodes if key == "edge_index" else 0

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 1 if key == "edge_index" else 0


def build_graph(
    structure: Structure,
    atom_pairs: NDArray[np.int64],
    elements: Sequence[str],
    *,
    lmax: int,
    dtype: torch.dtype = torch.float32,
    layout: EntryLayout | None = None,
    wigner: bool = True,
) -> HamiltonianGraph:
    """The graph of a structure: one edge for each atom pair, no radius search.

    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    :param elements: element symbols in the order of the basis.
    :param lmax: largest l of the stored rotations; a network that needs more computes them itself.
    :param dtype: of the stored rotations; they are computed in float64.
    :param layout: of the model's output; without it the network finds the entries itself, at every call.
    :param wigner: store the rotations; without them they are computed at every call.
    :raises InputError: an element is missing from `elements`, or the pairs have a wrong shape.
    """
    atom_pairs = np.ascontiguousarray(atom_pairs, dtype=np.int64)
    if atom_pairs.ndim != 2 or atom_pairs.shape[1] != 5:
        raise InputError("atom pairs have a wrong shape", found=atom_pairs.shape, expected="(n_pairs, 5)")
    species = species_of(structure, elements)
    order = np.argsort(atom_pairs[:, 3], kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    pairs = atom_pairs[order]
    vectors = torch.from_numpy(structure.pair_vectors(pairs))
    is_loop = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
    short = (vectors.norm(dim=1).numpy() < 1e-6) & ~is_loop
    if short.any():
        raise DataError(
            "two atoms at one place", where=f"pair {pairs[short][0].tolist()}", expected="distinct positions"
        )
    graph = HamiltonianGraph(
        species=torch.from_numpy(species),
        edge_index=torch.from_numpy(np.ascontiguousarray(pairs[:, 3:].T)),
        edge_vec=vectors,
        loops=torch.from_numpy(np.flatnonzero(is_loop)),
        edge_of_pair=torch.from_numpy(place),
        atom_pairs=torch.from_numpy(atom_pairs),
        num_nodes=len(structure),
        n_atoms=len(structure),
    )
    if wigner:
        graph.wigner = edge_wigner(vectors, lmax, dtype)
    if layout is not None:
        graph.n_columns = layout.n_columns
        graph.entry_index = torch.from_numpy(layout.entry_index(species, atom_pairs[:, 3:], place))
    return graph


def attach_labels(
    graph: HamiltonianGraph, hamiltonian: BlockSparseMatrix, dtype: torch.dtype = torch.float32
) -> HamiltonianGraph:
    """Set `graph.label`, shape (n_entries,), eV: the entries of H in the order of the graph's atom pairs.

    :param hamiltonian: on exactly the graph's atom pairs, in any order.
    :param dtype: real type of the labels; a complex Hamiltonian gets the complex type of the same precision.
    :raises DataError: the pairs differ from those of the graph.
    """
    pairs = graph.atom_pairs.numpy()
    if not np.array_equal(pairs, hamiltonian.atom_pairs):
        both = [np.lexsort(p.T[::-1]) for p in (pairs, hamiltonian.atom_pairs)]
        if pairs.shape != hamiltonian.atom_pairs.shape or not np.array_equal(
            pairs[both[0]], hamiltonian.atom_pairs[both[1]]
        ):
            raise DataError(
                "labels on other atom pairs than the graph",
                found=f"{len(hamiltonian)} pairs",
                expected=f"the {len(pairs)} pairs of the graph",
                remedy="bring the Hamiltonian to the graph's pairs with aligned_to",
            )
        rows = np.empty(len(pairs), dtype=np.int64)
        rows[both[0]] = both[1]
        hamiltonian = hamiltonian.selected(rows)
    label = torch.from_numpy(hamiltonian.entries)
    graph.label = label.to(dtype.to_complex() if label.is_complex() else dtype)
    return graph
