"""Prediction of large structures with a part of the edges in memory at a time, exactly as all at once.

Between its passes a network needs from all edges only sums: the messages at each atom and the means of its
normalisation. So nothing but the edges' features is kept for all of them, and their rotations where memory allows.
Several processes share the edges in the same way: each works on its own, and after each pass the sums of all are added
up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from aiida_deeph.engine.domain.neighbours import species_of
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep, Tensors
from aiida_deeph.engine.prediction.trust import Trust
from aiida_deeph.engine.system_torch import TorchRanks

T = TypeVar("T")

EDGES_IN_CACHE = 4096
"""Edges whose features stay in a processor's cache: larger chunks are slower on a CPU, smaller ones too."""
LARGEST_KEPT = 2 * 2**30
"""What a network makes for all edges (their rotations) is kept up to so many bytes, else made again in every pass."""


def predict_entries(
    network: Network,
    structure: Structure,
    atom_pairs: NDArray[np.int64],
    description: ModelDescription,
    *,
    edges_per_chunk: int = 20_000,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: bool = False,
    ranks: TorchRanks | None = None,
    trust: Trust | None = None,
) -> NDArray[Any]:
    """Entries of H in eV for the given pairs, in the order of BlockSparseMatrix, float32 or float64 or complex.

    Both directions of a pair are as the network gives them, also where it averages them in training.

    :param network: of `description`, on `device`, of type `dtype`.
    :param structure: of a collinear magnet both channels, see `domain.channels`.
    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    :param edges_per_chunk: most edges that are worked on at a time; the result depends on it only by rounding.
    :param progress: show a bar on stderr.
    :param ranks: processes that predict this structure together; each gives its own share of the pairs, every pair in
        one share, and gets the entries of that share.
    :param trust: of these pairs, filled in where the network knows.
    :raises InputError: an element is unknown to the model.
    :raises DataError: two atoms lie at one place.
    """
    atom_pairs = np.ascontiguousarray(atom_pairs, dtype=np.int64)
    order = np.argsort(atom_pairs[:, 3], kind="stable")
    basis, spin = description.network_basis, description.network_spin
    rows = basis.orbitals_per_atom(structure.symbols) * spin.multiplicity
    sizes = rows[atom_pairs[:, 3]] * rows[atom_pairs[:, 4]]
    boundaries = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    kind = torch.empty(0, dtype=dtype if spin.multiplicity == 1 else dtype.to_complex()).numpy().dtype
    entries = np.zeros(boundaries[-1], dtype=kind)
    with torch.inference_mode(), network.fixed_weights(), _progress(progress) as bar:
        limit = EDGES_IN_CACHE if torch.device(device).type == "cpu" else edges_per_chunk
        step = max(1, min(edges_per_chunk, limit))
        sweep = InParts(
            structure, network.layout.basis.elements, atom_pairs[order], step, dtype, device, ranks or TorchRanks(), bar
        )
        for output in network.passes(sweep):
            sweep.write(output, entries, order, boundaries, trust)
    return entries


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as bar:
        yield bar


@dataclass(frozen=True)
class PartGraph:
    """The fields of a graph that are known of some of its edges, see `graph.build.HamiltonianGraph`."""

    species: Tensor
    edge_index: Tensor
    edge_vec: Tensor
    loops: Tensor

    def __contains__(self, field: str) -> bool:
        return field in self.__dataclass_fields__


class InParts(Sweep):
    """The edges of one structure, or a process's share of them, some at a time.

    :param elements: element symbols in the order of the basis.
    :param pairs: rows (R1, R2, R3, i, j) sorted by i, shape (n_pairs, 5).
    :param step: edges of a part.
    :raises DataError: two atoms lie at one place.
    """

    def __init__(
        self,
        structure: Structure,
        elements: tuple[str, ...],
        pairs: NDArray[np.int64],
        step: int,
        dtype: torch.dtype,
        device: torch.device | str,
        ranks: TorchRanks,
        bar: Progress,
    ) -> None:
        self.structure, self.pairs, self.device, self.ranks, self.bar = structure, pairs, device, ranks, bar
        self.itemsize = torch.empty(0, dtype=dtype).element_size()
        self.names = species_of(structure, elements)
        self.species = torch.from_numpy(self.names).to(device)
        self.parts = [self._part(slice(n, min(n + step, len(pairs)))) for n in range(0, len(pairs), step)]

    def _part(self, rows: slice) -> Part:
        pairs = self.pairs[rows]
        vectors = self.structure.pair_vectors(pairs)
        is_loop = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
        short = (np.linalg.norm(vectors, axis=1) < 1e-6) & ~is_loop
        if short.any():
            where = f"pair {pairs[short][0].tolist()}"
            raise DataError("two atoms at one place", where=where, expected="distinct positions")
        atoms, ends = np.unique(pairs[:, 3:].T, return_inverse=True)
        fields = (self.names[atoms], ends.reshape(2, -1), vectors, np.flatnonzero(is_loop))
        graph = PartGraph(*(torch.from_numpy(field).to(self.device) for field in fields))
        return Part(graph, torch.from_numpy(atoms).to(self.device), rows)

    def each(self, what: str) -> Iterator[Part]:
        """All parts, with a bar."""
        task = self.bar.add_task(what, total=len(self.pairs))
        for part in self.parts:
            yield part
            self.bar.advance(task, part.rows.stop - part.rows.start)
        self.bar.remove_task(task)

    def once(self, make: Callable[[Part], T], floats_per_edge: int | None = None) -> Callable[[Part], T]:
        """Kept for all parts if that takes no more than `LARGEST_KEPT`, else for the part that was asked for last."""
        whole = floats_per_edge is not None and len(self.pairs) * floats_per_edge * self.itemsize <= LARGEST_KEPT
        made: dict[int, T] = {}

        def get(part: Part) -> T:
            if part.rows.start not in made:
                if not whole:
                    made.clear()
                made[part.rows.start] = make(part)
            return made[part.rows.start]

        return get

    def sum_at_atoms(self, what: str, values: Callable[[Part], Tensors]) -> Tensors:
        """Part by part, then over all processes."""
        totals: Tensors = []
        for part in self.each(what):
            found = values(part)
            totals = totals or [value.new_zeros(len(self.species), *value.shape[1:]) for value in found]
            for total, value in zip(totals, found, strict=True):
                total.index_add_(0, part.atoms, value)
        self.ranks.add(totals)
        return totals

    def on_edges(
        self,
        what: str,
        values: Callable[[Part], Tensors],
        sums: Callable[[Part, Tensors], Tensors],
        finish: Callable[[Part, Tensors, Tensors | None], Tensors],
    ) -> Callable[[Part], Tensors]:
        """First values are kept for all edges, and give way to the final ones as these are asked for."""
        kept: Tensors = []
        totals: Tensors = []
        for part in self.each(what):
            found = values(part)
            kept = kept or [value.new_empty(len(self.pairs), *value.shape[1:]) for value in found]
            for place, value in zip(kept, found, strict=True):
                place[part.rows] = value
            terms = sums(part, found)
            totals = [total + term for total, term in zip(totals, terms, strict=True)] if totals else terms
        self.ranks.add(totals)
        return _Finished(kept, totals, finish, {part.rows.start for part in self.parts})

    def write(
        self,
        output: Output,
        entries: NDArray[Any],
        order: NDArray[np.int64],
        boundaries: NDArray[np.int64],
        trust: Trust | None = None,
    ) -> None:
        """Fill in the entries that an output gives.

        :param entries: of the pairs as given, shape (n_entries,).
        :param order: place of each sorted pair among the pairs as given.
        :param boundaries: first entry of each pair as given.
        :param trust: of the pairs as given.
        """
        for part in self.each("Hamiltonian"):
            columns = output.columns(part).reshape(-1).cpu().numpy()
            pairs, places = self.pairs[part.rows], order[part.rows]
            index = output.layout.entry_index(self.names, pairs[:, 3:], np.arange(len(pairs)))
            lengths = boundaries[places + 1] - boundaries[places]
            first = np.concatenate([[0], np.cumsum(lengths)])[:-1]
            target = np.arange(len(index)) + np.repeat(boundaries[places] - first, lengths)
            known = index >= 0
            entries[target[known]] = columns[index[known]]
            if trust is not None and output.deviation is not None and output.outside is not None:
                trust.expected_error[places] = output.deviation(part).cpu().numpy()
                trust.outside[places] = output.outside(part).cpu().numpy()


class _Finished:
    """Final values on the edges: made when they are first asked for, in the place of the first values.

    :param left: first row of each part that is not yet final.
    """

    def __init__(
        self,
        kept: Tensors,
        totals: Tensors,
        finish: Callable[[Part, Tensors, Tensors | None], Tensors],
        left: set[int],
    ) -> None:
        self.kept, self.totals, self.left = kept, totals, left
        self.finish: Callable[[Part, Tensors, Tensors | None], Tensors] | None = finish

    def __call__(self, part: Part) -> Tensors:
        own = [entry[part.rows] for entry in self.kept]
        if self.finish is None or part.rows.start not in self.left:
            return own
        for entry, value in zip(own, self.finish(part, own, self.totals), strict=True):
            entry.copy_(value)
        self.left.remove(part.rows.start)
        if not self.left:
            self.finish = None  # and with it the values before
        return own
