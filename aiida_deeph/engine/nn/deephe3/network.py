"""DeepH-E3 (Gong et al., Nat. Commun. 14, 2848 (2023)): message passing between nodes and edges, then H per edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.layout import EntryLayout, JoinedLayout
from aiida_deeph.engine.graph.wigner import wigner_size
from aiida_deeph.engine.nn.deephe3.blocks import EdgeUpdate, NodeUpdate
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config
from aiida_deeph.engine.nn.deephe3.head import HamiltonianHead
from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.frames import Edges, Frames
from aiida_deeph.engine.nn.equivariant.irreps import Entry, Irrep, Irreps, reachable, spherical_irreps
from aiida_deeph.engine.nn.equivariant.linear import EquivariantLinear, TypeGroups
from aiida_deeph.engine.nn.equivariant.module import Modules
from aiida_deeph.engine.nn.equivariant.radial import GaussianBasis
from aiida_deeph.engine.nn.equivariant.wigner_eckart import components
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep, Tensors

EMBEDDING_END = 6.0
"""Centre of the last Gaussian of the first edge features, Angstrom: fixed in the reference."""


class Architecture(Config):
    """Everything from which the network is built; nothing is derived again when a model is loaded.

    :param irreps_embed: scalars of the nodes and of the edges before the first block.
    :param irreps_mid_node: features of the nodes between blocks; `irreps_mid_edge` those of the edges.
    :param irreps_post_node: of the nodes after the last block; `irreps_post_edge` those of the edges.
    :param radial_end: centre of the last Gaussian of the radial basis, Angstrom.
    :param path_normalization: of weights in products and linear maps: `path` is that of e3nn 0.3 and of the published
        models, `element` that of later versions.
    :param message_cutoff: atoms further apart send each other no messages, Angstrom; None: all pairs carry them.
    :param hermitian: average both directions of every pair.
    :param targets: pairs of shells by pair of elements, in the order of the output.
    """

    irreps_embed_node: str
    irreps_embed_edge: str
    irreps_mid_node: str
    irreps_mid_edge: str
    irreps_post_node: str
    irreps_post_edge: str
    lmax: int
    n_blocks: int = Field(ge=1)
    n_gaussians: int = Field(default=128, ge=2)
    radial_end: float = Field(gt=0)
    embedding_end: float = EMBEDDING_END
    message_cutoff: float | None = Field(default=None, gt=0)
    ignore_parity: bool = False
    path_normalization: Literal["path", "element"] = "path"
    hermitian: bool = False
    time_reversal: bool = False
    targets: tuple[dict[str, tuple[int, int]], ...]


def output_irreps(layout: EntryLayout, ignore_parity: bool) -> Irreps:
    """Irreps of all targets one after the other; with spin the real parts of all, then the imaginary parts of all."""
    spinful = layout.n_spin_blocks > 1
    halves: list[list[Entry]] = [[], []]
    for target in layout.targets:
        for c in components(target.l1, target.l2, spinful, ignore_parity):
            halves[c.half].append(Entry(1, c.irrep))
    return Irreps((*halves[0], *halves[1]))


def extended_post_node(post_node: Irreps, mid_node: Irreps, mid_edge: Irreps, post_edge: Irreps, sh: Irreps) -> Irreps:
    """Node irreps of the last block such that every irrep of the last edge features can be reached (needed with spin).

    For each irrep out of reach the smallest irrep that leads to it, and can itself be reached, is added.
    """
    added: list[Entry] = []
    for wanted in post_edge.irreps():
        if reachable(wanted, Irreps((*post_node, *mid_edge)), sh):
            continue
        ways = {
            Irrep(l, wanted.p * other.p)
            for other in sh.irreps()
            for l in range(abs(wanted.l - other.l), wanted.l + other.l + 1)
        }
        ways = {way for way in ways if reachable(way, Irreps((*mid_node, *mid_edge)), sh)}
        if ways and min(ways) not in [ir for _, ir in added]:
            way = min(ways)
            mul = next((mul for mul, ir in post_node if ir.l == way.l), post_node[-1].mul)
            added.append(Entry(mul, way))
    return Irreps((*post_node, *added))


class DeepHE3(Network):
    """The network; see `describe` for the choice of irreps.

    :param layout: targets and columns of the output.
    """

    def __init__(self, architecture: Architecture, layout: EntryLayout) -> None:
        super().__init__()
        a = architecture
        self.layout, self.ignore_parity, self.hermitian = layout, a.ignore_parity, a.hermitian
        self.message_cutoff = a.message_cutoff
        sh = spherical_irreps(a.lmax, a.ignore_parity)
        names = ("embed_node", "embed_edge", "mid_node", "mid_edge", "post_node", "post_edge")
        embed_node, embed_edge, mid_node, mid_edge, post_node, post_edge = (
            Irreps.parse(getattr(a, f"irreps_{name}")) for name in names
        )
        self.n_species = len(layout.basis.elements)
        options: dict[str, Any] = {"n_gaussians": a.n_gaussians, "normalization": a.path_normalization}
        one_hot = Irreps.of([(self.n_species, Irrep(0, 1))])
        self.embedding = EquivariantLinear(one_hot, embed_node, normalization=a.path_normalization)
        self.distance_embedding = GaussianBasis(a.embedding_end, embed_edge.n_channels)
        self.radial_basis = GaussianBasis(a.radial_end, a.n_gaussians)
        self.node_updates: Modules[NodeUpdate] = Modules()
        self.edge_updates: Modules[EdgeUpdate] = Modules()
        node, edge = embed_node, embed_edge
        for b in range(a.n_blocks):
            last = b == a.n_blocks - 1
            self.node_updates.append(
                NodeUpdate(node, edge, sh, post_node if last else mid_node, self.n_species, **options)
            )
            node = self.node_updates[-1].irreps_out
            self.edge_updates.append(
                EdgeUpdate(node, edge, sh, post_edge if last else mid_edge, self.n_species**2, **options)
            )
            edge = self.edge_updates[-1].irreps_out
        self.head = HamiltonianHead(
            edge,
            layout,
            ignore_parity=a.ignore_parity,
            normalization=a.path_normalization,
            time_reversal=a.time_reversal,
        )
        everything = [embed_node, embed_edge, self.head.irreps_out]
        everything += [update.irreps_out for update in (*self.node_updates, *self.edge_updates)]
        self.lmax = max(irreps.lmax for irreps in everything)

    @classmethod
    def describe(
        cls, config: DeepHE3Config, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """The architecture for a basis, by the rules of the reference: the last edges have one channel per output."""
        layout = EntryLayout.of(basis, spin)
        sh = spherical_irreps(config.lmax, config.ignore_parity)
        embed, mid = Irreps.parse(config.irreps_embed), Irreps.parse(config.irreps_mid)
        if config.ignore_parity:
            mid = mid.all_even()
        post_edge = output_irreps(layout, config.ignore_parity).sorted().simplified()
        post_node = extended_post_node(mid, mid, mid, post_edge, sh) if spin is not SpinMode.NONE else mid
        return Architecture(
            irreps_embed_node=str(embed),
            irreps_embed_edge=str(embed),
            irreps_mid_node=str(mid),
            irreps_mid_edge=str(mid),
            irreps_post_node=str(post_node),
            irreps_post_edge=str(post_edge),
            lmax=config.lmax,
            n_blocks=config.n_blocks,
            n_gaussians=config.n_gaussians,
            radial_end=config.radial_end or max(pair_cutoffs.values()),
            message_cutoff=config.message_cutoff,
            ignore_parity=config.ignore_parity,
            hermitian=config.hermitian,
            time_reversal=config.time_reversal and spin is SpinMode.NONCOLLINEAR,
            targets=tuple(target.as_json() for target in layout.targets),
        ).model_dump(mode="json")

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> DeepHE3:
        """Build from a model's description."""
        parsed = Architecture.model_validate(architecture)
        return cls(parsed, EntryLayout.of(basis, spin, parsed.targets))

    def edges_of(self, part: Part, dtype: torch.dtype) -> Edges:
        """The part's edges with rotations, distances and types."""
        graph = part.graph
        several = "batch" in graph and graph.num_graphs > 1
        wigner = graph.wigner if "wigner" in graph else None
        return Edges.of(
            graph.species,
            graph.edge_index,
            graph.edge_vec,
            graph.loops,
            graph=graph.batch[graph.edge_index[0]] if several else None,
            frames=Frames.of(graph.edge_vec, wigner, self.lmax, self.ignore_parity, dtype),
            n_species=self.n_species,
            dtype=dtype,
        )

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Within, what depends on the weights alone is made once: for many calls without gradients."""
        with ExitStack() as stack:
            for update in (*self.node_updates, *self.edge_updates):
                stack.enter_context(update.conv.product.fixed_weights())
            yield

    def embed_nodes(self, species: Tensor) -> Features:
        """First features of the nodes."""
        one_hot = nn.functional.one_hot(species, self.n_species).to(self.embedding.weight.dtype)
        features: Features = self.embedding([one_hot])
        return features

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        """Each block goes through the edges twice, for the atoms and for the pairs; the head once more."""
        dtype = self.embedding.weight.dtype
        edges = sweep.once(lambda part: self.edges_of(part, dtype), wigner_size(self.lmax))
        gaussians = sweep.once(lambda part: self.radial_basis(edges(part).distances))
        run = _Run(sweep, edges, gaussians, TypeGroups(sweep.species, self.n_species) if self.n_species > 1 else None)
        x = self.embed_nodes(sweep.species)
        ends = run.ends(x, self.node_updates[0].lin_pre.layout_in)
        e = sweep.once(lambda part: [self.distance_embedding(edges(part).distances)])
        for b in range(len(self.node_updates)):
            x, ends, e = self._block(b, run, x, ends, e)
        yield Output(self.layout, lambda part: self.head(e(part), edges(part).frames))

    def _block(
        self, b: int, run: _Run, x: Features, ends: Callable[[Part], Tensors], e: Callable[[Part], Features]
    ) -> tuple[Features, Callable[[Part], Tensors], Callable[[Part], Features]]:
        """Features of the atoms, their vectors at the ends of the edges, and features of the edges after a block."""
        node, edge = self.node_updates[b], self.edge_updates[b]
        sweep, edges, gaussians = run.sweep, run.edges, run.gaussians
        name = f"block {b + 1} of {len(self.node_updates)}"

        def messages(part: Part) -> Tensors:
            inputs = [ends(part), e(part), [gaussians(part)]]
            carriers = edges(part)
            if self.message_cutoff is not None:
                rows = self.message_edges(part.graph)
                inputs = [[entry.index_select(0, rows) for entry in entries] for entries in inputs]
                carriers = carriers.selected(rows)
            return node.messages(part.of_atoms(x), inputs[0], inputs[1], carriers, inputs[2][0])

        total = node.combine(x, sweep.sum_at_atoms(f"{name}, atoms", messages), run.species_groups)
        new_x = node.norm(total, node.past(x), sweep.batch, sweep.n_graphs)
        new_ends = run.ends(new_x, node.conv.layout)

        def raw(part: Part) -> Tensors:
            return edge.raw(part.of_atoms(new_x), new_ends(part), e(part), edges(part), gaussians(part))

        def sums(part: Part, z: Tensors) -> Tensors:
            return edge.norm.sums(z, edges(part).frames)

        def finish(part: Part, z: Tensors, totals: Tensors | None) -> Tensors:
            own = edges(part)
            final: Tensors = edge.norm(z, edge.past(e(part)), own.graph, sweep.n_graphs, own.frames, totals)
            return final

        return new_x, new_ends, sweep.on_edges(f"{name}, pairs", raw, sums, finish)


@dataclass(frozen=True)
class _Run:
    """What all blocks share while a network goes through a structure.

    :param species_groups: atoms by element, None if there is one element.
    """

    sweep: Sweep
    edges: Callable[[Part], Edges]
    gaussians: Callable[[Part], Tensor]
    species_groups: TypeGroups | None

    def ends(self, x: Features, layout: FeatureLayout) -> Callable[[Part], Tensors]:
        """Vectors of the atoms' features at both ends of the edges."""
        return self.sweep.once(lambda part: self.edges(part).ends(part.of_atoms(x), layout))


class DeepHE3Set(Network):
    """Several networks, each for a part of the orbital pairs, as the reference trains them one by one."""

    def __init__(self, networks: list[DeepHE3]) -> None:
        super().__init__()
        self.networks: Modules[DeepHE3] = Modules(networks)
        self.layout = JoinedLayout.join([network.layout for network in networks])
        self.lmax = max(network.lmax for network in networks)

    @classmethod
    def describe(
        cls, config: Any, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """A set is only imported.

        :raises InputError: always.
        """
        raise InputError("a set of networks is not trained", where="network.name", expected="deephe3")

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> DeepHE3Set:
        """Build from `{"networks": [architecture, ...]}`."""
        return cls([DeepHE3.from_architecture(part, basis, spin) for part in architecture["networks"]])

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        """Those of one network after the other."""
        for network in self.networks:
            yield from network.passes(sweep)

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Within, what depends on the weights alone is made once: for many calls without gradients."""
        with ExitStack() as stack:
            for network in self.networks:
                stack.enter_context(network.fixed_weights())
            yield
