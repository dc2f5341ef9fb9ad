"""What every network is: described once from a configuration, fitted or trained, built again from its description."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.config import NetworkConfig, located, network_config
from aiida_deeph.engine.nn.equivariant.module import EngineModule
from aiida_deeph.engine.nn.hermitian import hermitian_average, partner_entries
from aiida_deeph.engine.nn.passes import Output, Sweep, Whole

if TYPE_CHECKING:
    from aiida_deeph.engine.graph.build import HamiltonianGraph

AddUp = Callable[[Iterable[Tensor]], None]
"""Replaces each tensor by its sum over all processes."""


class Network(EngineModule, ABC):
    """Maps a structure and its atom pairs to H; training, prediction and evaluation know no more of it than this.

    :cvar layout: targets and columns of the output.
    :cvar lmax: largest l of the rotations that its graphs hold.
    :cvar hermitian: average both directions of every pair.
    :cvar message_cutoff: atoms further apart send each other no messages, Angstrom; None: all pairs carry them.
    :cvar adam_eps: of the optimiser, as small as the gradients that are to count.
    :cvar all_pairs: blocks of all pairs of a molecule are predicted, whatever their distance.
    """

    layout: EntryLayout
    lmax: int = 0
    hermitian: bool = False
    message_cutoff: float | None = None
    all_pairs: bool = False
    adam_eps: float = 1e-8

    @classmethod
    @abstractmethod
    def describe(
        cls, config: Any, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """The architecture as JSON types: nothing is derived again when a model is loaded.

        :param config: of the class that the registry names.
        :param pair_cutoffs: largest distance of an atom pair in the training data by pair of elements, Angstrom.
        """

    @classmethod
    @abstractmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> Self:
        """Build from an architecture, with new random weights."""

    @abstractmethod
    def passes(self, sweep: Sweep) -> Iterator[Output]:
        """Go through the edges, and yield what gives the columns of each part of them.

        Several networks that share H yield one after the other; their layouts are the parts of `layout`.
        """

    def fit(self, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> dict[str, Any] | None:
        """Find what is found in closed form, once, before the first epoch.

        :param graphs: of this process's training members, with `label` and `entry_index`; made when they are asked for.
        :param add_up: called by all processes in the same order, with tensors of the same shapes.
        :returns: what the data settled of the architecture, by its keys.
        """
        return None

    def prepare(self, graph: Any) -> Any:
        """Store in the graph what the network needs of it besides the fields of every graph, and never changes."""
        if self.hermitian:
            graph.partner = partner_entries(self.layout, graph)
        if self.message_cutoff is not None:
            graph.messages = self.message_edges(graph)
        return graph

    def fixed_weights(self) -> AbstractContextManager[None]:
        """Within, what depends on the weights alone is made once: for many calls without gradients."""
        return nullcontext()

    def extras(self) -> dict[str, Any]:
        """What a model tells of its network besides the architecture (domain, posterior), JSON types by name."""
        return {}

    @property
    def trainable(self) -> bool:
        """Whether anything is left to be learnt in epochs after `fit`."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def forward(self, graph: Any) -> Tensor:
        """Entries of H in eV in the order of the graph's atom pairs, shape (n_entries,), complex with spin."""
        return self.averaged(self.raw_entries(graph), graph)

    def raw_entries(self, graph: Any) -> Tensor:
        """The same without the average of both directions."""
        return self.columns(graph).view(-1).index_select(0, entry_index(self.layout, graph))

    def averaged(self, entries: Tensor, graph: Any) -> Tensor:
        """Both directions of every pair averaged, if the network does so."""
        return hermitian_average(entries, partner_entries(self.layout, graph)) if self.hermitian else entries

    def columns(self, graph: Any) -> Tensor:
        """All outputs for every edge, shape (n_edges, n_columns), eV, complex with spin."""
        sweep = Whole(graph)
        columns = [output.columns(sweep.part) for output in self.passes(sweep)]
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)

    def uncertainty(self, graph: Any) -> Tensor | None:
        """Expected error of the entries of each edge, shape (n_edges,), eV, or None if it is not known."""
        sweep = Whole(graph)
        parts = [output.deviation and output.deviation(sweep.part) for output in self.passes(sweep)]
        known = [part.square() for part in parts if part is not None]
        return torch.stack(known).mean(dim=0).sqrt() if len(known) == len(parts) else None

    def message_edges(self, graph: Any) -> Tensor:
        """Edges that carry messages, shape (n_messages,): as stored in the graph, or found here."""
        if "messages" in graph:
            found: Tensor = graph.messages
            return found
        # What counts as within a range is the same as for pairs of atoms.
        return torch.nonzero(graph.edge_vec.norm(dim=1) <= (self.message_cutoff or 0) + 1e-6)[:, 0]

    def pairs(self, structure: Structure, pair_cutoffs: dict[str, float]) -> NDArray[np.int64]:
        """Atom pairs whose blocks are predicted, shape (n_pairs, 5).

        :param pair_cutoffs: of the training data, by pair of elements, Angstrom.
        :raises InputError: all pairs of a periodic structure.
        """
        if not self.all_pairs:
            return pairs_within(structure, pair_cutoffs)
        if any(structure.pbc):
            raise InputError(
                "periodic structure for a network of all pairs",
                where="structure, pbc",
                found=structure.pbc,
                expected="a molecule",
                remedy="set pbc to false, or take a network with a range",
            )
        extent = np.ptp(structure.positions, axis=0) if len(structure) else np.zeros(3)
        return pairs_within(structure, float(np.linalg.norm(extent)))


def entry_index(layout: EntryLayout, graph: Any) -> Tensor:
    """Place of each matrix entry in the flattened columns, from the graph or, if it was built without, found here."""
    if "entry_index" in graph:
        index: Tensor = graph.entry_index
        return index
    ends = graph.edge_index.T[graph.edge_of_pair]
    found = layout.entry_index(graph.species.cpu().numpy(), ends.cpu().numpy(), graph.edge_of_pair.cpu().numpy())
    return torch.from_numpy(found).to(graph.species.device)


def get_network(name: str) -> type[Network]:
    """The class of a network.

    :raises InputError: no such network.
    """
    network: type[Network] = located(network_config(name).implementation)
    return network


def describe_network(
    config: NetworkConfig,
    basis: OrbitalBasis,
    spin: SpinMode,
    pair_cutoffs: dict[str, float],
    kinds: tuple[str, ...] = (),
) -> ModelDescription:
    """A new model's description with its architecture resolved.

    :param pair_cutoffs: largest distance of an atom pair in the training data by pair of elements, Angstrom.
    :param kinds: of the atoms of collinear magnets, see `domain.channels`.
    :raises InputError: collinear spin without kinds.
    """
    if spin is SpinMode.COLLINEAR and not kinds:
        raise InputError(
            "collinear data without moments cannot be learnt",
            where="dataset, spin",
            found=spin.value,
            expected="moments.json in each member, which tells magnetic states apart",
            remedy="preprocess the labels again, or write moments.json beside info.json",
        )
    description = ModelDescription(
        network=config.name,
        architecture={},
        basis=dict(basis.shells),
        spin=spin,
        kinds=kinds,
        pair_cutoffs=pair_cutoffs,
    )
    architecture = get_network(config.name).describe(
        config, description.network_basis, description.network_spin, pair_cutoffs
    )
    return description.model_copy(update={"architecture": architecture})


def build_network(description: ModelDescription) -> Network:
    """The network of a description, with new random weights."""
    return get_network(description.network).from_architecture(
        description.architecture, description.network_basis, description.network_spin
    )


def build_model_graph(
    network: Network,
    structure: Structure,
    atom_pairs: NDArray[np.int64],
    *,
    dtype: torch.dtype = torch.float32,
    wigner: bool = True,
) -> HamiltonianGraph:
    """The graph of a structure with everything precomputed that this network needs.

    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    """
    # Imported here: torch-geometric takes seconds and 0.1 GiB, and predictions need no whole graph.
    from aiida_deeph.engine.graph.build import build_graph

    layout = network.layout
    return build_graph(
        structure, atom_pairs, layout.basis.elements, lmax=network.lmax, dtype=dtype, layout=layout, wigner=wigner
    )
