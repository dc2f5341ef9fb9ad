"""Two-centre part of H: linear in functions of the distances, so that it is fitted in closed form (`two_centre_fit`).

Between two atoms (Slater and Koster, Phys. Rev. 94, 1498 (1954)) each component L of a block lies along the bond,
    t_L(i, j) = f_L(r_ij) Y_L(r_ij / |r_ij|),
on an atom it is a constant and a sum over the neighbours,
    t_L(i, i) = delta_L0 c + sum_j g_L(r_ij) Y_L(r_ij / |r_ij|),
with f_L and g_L sums of Gaussians of the distance, for each pair of elements and each pair of shells, and
H_ab = sum_Lm C^(l1 l2 L)_abm t_Lm as in the Wigner-Eckart layer. L has the parity of l1 + l2. With spin this is the
spin scalar (H_uu + H_dd) / 2. Beside it stands a scale: how large the rest of H is, by pair of shells and distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.graph.wigner import component_order, edge_wigner, wigner_3j

SPACING = 0.4
"""Distance between the centres of the Gaussians, and their width, Angstrom."""
FIRST_CENTRE = 0.6


@dataclass(frozen=True)
class Bonds:
    """Edges of one graph, of several, or a part of one graph's edges.

    :param source: atom i, shape (n_edges,); `target` atom j.
    :param vectors: from i to j + R, shape (n_edges, 3), Angstrom, float64.
    :param species: element of each atom, shape (n_atoms,).
    """

    source: Tensor
    target: Tensor
    vectors: Tensor
    species: Tensor

    @classmethod
    def of(cls, graph: Any) -> Bonds:
        """Those of a graph or batch."""
        return cls(graph.edge_index[0], graph.edge_index[1], graph.edge_vec.to(torch.float64), graph.species)


@dataclass(frozen=True)
class Functions:
    """Functions of the bonds' vectors.

    :param rows: bonds between two atoms by pair of elements, `species_i * n_species + species_j`.
    :param sites: bonds of an atom with itself, by element.
    :param gaussians: shape (n_edges, n_gaussians).
    :param harmonics: Y_L, m = -L..L, |Y_L|^2 = 2 L + 1, shape (n_edges, 2 L + 1) for each L.
    """

    rows: list[Tensor]
    sites: list[Tensor]
    gaussians: Tensor
    harmonics: list[Tensor]


class TwoCentre(nn.Module):
    """Coefficients of the two-centre part and of the scale: zeros and ones until they are fitted.

    :param layout: of the output.
    :param end: no distance is much larger, Angstrom.
    """

    bond_scale: Tensor
    site_scale: Tensor

    def __init__(self, layout: EntryLayout, end: float) -> None:
        super().__init__()
        self.layout = layout
        self.n_species = len(layout.basis.elements)
        self.n_gaussians = max(4, round((end - FIRST_CENTRE) / SPACING) + 1)
        self.classes = [(l1, l2, members) for (l1, l2), members in layout.classes.items()]
        self.lmax = max((l1 + l2 for l1, l2, _ in self.classes), default=0)
        n_types, n_targets = self.n_species**2, len(layout.targets)
        for k, L in self.components():
            count = len(self.classes[k][2])
            self.register_buffer(f"bond_{k}_{L}", torch.zeros(n_types, self.n_gaussians, count))
            n_features = self.n_species * self.n_gaussians + (L == 0)
            self.register_buffer(f"site_{k}_{L}", torch.zeros(self.n_species, n_features, count))
        self.register_buffer("bond_scale", torch.ones(n_types, self.n_gaussians, n_targets))
        self.register_buffer("site_scale", torch.ones(self.n_species, n_targets))

    def components(self) -> Iterator[tuple[int, int]]:
        """(class, L) of all parts that a bond can have."""
        for k, (l1, l2, _) in enumerate(self.classes):
            for L in range(abs(l1 - l2), l1 + l2 + 1, 2):
                yield k, L

    def columns_of(self, target: int, spin_block: int = 0) -> slice:
        """Places of one spin block of a target among the outputs."""
        t = self.layout.targets[target]
        size = (2 * t.l1 + 1) * (2 * t.l2 + 1)
        first = int(self.layout.first_columns[target]) + spin_block * size
        return slice(first, first + size)

    @property
    def spin_diagonal(self) -> tuple[int, ...]:
        """Spin blocks that hold the two-centre part: the only one, or uu and dd."""
        return (0,) if self.layout.n_spin_blocks == 1 else (0, 3)

    def coupling(self, k: int, L: int, like: Tensor) -> Tensor:
        """C^(l1 l2 L) of a class, shape (2 l1 + 1, 2 l2 + 1, 2 L + 1)."""
        l1, l2, _ = self.classes[k]
        return torch.tensor(wigner_3j(l1, l2, L), dtype=like.dtype, device=like.device)

    def functions(self, bonds: Bonds) -> Functions:
        """Everything that depends on the geometry alone, float64."""
        distances = bonds.vectors.norm(dim=1)
        is_site = distances < 1e-6
        kinds = bonds.species[bonds.source] * self.n_species + bonds.species[bonds.target]
        rows = [torch.nonzero((kinds == kind) & ~is_site)[:, 0] for kind in range(self.n_species**2)]
        sites = [torch.nonzero((kinds == s * (self.n_species + 1)) & is_site)[:, 0] for s in range(self.n_species)]
        centres = FIRST_CENTRE + SPACING * torch.arange(self.n_gaussians, device=distances.device)
        gaussians = torch.exp(-0.5 * ((distances[:, None] - centres) / SPACING) ** 2)
        rotations = edge_wigner(bonds.vectors, self.lmax, torch.float64)
        harmonics, start = [torch.ones_like(distances)[:, None]], 0
        for l in range(1, self.lmax + 1):
            # The row m = 0 of the rotation into the frame of the bond; its columns are m = 0, +1, -1, ...
            row = rotations[:, start : start + 2 * l + 1]
            order = torch.argsort(torch.tensor(component_order(l), device=row.device))
            harmonics.append(sqrt(2 * l + 1) * row[:, order])
            start += (2 * l + 1) ** 2
        return Functions(rows, sites, gaussians, harmonics)

    def surroundings(self, bonds: Bonds, functions: Functions, into: list[Tensor] | None = None) -> list[Tensor]:
        """sum_j G(r_ij) Y_L of each atom by element of j, shape (n_atoms, 2 L + 1, n_species * n_gaussians) for each L.

        :param into: sums over other bonds of the same atoms, which these are added to.
        """
        size = self.n_species * self.n_gaussians
        if into is None:
            into = [bonds.vectors.new_zeros(len(bonds.species), 2 * L + 1, size) for L in range(self.lmax + 1)]
        for n, total in enumerate(into):
            for kind, rows in enumerate(functions.rows):
                products = functions.harmonics[n][rows][:, :, None] * functions.gaussians[rows][:, None, :]
                element = kind % self.n_species
                window = total[:, :, element * self.n_gaussians : (element + 1) * self.n_gaussians]
                window.index_add_(0, bonds.source[rows], products)
        return into

    @staticmethod
    def site_features(surroundings: Tensor) -> Tensor:
        """What an atom's own block is linear in: the sums, and the constant 1 for L = 0."""
        if surroundings.shape[1] > 1:
            return surroundings
        return torch.cat([surroundings, torch.ones_like(surroundings[:, :, :1])], dim=2)

    @torch.no_grad()
    def columns(
        self, bonds: Bonds, functions: Functions | None = None, surroundings: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Two-centre part (eV) and scale of all outputs, both of shape (n_edges, n_columns), float64.

        :param surroundings: of the atoms, unless these are all their bonds.
        """
        functions = functions or self.functions(bonds)
        surroundings = surroundings or self.surroundings(bonds, functions)
        base = bonds.vectors.new_zeros(len(bonds.source), self.layout.n_columns)
        for k, L in self.components():
            members = self.classes[k][2]
            t = base.new_zeros(len(base), len(members), 2 * L + 1)
            bond, site = (getattr(self, f"{name}_{k}_{L}").to(base.dtype) for name in ("bond", "site"))
            for kind, rows in enumerate(functions.rows):
                t[rows] = (functions.gaussians[rows] @ bond[kind])[:, :, None] * functions.harmonics[L][rows][:, None]
            for species, rows in enumerate(functions.sites):
                features = self.site_features(surroundings[L][bonds.source[rows]])
                t[rows] = (features @ site[species]).transpose(1, 2)
            blocks = torch.einsum("abm,ncm->ncab", self.coupling(k, L, t), t).flatten(2)
            for n, target in enumerate(members):
                for spin_block in self.spin_diagonal:
                    base[:, self.columns_of(target, spin_block)] += blocks[:, n]
        return base, self._scale(functions, len(base))

    def _scale(self, functions: Functions, n_edges: int) -> Tensor:
        """Mean of the values at the centres, weighted by the Gaussians; shape (n_edges, n_columns)."""
        by_target = functions.gaussians.new_ones(n_edges, len(self.layout.targets))
        for kind, rows in enumerate(functions.rows):
            # Far from all centres the weights would vanish; there the last one counts.
            weights = functions.gaussians[rows].clone()
            weights[:, -1] += 1e-30
            by_target[rows] = (weights / weights.sum(dim=1, keepdim=True)) @ self.bond_scale[kind].to(weights.dtype)
        for species, rows in enumerate(functions.sites):
            by_target[rows] = self.site_scale[species].to(by_target.dtype)
        scale = by_target.new_empty(n_edges, self.layout.n_columns)
        for target in range(by_target.shape[1]):
            for spin_block in range(self.layout.n_spin_blocks):
                scale[:, self.columns_of(target, spin_block)] = by_target[:, target : target + 1]
        return scale
