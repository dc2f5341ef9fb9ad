"""How a network goes through the edges of a structure: all at once, or some at a time and on several processes.

A network writes its blocks once, as functions of a `Part` of the edges and as sums over all of them; a `Sweep` decides
how many edges a part holds. `Whole` holds all of a graph or batch, with gradients; large structures are predicted in
parts (`prediction.chunked`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from aiida_deeph.engine.graph.layout import EntryLayout

T = TypeVar("T")
Tensors = list[Tensor]


@dataclass(eq=False)
class Part:
    """Edges that are worked on at a time, with the atoms at their ends.

    :param graph: fields `species`, `edge_index`, `edge_vec`, `loops`, perhaps `wigner`, of these atoms and edges, see
        `graph.build.HamiltonianGraph`.
    :param atoms: place of these atoms among all, shape (n_part_atoms,); None if they are all.
    :param rows: place of these edges among all of this process.
    """

    graph: Any
    atoms: Tensor | None = None
    rows: slice = field(default_factory=lambda: slice(None))

    def of_atoms(self, x: Tensors) -> Tensors:
        """Features of the part's atoms among those of all atoms."""
        return x if self.atoms is None else [entry.index_select(0, self.atoms) for entry in x]


@dataclass(frozen=True)
class Output:
    """What the last pass of a network gives, or of one of several networks that share H among them.

    :param layout: of the columns.
    :param pairs: columns of a part's edges, shape (n_part_edges, n_columns), eV.
    :param atoms: columns of a part's loops, shape (n_part_loops, n_columns), which take the place of what `pairs` gives
        there: for networks with a head of its own for blocks on the atoms.
    :param deviation: expected error of the entries of each edge, shape (n_part_edges,), eV; None if it is not known.
    :param outside: whether nothing like it was in the training data, shape (n_part_edges,); given with `deviation`.
    :param information: for each kind of edges its name, features of its edges whose products are the covariances of
        their errors, shape (n, n_features), and the errors expected of them if everything was determined, shape (n,),
        eV: what labels would tell; None if it is not known.
    """

    layout: EntryLayout
    pairs: Callable[[Part], Tensor]
    atoms: Callable[[Part], Tensor] | None = None
    deviation: Callable[[Part], Tensor] | None = None
    outside: Callable[[Part], Tensor] | None = None
    information: Callable[[Part], Iterator[tuple[str, Tensor, Tensor]]] | None = None

    def columns(self, part: Part) -> Tensor:
        """Columns of all edges of a part, shape (n_part_edges, n_columns), eV."""
        columns = self.pairs(part)
        return columns if self.atoms is None else columns.index_copy(0, part.graph.loops, self.atoms(part))


class Sweep(ABC):
    """The edges of a structure, and what a network may ask about all of them.

    :param species: place of each atom's element in the basis, shape (n_atoms,).
    :param batch: graph of each atom, shape (n_atoms,); None if there is one graph.
    """

    species: Tensor
    batch: Tensor | None = None
    n_graphs: int = 1

    @abstractmethod
    def once(self, make: Callable[[Part], T], floats_per_edge: int | None = None) -> Callable[[Part], T]:
        """The same function, which remembers what it made where memory allows.

        :param floats_per_edge: size of what is made, if it is worth keeping from pass to pass; None keeps it only where
            all edges are one part.
        """

    @abstractmethod
    def sum_at_atoms(self, what: str, values: Callable[[Part], Tensors]) -> Tensors:
        """Sums over all edges at each atom, each of shape (n_atoms, ...).

        :param what: name of the pass.
        :param values: sums at a part's atoms over its edges, each of shape (n_part_atoms, ...).
        """

    @abstractmethod
    def on_edges(
        self,
        what: str,
        values: Callable[[Part], Tensors],
        sums: Callable[[Part, Tensors], Tensors],
        finish: Callable[[Part, Tensors, Tensors | None], Tensors],
    ) -> Callable[[Part], Tensors]:
        """Values on the edges that are finished with the help of sums over all edges.

        :param values: of a part's edges, each of shape (n_part_edges, ...).
        :param sums: what these values add to the sums.
        :param finish: the final values from the first ones and the sums over all edges; from None where the part is all
            of the edges. It keeps the shapes, and may be called later, once for each part.
        :returns: the final values of a part.
        """


class Whole(Sweep):
    """All edges of a graph or of a batch of graphs."""

    def __init__(self, graph: Any) -> None:
        self.part = Part(graph)
        self.species = graph.species
        if "batch" in graph and graph.num_graphs > 1:
            self.batch, self.n_graphs = graph.batch, graph.num_graphs

    def once(self, make: Callable[[Part], T], floats_per_edge: int | None = None) -> Callable[[Part], T]:
        """Made at the first call."""
        made: list[T] = []

        def get(part: Part) -> T:
            if not made:
                made.append(make(part))
            return made[0]

        return get

    def sum_at_atoms(self, what: str, values: Callable[[Part], Tensors]) -> Tensors:
        """The sums over the only part."""
        return values(self.part)

    def on_edges(
        self,
        what: str,
        values: Callable[[Part], Tensors],
        sums: Callable[[Part, Tensors], Tensors],
        finish: Callable[[Part, Tensors, Tensors | None], Tensors],
    ) -> Callable[[Part], Tensors]:
        """Finished at once."""
        final = finish(self.part, values(self.part), None)
        return lambda part: final
