"""Graphs: order of edges, labels, entries of the output, joining."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.build import attach_labels, build_graph
from aiida_deeph.engine.graph.layout import EntryLayout, JoinedLayout, Target, targets_of
from tests.engine.nn.systems import BASIS, CUTOFF, random_structure


def shuffled_pairs(structure: Structure, seed: int = 0) -> np.ndarray:
    """Pairs in no order at all."""
    return np.random.default_rng(seed).permutation(pairs_within(structure, CUTOFF))


def test_edges_are_sorted_by_source_and_refer_to_the_pairs() -> None:
    structure = random_structure()
    pairs = shuffled_pairs(structure)
    graph = build_graph(structure, pairs, BASIS.elements, lmax=2)
    source, target = graph.edge_index.numpy()
    assert (np.diff(source) >= 0).all()
    place = graph.edge_of_pair.numpy()
    assert np.array_equal(source[place], pairs[:, 3])
    assert np.array_equal(target[place], pairs[:, 4])
    assert np.allclose(graph.edge_vec.numpy()[place], structure.pair_vectors(pairs))
    is_loop = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
    assert sorted(graph.loops.tolist()) == sorted(place[is_loop].tolist())
    assert graph.species.tolist() == [BASIS.elements.index(symbol) for symbol in structure.symbols]


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_entry_index_covers_every_entry_once(spin: SpinMode) -> None:
    structure = random_structure()
    pairs = shuffled_pairs(structure)
    layout = EntryLayout.of(BASIS, spin)
    graph = build_graph(structure, pairs, BASIS.elements, lmax=1, layout=layout)
    rows = BASIS.orbitals_per_atom(structure.symbols) * spin.multiplicity
    matrix = BlockSparseMatrix.from_pairs(pairs, rows)
    assert graph.entry_index.shape == matrix.entries.shape
    assert len(set(graph.entry_index.tolist())) == len(matrix.entries)
    # Entry (a, b) of a block in a given spin block is the element of the target of its two shells.
    edge, column = np.divmod(graph.entry_index.numpy(), layout.n_columns)
    assert np.array_equal(edge, graph.edge_of_pair.numpy()[matrix.pair_of_entry])
    number = int(np.flatnonzero((pairs[:, 3] == 1) & (pairs[:, 4] == 0))[0])  # O -> C
    block = column[matrix.chunk_boundaries[number] : matrix.chunk_boundaries[number + 1]].reshape(
        matrix.chunk_shapes[number]
    )
    p, s = next(n for n, t in enumerate(layout.targets) if t.shells.get(("O", "C")) == (1, 1)), spin.multiplicity - 1
    first = layout.first_columns[p] + s * (s + 1 + s) * 3  # last spin block: dd, or the only one
    n_o, n_c = BASIS.n_orbitals("O"), BASIS.n_orbitals("C")
    assert block[s * n_o + 1 : s * n_o + 4, s * n_c + 1].tolist() == [first, first + 1, first + 2]


def test_labels_follow_the_pairs_in_any_order() -> None:
    structure = random_structure()
    pairs = shuffled_pairs(structure)
    matrix = BlockSparseMatrix.from_pairs(pairs, BASIS.orbitals_per_atom(structure.symbols))
    matrix = matrix.with_entries(np.random.default_rng(1).normal(size=matrix.entries.shape))
    graph = build_graph(structure, pairs, BASIS.elements, lmax=1)
    assert np.allclose(attach_labels(graph, matrix).label.numpy(), matrix.entries)
    other = matrix.selected(np.random.default_rng(2).permutation(len(matrix)))
    assert np.array_equal(attach_labels(graph, other, torch.float64).label.numpy(), matrix.entries)
    with pytest.raises(DataError, match="other atom pairs"):
        attach_labels(graph, matrix.selected(np.arange(len(matrix) - 1)))


def test_graphs_join_with_shifted_indices() -> None:
    layout = EntryLayout.of(BASIS, SpinMode.NONE)
    graphs = []
    for seed in range(3):
        structure = random_structure(seed, 3 + seed)
        graphs.append(build_graph(structure, shuffled_pairs(structure), BASIS.elements, lmax=1, layout=layout))
    batch = next(iter(DataLoader(graphs, batch_size=3)))
    assert isinstance(batch, Batch)
    n_edges = [graph.edge_index.shape[1] for graph in graphs]
    assert batch.edge_index.shape == (2, sum(n_edges))
    assert (batch.edge_index[0].diff() >= 0).all()
    first = n_edges[0]
    assert torch.equal(batch.loops[len(graphs[0].loops) :][: len(graphs[1].loops)], graphs[1].loops + first)
    n = len(graphs[0].entry_index)
    second = batch.entry_index[n : n + len(graphs[1].entry_index)]
    assert torch.equal(second, graphs[1].entry_index + first * layout.n_columns)
    assert batch.atom_pairs.shape == (sum(n_edges), 5)


def test_wrong_input_is_named() -> None:
    structure = random_structure()
    with pytest.raises(InputError, match=r"element unknown.*found O"):
        build_graph(structure, shuffled_pairs(structure), ["C"], lmax=1)
    with pytest.raises(InputError, match="wrong shape"):
        build_graph(structure, np.zeros((3, 4), dtype=np.int64), BASIS.elements, lmax=1)
    same = Structure(("C", "O"), np.zeros((2, 3)), np.eye(3) * 5)
    with pytest.raises(DataError, match="two atoms at one place"):
        build_graph(same, np.array([[0, 0, 0, 0, 1]]), BASIS.elements, lmax=1)


def test_targets_merge_shells_of_equal_rank() -> None:
    basis = OrbitalBasis({"H": (0, 0), "O": (0, 1, 0)})
    found = {(t.l1, t.l2, tuple(sorted(t.shells.items()))) for t in targets_of(basis)}
    # The second s of H is the second s of O, though p comes before it.
    expected = ((("H", "H"), (1, 1)), (("H", "O"), (1, 2)), (("O", "H"), (2, 1)), (("O", "O"), (2, 2)))
    assert (0, 0, expected) in found
    assert len(found) == 3 * 3


def test_layouts_refuse_targets_that_overlap_or_do_not_fit() -> None:
    targets = targets_of(BASIS)
    with pytest.raises(DataError, match="two targets"):
        EntryLayout(BASIS, SpinMode.NONE, (*targets, targets[0])).columns  # noqa: B018
    part = EntryLayout(BASIS, SpinMode.NONE, targets[1:])
    with pytest.raises(DataError, match="does not predict all"):
        part.require_complete()
    joined = JoinedLayout.join([part, EntryLayout(BASIS, SpinMode.NONE, targets[:1])])
    joined.require_complete()
    assert joined.n_columns == EntryLayout.of(BASIS, SpinMode.NONE).n_columns
    with pytest.raises(DataError, match="does not fit the basis"):
        Target.from_json({"C C": [0, 2], "O O": [0, 0]}, BASIS)
    with pytest.raises(DataError, match="does not fit the basis"):
        Target.from_json({"C C": [0, 7]}, BASIS)
