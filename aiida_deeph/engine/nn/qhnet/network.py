"""QHNet (Yu et al., ICML 2023): messages between atoms, then features of every pair from those of its two atoms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.equivariant.module import Modules
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep
from aiida_deeph.engine.nn.qhnet.config import QHNetConfig
from aiida_deeph.engine.nn.qhnet.head import Expansion
from aiida_deeph.engine.nn.qhnet.layers import AtomFeatures, BernsteinBasis, Convolution, PairFeatures
from aiida_deeph.engine.nn.qhnet.products import spherical_harmonics
from aiida_deeph.engine.units import HARTREE_TO_EV

CUTOFF_OF_MOLECULES = 15.0
"""End of the radial basis in QH9, Angstrom: all pairs of its molecules are closer."""


class Architecture(Config):
    """Everything from which the network is built; fields without a word here are those of `QHNetConfig`.

    :param energy_unit: of what the weights give, eV: training in eV has the learning rates of one in Hartree.
    :param targets: pairs of shells by pair of elements, in the order of the output.
    """

    channels: int = Field(ge=1)
    bottleneck: int = Field(ge=1)
    n_layers: int = Field(ge=1)
    first_pair_layer: int = Field(ge=0)
    lmax: int = Field(ge=0, le=8)
    n_radial: int = Field(ge=2)
    message_cutoff: float = Field(gt=0)
    alpha: float = Field(gt=0)
    learned_alpha: bool
    invariants: Literal["both", "receiver"]
    ignore_parity: bool
    all_pairs: bool
    energy_unit: float = Field(default=HARTREE_TO_EV, gt=0)
    targets: tuple[dict[str, tuple[int, int]], ...]


@dataclass(frozen=True)
class _Edges:
    """Edges between two atoms.

    :param rows: their places among all edges of a part.
    :param radial: shape (n_edges, n_radial).
    """

    rows: Tensor
    source: Tensor
    target: Tensor
    vectors: Tensor
    radial: Tensor


class QHNet(Network):
    """The network; see `QHNetConfig` for its parity. H = N + N^T is written as the average of both directions of 2 N.

    :param layout: targets and columns of the output.
    """

    def __init__(self, architecture: Architecture, layout: EntryLayout) -> None:
        super().__init__()
        a = architecture
        self.layout, self.hermitian, self.all_pairs = layout, True, a.all_pairs
        self.architecture, self.message_cutoff = a, a.message_cutoff
        self.n_species = len(layout.basis.elements)
        self.embedding = nn.Embedding(self.n_species, a.channels)
        self.radial_basis = BernsteinBasis(a.n_radial, a.message_cutoff, a.alpha, learned=a.learned_alpha)
        both = a.invariants == "both"
        self.convolutions: Modules[Convolution] = Modules(
            Convolution(a.channels, a.lmax, a.n_radial, is_first=k == 0, both=both) for k in range(a.n_layers)
        )
        n_last = a.n_layers - a.first_pair_layer
        self.atoms: Modules[AtomFeatures] = Modules(
            AtomFeatures(a.channels, a.lmax, ignore_parity=a.ignore_parity) for _ in range(n_last)
        )
        self.pairs_of_atoms: Modules[PairFeatures] = Modules(
            PairFeatures(a.channels, a.lmax, a.n_radial, ignore_parity=a.ignore_parity) for _ in range(n_last)
        )
        sizes = (layout, a.channels, a.bottleneck, a.lmax)
        self.expand_atoms = Expansion(*sizes, a.channels, ignore_parity=a.ignore_parity)
        self.expand_pairs = Expansion(*sizes, 2 * a.channels, ignore_parity=a.ignore_parity)
        self.unit = 2 * a.energy_unit / a.bottleneck

    @classmethod
    def describe(
        cls, config: QHNetConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]
    ) -> dict[str, Any]:
        """The architecture for a basis.

        :raises InputError: spin, features too low for the basis, or no layer that gives features of H's blocks.
        """
        largest = max(l for shells in basis.shells.values() for l in shells)
        checks = (
            ("spin", spin is SpinMode.NONE, spin.value, "none: QHNet has real blocks", "train deephe3"),
            ("network.lmax", config.lmax >= 2 * largest, config.lmax, f"at least {2 * largest}", "raise it"),
            (
                "network.first_pair_layer",
                config.first_pair_layer < config.n_layers,
                config.first_pair_layer,
                f"below n_layers, {config.n_layers}",
                "lower it",
            ),
        )
        for where, is_right, found, expected, remedy in checks:
            if not is_right:
                raise InputError(
                    "network does not fit the data", where=where, found=found, expected=expected, remedy=remedy
                )
        layout = EntryLayout.of(basis, spin)
        cutoff = config.message_cutoff or (CUTOFF_OF_MOLECULES if config.all_pairs else max(pair_cutoffs.values()))
        chosen = config.model_dump(exclude={"name"})
        targets = [target.as_json() for target in layout.targets]
        architecture = Architecture.model_validate({**chosen, "message_cutoff": cutoff, "targets": targets})
        return architecture.model_dump(mode="json")

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], basis: OrbitalBasis, spin: SpinMode) -> QHNet:
        """Build from a model's description."""
        parsed = Architecture.model_validate(architecture)
        return cls(parsed, EntryLayout.of(basis, spin, parsed.targets))

    def extras(self) -> dict[str, Any]:
        """Whether mirror images are right."""
        exact = "rotations, not mirror images" if self.architecture.ignore_parity else "rotations and mirror images"
        return {"equivariant_under": exact}

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        """Each convolution sums over the messages once; features of pairs need their two atoms alone."""
        edges = sweep.once(lambda part: self._edges(part.graph, self.message_edges(part.graph)))
        harmonics = sweep.once(
            lambda part: spherical_harmonics(-edges(part).vectors, self.architecture.lmax).to(self.embedding.weight)
        )
        # The products of all convolutions but the first couple alike.
        products = [convolution.product for convolution in self.convolutions]
        first = sweep.once(lambda part: products[0].couplings(harmonics(part)))
        later = sweep.once(lambda part: products[-1].couplings(harmonics(part)))
        x = self.embedding(sweep.species)[:, None]
        on_atoms, for_pairs = [], []
        for k, convolution in enumerate(self.convolutions):
            p, g = convolution.atoms(x)

            def messages(part: Part, k: int = k, p: Tensor = p, g: Tensor = g) -> list[Tensor]:
                own, (p_part, g_part) = edges(part), part.of_atoms([p, g])
                tables = later(part) if k else first(part)
                return [self.convolutions[k].messages(p_part, g_part, own.source, own.target, own.radial, tables)]

            total = sweep.sum_at_atoms(f"layer {k + 1} of {len(self.convolutions)}", messages)[0]
            x = convolution.update(x, g, total)
            last = k - self.architecture.first_pair_layer
            if last >= 0:
                on_atoms.append(self.atoms[last](x))
                for_pairs += self.pairs_of_atoms[last].atoms(x)
        sites = _sums(on_atoms)
        yield Output(
            self.layout,
            lambda part: self._pair_columns(part, part.of_atoms(for_pairs)),
            lambda part: self._atom_columns(part, part.of_atoms(sites)),
        )

    def message_edges(self, graph: Any) -> Tensor:
        """Edges that carry messages, shape (n_messages,): those of an atom with itself carry none."""
        if "messages" in graph:
            found: Tensor = graph.messages
            return found
        distances = graph.edge_vec.norm(dim=1)
        is_pair = torch.ones_like(distances, dtype=torch.bool).index_fill(0, graph.loops, False)
        return torch.nonzero(is_pair & (distances < self.message_cutoff))[:, 0]

    def _edges(self, graph: Any, rows: Tensor) -> _Edges:
        source, target = graph.edge_index.index_select(1, rows)
        vectors = graph.edge_vec.index_select(0, rows)
        distances = vectors.norm(dim=1).to(self.embedding.weight)
        return _Edges(rows, source, target, vectors, self.radial_basis(distances))

    def _pair_columns(self, part: Part, features: list[Tensor]) -> Tensor:
        """Columns of a part's edges, those of an atom with itself 0, shape (n_part_edges, n_columns), eV."""
        graph = part.graph
        n_edges = graph.edge_index.shape[1]
        is_pair = torch.ones(n_edges, dtype=torch.bool, device=graph.edge_index.device)
        edges = self._edges(graph, torch.nonzero(is_pair.index_fill(0, graph.loops, False))[:, 0])
        terms = [
            layer(q, y, edges.source, edges.target, edges.radial)
            for layer, q, y in zip(self.pairs_of_atoms, features[::2], features[1::2], strict=True)
        ]
        species, n, table = graph.species, self.n_species, self.embedding.weight
        first, second = (
            i.flatten() for i in torch.meshgrid(*[torch.arange(n, device=table.device)] * 2, indexing="ij")
        )
        types = species.index_select(0, edges.source) * n + species.index_select(0, edges.target)
        columns = self.expand_pairs(_sums(terms), torch.cat([table[first], table[second]], dim=1), types)
        everywhere: Tensor = columns.new_zeros(n_edges, columns.shape[1])
        return everywhere.index_copy(0, edges.rows, columns * self.unit)

    def _atom_columns(self, part: Part, sites: list[Tensor]) -> Tensor:
        """Columns of a part's loops, shape (n_part_loops, n_columns), eV."""
        atoms = part.graph.edge_index[0].index_select(0, part.graph.loops)
        types = part.graph.species.index_select(0, atoms)
        columns: Tensor = self.expand_atoms([x.index_select(0, atoms) for x in sites], self.embedding.weight, types)
        return columns * self.unit


def _sums(layers: list[list[Tensor]]) -> list[Tensor]:
    """Sums over layers of each of their features."""
    return [torch.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0] for terms in zip(*layers, strict=True)]
