"""How far a closed form can be trusted: the posterior variance of each block, from the features alone.

With y = x c + error, the variance of a prediction is s^2 (1 + x^T (X^T X + ridge)^-1 x): what the features cannot
express, seen in the fit, times one plus the leverage of x, which is small where data like it were fitted and large
where only the prior speaks (MacKay, Neural Comput. 4, 415 (1992)). All systems of a block see the same geometry, so the
leverage is that of m = 0 and q >= 0 alone, and on site that of J = 0; the ridge is that of the outputs that err most.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from aiida_deeph.engine.nn.closed_form.fit import Solution
from aiida_deeph.engine.nn.closed_form.model import ThreeCentre, bond_name, site_name

LARGEST = 256 * 2**20
"""Bytes of all matrices together; beyond that no uncertainty is stored."""
OUTSIDE = 1.0
"""A leverage that is larger doubles the variance: the atoms or the pair lie outside the data."""


class Posterior(nn.Module):
    """Leverages and variances of a fitted model; zeros before.

    :param model: gives the features.
    """

    def __init__(self, model: ThreeCentre) -> None:
        super().__init__()
        self.matrices: dict[str, int] = {}
        n_targets = len(model.layout.targets)
        for kind, outputs in model.bonds.items():
            key = (max(outputs.sectors), 0)
            self.matrices[bond_name(kind, *key)] = model.n_bond_features(*key)
            self._zeros(f"variance_{kind[0]}_{kind[1]}", n_targets)
        for species in range(model.n_species):
            self.matrices[site_name(species, 0, True)] = model.n_site_features(0, True)
            self._zeros(f"variance_{species}", n_targets)
        self.known = sum(4 * n * n for n in self.matrices.values()) <= LARGEST
        for name, n in self.matrices.items() if self.known else ():
            self._zeros(name, n, n)

    def _zeros(self, name: str, *shape: int) -> None:
        self.register_buffer(name, torch.zeros(*shape))

    def take(self, model: ThreeCentre, name: str, solution: Solution) -> None:
        """Keep what a solved system says: called once for each, in any order."""
        if self.known and name in self.matrices:
            ridge = (solution.variance @ solution.ridges) / solution.variance.sum().clamp(min=1e-300)
            getattr(self, name).copy_(solution.vectors / (solution.values + ridge).sqrt())
        parts = name.split("_")
        if parts[0] == "bond":
            kind = (int(parts[1]), int(parts[2]))
            q, m = {"even": 1, "odd": -1, "any": 0}[parts[3]], int(parts[4])
            variance = getattr(self, f"variance_{kind[0]}_{kind[1]}")
            outputs = model.bonds[kind]
            n = outputs.n_outputs(q, m)
            identity = [torch.eye(2 * J + 1, dtype=torch.float64).expand(n, -1, -1) for J in range(model.lmax + 1)]
            for sign in range(1 if m == 0 else 2):
                values = {
                    (p, k): torch.zeros(1 if k == 0 else 2, n, outputs.n_outputs(p, k), dtype=torch.float64)
                    for p, k in outputs.systems()
                }
                values[q, m][sign] = torch.eye(n, dtype=torch.float64)
                variance += self._by_target(model, outputs.decode(values, identity), solution.variance).to(variance)
            return
        species, key = int(parts[1]), (int(parts[2]), parts[3] == "natural")
        variance, chosen = getattr(self, f"variance_{species}"), model.sites[species].chosen
        n = len(chosen[key])
        for component in range(2 * key[0] + 1):
            on_site = {k: torch.zeros(2 * k[0] + 1, n, len(to), dtype=torch.float64) for k, to in chosen.items()}
            on_site[key][component] = torch.eye(n, dtype=torch.float64)
            variance += self._by_target(model, model.sites[species].decode(on_site), solution.variance).to(variance)

    @staticmethod
    def _by_target(model: ThreeCentre, columns: Tensor, variance: Tensor) -> Tensor:
        """Mean variance of the entries of each target, if outputs have these variances."""
        squares = variance @ columns.abs().square()
        return torch.stack([squares[model.targets.columns_of(n)].mean() for n in range(len(model.layout.targets))])

    @torch.no_grad()
    def of_edges(
        self, model: ThreeCentre, graph: Any, frames: list[Tensor], distances: Tensor, around: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Leverage of each edge, shape (n_edges,), and variance of each target's entries, (n_edges, n_targets), eV^2.

        :param around: surroundings of the graph's atoms.
        """
        n_edges = graph.edge_index.shape[1]
        leverage = distances.new_zeros(n_edges, dtype=model.mixing.dtype)
        variance = leverage.new_zeros(n_edges, len(model.layout.targets))
        for _, places, rows in self.whitened(model, graph, frames, distances, around):
            leverage[places] = rows.square().sum(dim=1)
        between = model.between(graph)
        for kind in model.bonds:
            bonds = model.bonds_of(graph, kind)
            places = between[bonds.rows]
            scale = model.scale(kind, model.lengths(distances[bonds.rows])[0])
            own = getattr(self, f"variance_{kind[0]}_{kind[1]}") * scale[:, None].square()
            variance[places] = own * (1 + leverage[places, None])
            if bool(bonds.turned.any()):  # seen from the other atom, a pair of shells is another target
                turned = places[bonds.turned]
                variance[turned] = variance[turned][:, model.targets.partner]
        for species in range(model.n_species):
            rows = graph.loops[graph.species[graph.edge_index[0, graph.loops]] == species]
            variance[rows] = getattr(self, f"variance_{species}") * (1 + leverage[rows, None])
        return leverage, variance

    @torch.no_grad()
    def whitened(
        self, model: ThreeCentre, graph: Any, frames: list[Tensor], distances: Tensor, around: list[Tensor]
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of each kind of edges in the graph: its name, their places among the graph's edges, shape (n,), and their
        features in units of what the data do not determine, shape (n, n_features): leverages are sums of squares, and
        their products the covariances of predictions, both in units of the noise.

        :param around: surroundings of the graph's atoms.
        """
        between = model.between(graph)
        for kind, outputs in model.bonds.items():
            bonds = model.bonds_of(graph, kind)
            if not len(bonds.rows):
                continue
            q = max(outputs.sectors)
            _, lengths = model.lengths(distances[bonds.rows])
            parts = model.bond_parts(model.frames_of(frames, bonds), around, bonds, q)[0]
            name = bond_name(kind, q, 0)
            yield name, between[bonds.rows], model.rows(parts, lengths, q, 0)[0] @ getattr(self, name)
        for species in range(model.n_species):
            rows = graph.loops[graph.species[graph.edge_index[0, graph.loops]] == species]
            if len(rows):
                on_site = model.site_values([A[graph.edge_index[0, rows]] for A in around], 0, True)
                assert on_site is not None  # there is the constant
                name = site_name(species, 0, True)
                yield name, rows, on_site[0] @ getattr(self, name)

    def expected_error(self, model: ThreeCentre, graph: Any, variance: Tensor) -> Tensor:
        """Mean |error| over the entries of each edge, if errors are normal; shape (n_edges,), eV."""
        sizes, pairs = [], model.layout.targets
        elements = model.layout.basis.elements
        for a in elements:
            for b in elements:
                sizes.append([(2 * t.l1 + 1) * (2 * t.l2 + 1) * ((a, b) in t.shells) for t in pairs])
        first, second = graph.species[graph.edge_index]
        weights = torch.tensor(sizes, dtype=variance.dtype, device=variance.device)[first * len(elements) + second]
        return sqrt(2 / pi) * (weights * variance.sqrt()).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
