"""Coefficients of the closed form, and H from them: features of a part of the edges in, columns of the output out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, inf
from typing import Any

import torch
from torch import Tensor, nn

from aiida_deeph.engine.domain.channels import ENDINGS, element_of
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.closed_form.architecture import Architecture, feature_count
from aiida_deeph.engine.nn.closed_form.features import (
    bond_products,
    bond_surroundings,
    rotations,
    site_features,
    site_triples,
    surroundings,
    times_length,
)
from aiida_deeph.engine.nn.closed_form.radial import gaussians
from aiida_deeph.engine.nn.closed_form.targets import BondTargets, SiteTargets, Targets, Values

SIGN = 0.3
"""How much the sign of a neighbour's moment matters, as a share of the neighbour itself; expected before any data."""


@dataclass(frozen=True)
class Bonds:
    """Some edges between two atoms, each seen from the atom whose element comes first.

    :param rows: their places among the edges, shape (n,).
    :param i, j: their atoms.
    :param turned: whether the edge itself goes from j to i.
    """

    rows: Tensor
    i: Tensor
    j: Tensor
    turned: Tensor

    def selected(self, part: Tensor) -> Bonds:
        """Some of them."""
        return Bonds(self.rows[part], self.i[part], self.j[part], self.turned[part])


Parts = tuple[Tensor, Tensor | None]
"""Surroundings of some bonds and their products, shapes (1 or 2, n, n_channels)."""


class ThreeCentre(nn.Module):
    """Coefficients of all pairs of elements: zeros until they are fitted.

    :param layout: of the output.
    """

    mixing: Tensor
    bond_functions: Tensor

    def __init__(self, architecture: Architecture, layout: EntryLayout) -> None:
        super().__init__()
        self.architecture, self.layout = architecture, layout
        a, elements = architecture, layout.basis.elements
        self.targets = Targets(layout)
        self.n_species = len(elements)
        self.mmax = min(self.targets.lmax, a.lmax_environment)
        self.bonds = {
            (x, y): BondTargets(self.targets, (elements[x], elements[y]))
            for x in range(self.n_species)
            for y in range(x, self.n_species)
        }
        self.sites = [SiteTargets(self.targets, element) for element in elements]
        for name, space in (("bond", a.bond), ("environment", a.environment), ("site", a.site)):
            self.register_buffer(f"{name}_functions", space.coefficients())
        self.register_buffer("mixing", element_mixing(a.element_channels, elements))
        for kind, key in self.bond_systems():
            self._zeros(bond_name(kind, *key), self.n_bond_features(*key), self.bonds[kind].n_outputs(*key))
        for kind in self.bonds:
            self._zeros(f"scale_{kind[0]}_{kind[1]}", len(a.bond.centres()))
        for species, key in self.site_systems():
            n_outputs = len(self.sites[species].chosen[key])
            self._zeros(site_name(species, *key), self.n_site_features(*key), n_outputs)

    def _zeros(self, name: str, *shape: int) -> None:
        self.register_buffer(name, torch.zeros(*shape, dtype=torch.float64))

    # -- which linear systems there are

    def bond_systems(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """(pair of elements, (q, m)) of all systems between atoms."""
        for kind, outputs in self.bonds.items():
            for key in outputs.systems():
                if key[1] <= self.mmax:
                    yield kind, key

    def site_systems(self) -> Iterator[tuple[int, tuple[int, bool]]]:
        """(element, (J, natural)) of all systems on site that have features."""
        for species, outputs in enumerate(self.sites):
            for key in outputs.chosen:
                if self.n_site_features(*key):
                    yield species, key

    def n_bond_features(self, q: int, m: int) -> int:
        """Features of a system between atoms."""
        return feature_count(self.architecture, q, m)

    @property
    def n_product_lengths(self) -> int:
        """Functions of the length of a bond that multiply products."""
        space = self.architecture.products
        return 0 if space is None else min(space.n_lengths, self.architecture.bond.n_functions)

    def n_site_features(self, J: int, natural: bool) -> int:
        """Features of a system on site."""
        a = self.architecture
        example = [torch.zeros(1, 2 * l + 1, a.site.n_functions * a.element_channels) for l in range(a.site_lmax + 1)]
        features = self._site_values(example, J, natural)
        return 0 if features is None else features.shape[2]

    # -- geometry

    @property
    def lmax(self) -> int:
        """Largest l of all rotations."""
        return max(self.architecture.lmax_environment, self.architecture.site_lmax, self.targets.lmax)

    def around(self, graph: Any, frames: list[Tensor], distances: Tensor) -> list[Tensor]:
        """Surroundings of the graph's atoms: those for bonds, l = 0, 1, ..., then those on site.

        :param frames: of all edges but the loops, `distances` their lengths.
        """
        a = self.architecture
        source, target = graph.edge_index[:, self.between(graph)]
        weights = self.mixing.T[graph.species[target]]
        result = []
        for name, space, lmax, decay in (
            ("environment", a.environment, a.lmax_environment, a.angular_decay),
            ("site", a.site, a.site_lmax, inf),
        ):
            basis = gaussians(distances, space.centres().to(distances.device)).to(weights)
            functions = basis @ getattr(self, f"{name}_functions")
            found = surroundings(frames, functions, source, weights, len(graph.species), lmax)
            result += [A * exp(-l / decay) for l, A in enumerate(found)]
        return result

    @staticmethod
    def between(graph: Any) -> Tensor:
        """Places of the edges that are no loops."""
        mask = torch.ones(graph.edge_index.shape[1], dtype=torch.bool, device=graph.edge_index.device)
        mask[graph.loops] = False
        return torch.nonzero(mask)[:, 0]

    def geometry(self, graph: Any) -> tuple[list[Tensor], Tensor]:
        """Frames and lengths of all edges but the loops, float64."""
        vectors = graph.edge_vec.to(torch.float64)[self.between(graph)]
        return rotations(vectors, self.lmax), vectors.norm(dim=1)

    def bonds_of(self, graph: Any, kind: tuple[int, int]) -> Bonds:
        """Edges between two elements, as places among those that are no loops."""
        i, j = graph.edge_index[:, self.between(graph)]
        first, second = graph.species[i], graph.species[j]
        straight = (first == kind[0]) & (second == kind[1])
        turned = (first == kind[1]) & (second == kind[0]) & ~straight
        rows = torch.nonzero(straight | turned)[:, 0]
        t = turned[rows]
        return Bonds(rows, torch.where(t, j[rows], i[rows]), torch.where(t, i[rows], j[rows]), t)

    def frames_of(self, frames: list[Tensor], bonds: Bonds) -> list[Tensor]:
        """Frames of some bonds. Turned by pi about y they belong to the reverse direction."""
        result = []
        for l, D in enumerate(frames):
            signs = torch.tensor([(-1.0) ** l] + [s * (-1.0) ** l for _ in range(l) for s in (1, -1)])
            flip = torch.where(bonds.turned[:, None], signs.to(D), torch.ones_like(signs).to(D))
            result.append(flip[:, :, None] * D[bonds.rows] if bool(bonds.turned.any()) else D[bonds.rows])
        return result

    def lengths(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussians of the bonds' lengths, and the functions h_p."""
        basis = gaussians(distances, self.architecture.bond.centres().to(distances.device)).to(self.mixing)
        return basis, basis @ self.bond_functions

    def scale(self, kind: tuple[int, int], basis: Tensor) -> Tensor:
        """How large blocks of H are at the bonds' lengths, shape (n,): errors count relative to it."""
        logarithms: Tensor = getattr(self, f"scale_{kind[0]}_{kind[1]}")
        weights = basis + 1e-30
        return torch.exp(weights @ logarithms / weights.sum(dim=1))

    # -- H

    def bond_parts(self, frames: list[Tensor], around: list[Tensor], bonds: Bonds, q: int) -> dict[int, Parts]:
        """`bond_surroundings` of some bonds and their `bond_products`, by |m|."""
        top, space = self.architecture.lmax_environment + 1, self.architecture.products

        def turned(A: list[Tensor], atoms: Tensor) -> list[Tensor]:
            return [D.to(a) @ a[atoms] for D, a in zip(frames, A, strict=False)]

        linear = bond_surroundings(turned(around[:top], bonds.i), turned(around[:top], bonds.j), q, self.mmax)
        if space is None:
            return {m: (features, None) for m, features in linear.items()}
        few = [A[:, :, self._channels(space.n_functions)] for A in around[top : top + space.lmax + 1]]
        own, other = turned(few, bonds.i), turned(few, bonds.j)
        even, odd = (bond_surroundings(own, other, sign, space.lmax) for sign in (abs(q), -abs(q)))
        found = [bond_products(even, odd, self.mmax)] if q < 0 else [bond_products(even, None, self.mmax)]
        found += [bond_products(odd, None, self.mmax)] if q > 0 else []
        return {
            m: (
                features,
                space.weight * torch.cat([features[:, :, :0], *(x for f in found for x in f.get(m, []))], dim=2),
            )
            for m, features in linear.items()
        }

    def rows(self, parts: Parts, lengths: Tensor, q: int, m: int) -> Tensor:
        """Features of some bonds, shape (1 or 2, n, n_features).

        :param parts: of `bond_parts`; `lengths` functions of the bonds' lengths.
        """
        rows = times_length(parts[0], lengths, m == 0 and q >= 0)
        if parts[1] is None:
            return rows
        return torch.cat([rows, times_length(parts[1], lengths[:, : self.n_product_lengths], False)], dim=2)

    def columns(self, graph: Any, frames: list[Tensor], distances: Tensor, around: list[Tensor]) -> Tensor:
        """Columns of all edges, shape (n_edges, n_columns), eV.

        :param around: surroundings of the graph's atoms.
        """
        between = self.between(graph)
        pieces, places = [], []
        for kind, outputs in self.bonds.items():
            bonds = self.bonds_of(graph, kind)
            if not len(bonds.rows):
                continue
            own = self.frames_of(frames, bonds)
            basis, lengths = self.lengths(distances[bonds.rows])
            values: Values = {}
            for q in outputs.sectors:
                for m, features in self.bond_parts(own, around, bonds, q).items():
                    if (q, m) in outputs.systems():
                        values[q, m] = self._value(kind, q, m, lengths, features)
            for q, m in outputs.systems():
                if m > self.mmax:
                    values[q, m] = lengths.new_zeros(2, len(lengths), outputs.n_outputs(q, m))
            found = outputs.decode(values, [D.to(lengths) for D in own]) * self.scale(kind, basis)[:, None]
            pieces.append(torch.where(bonds.turned[:, None], self.targets.adjoint_of(found), found))
            places.append(between[bonds.rows])
        for species, on_site in enumerate(self.sites):
            rows = graph.loops[graph.species[graph.edge_index[0, graph.loops]] == species]
            if len(rows):
                pieces.append(self._site_columns(species, on_site, [A[graph.edge_index[0, rows]] for A in around]))
                places.append(rows)
        order = torch.cat(places)
        return (
            pieces[0]
            .new_zeros(graph.edge_index.shape[1], self.layout.n_columns)
            .index_copy(0, order, torch.cat(pieces))
        )

    def _value(self, kind: tuple[int, int], q: int, m: int, lengths: Tensor, parts: Parts) -> Tensor:
        """Features times coefficients, without the products with functions of the length in memory."""
        coefficients: Tensor = getattr(self, bond_name(kind, q, m))
        features, products = parts
        n, p = lengths.shape[1] * features.shape[2], lengths.shape[1] * (m == 0 and q >= 0)
        value = _by_length(features, lengths, coefficients[:n])
        if p:
            value = value + times_length(features[:, :, :0], lengths, True) @ coefficients[n : n + p]
        if products is not None:
            value = value + _by_length(products, lengths[:, : self.n_product_lengths], coefficients[n + p :])
        return value

    def site_values(self, around: list[Tensor], J: int, natural: bool) -> Tensor | None:
        """`site_features` of some atoms and their `site_triples`."""
        return self._site_values(around[self.architecture.lmax_environment + 1 :], J, natural)

    def _site_values(self, A: list[Tensor], J: int, natural: bool) -> Tensor | None:
        features, space = site_features(A, J, natural), self.architecture.products
        if space is None:
            return features
        few = [part[:, :, self._channels(space.site_functions)] for part in A[: space.site_lmax + 1]]
        triples = [space.site_weight * triple for triple in site_triples(few, J, natural)]
        found = [part for part in (features, *triples) if part is not None]
        return torch.cat(found, dim=2) if found else None

    def _channels(self, n_functions: int) -> list[int]:
        """Places of the first functions of each channel of elements among those on site."""
        n, channels = self.architecture.site.n_functions, self.architecture.element_channels
        return [c * n + f for c in range(channels) for f in range(min(n_functions, n))]

    def _site_columns(self, species: int, outputs: SiteTargets, around: list[Tensor]) -> Tensor:
        values = {}
        for key, places in outputs.chosen.items():
            features = self.site_values(around, *key)
            if features is None or not features.shape[2]:
                values[key] = around[0].new_zeros(2 * key[0] + 1, len(around[0]), len(places))
            else:
                values[key] = features @ getattr(self, site_name(species, *key))
        return outputs.decode(values)


def _by_length(features: Tensor, lengths: Tensor, coefficients: Tensor) -> Tensor:
    n_lengths, n_outputs = lengths.shape[1], coefficients.shape[1]
    matrix = coefficients.view(n_lengths, -1, n_outputs).transpose(0, 1).reshape(-1, n_lengths * n_outputs)
    by_length = (features @ matrix).view(*features.shape[:2], n_lengths, n_outputs)
    return torch.einsum("snpo,np->sno", by_length, lengths)


def bond_name(kind: tuple[int, int], q: int, m: int) -> str:
    """Of the coefficients of a system between atoms."""
    return f"bond_{kind[0]}_{kind[1]}_{({1: 'even', -1: 'odd', 0: 'any'})[q]}_{m}"


def site_name(species: int, J: int, natural: bool) -> str:
    """Of the coefficients of a system on site."""
    return f"site_{species}_{J}_{'natural' if natural else 'unnatural'}"


def element_mixing(n_channels: int, elements: Sequence[str]) -> Tensor:
    """w_c of each element, shape (n_channels, n_species): each element a channel, or orthogonal random mixtures.

    With random mixtures a channel holds all elements, as in tensor-reduced atomic cluster expansion (Darby et al.,
    Phys. Rev. Lett. 131, 028001 (2023)). Of kinds that differ in the sign of their moment alone (`domain.channels`)
    one channel holds both alike, another one their difference, which matters less.
    """
    n_species = len(elements)
    if n_channels >= n_species:
        mixing = torch.eye(n_species, dtype=torch.float64)
    else:
        generator = torch.Generator().manual_seed(0)
        mixtures = torch.randn(n_species, n_channels, generator=generator, dtype=torch.float64)
        mixtures[:, 0] = 1
        mixing = torch.linalg.qr(mixtures)[0].T * float(n_species / n_channels) ** 0.5
    for up, kind in enumerate(elements):
        if kind.endswith(ENDINGS[1]):
            down = list(elements).index(element_of(kind) + ENDINGS[-1])
            alike, opposite = mixing[:, up].clone(), SIGN * mixing[:, down]
            mixing[:, up], mixing[:, down] = alike + opposite, alike - opposite
    return mixing
