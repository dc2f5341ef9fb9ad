"""Fit of the closed form: normal equations summed over the members in one pass, then ridges chosen by evidence.

Features are scaled so that a coefficient is expected to be of one size whatever its feature (see `radial`), and labels
between atoms count relative to the size of H at their distance. The size of the coefficients and the error of each
output are then the maximum of the marginal likelihood (MacKay, Neural Comput. 4, 415 (1992)), from one
eigen-decomposition of X^T X per system. Directions that the data do not determine stay where the prior has them: at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from torch import Tensor

from aiida_deeph.engine.nn.closed_form.model import ThreeCentre, bond_name, site_name
from aiida_deeph.engine.nn.closed_form.radial import gaussians

AddUp = Callable[[Iterable[Tensor]], None]

ROWS_AT_A_TIME = 2048
"""Bonds whose features are in memory at a time."""
MEMBERS_FOR_SCALE = 16
"""The size of H at each distance is taken from so many members."""
LABEL_NOISE = 1e-6
"""As a fraction of the size of the labels: no fit is worth more digits than the labels have."""
EQUALLY_GOOD = 2.0
"""Twice the difference of the logarithms of two evidences that are as good as equal."""
RIDGES = torch.logspace(-15, 1, 49, dtype=torch.float64)
"""Ratios of variances that are tried, as fractions of the largest eigenvalue of X^T X."""


@dataclass
class System:
    """Normal equations of one linear system.

    :param matrix: upper triangle of X^T X, shape (n_features, n_features), Fortran order.
    :param right: X^T y, shape (n_features, n_outputs).
    :param squares: y^T y of each output.
    :param count: rows.
    """

    matrix: NDArray[np.float64]
    right: Tensor
    squares: Tensor
    count: Tensor

    @classmethod
    def empty(cls, n_features: int, n_outputs: int) -> System:
        """Without any row."""
        zeros = torch.zeros(n_features, n_outputs, dtype=torch.float64)
        matrix = np.zeros((n_features, n_features), order="F")
        return cls(matrix, zeros, zeros[:1].sum(dim=0), torch.zeros(1, dtype=torch.float64))

    def add(self, features: Tensor, values: Tensor) -> None:
        """Add rows: features (n, n_features), values (n, n_outputs), float64."""
        dsyrk(1.0, features.numpy().T, 1.0, self.matrix, overwrite_c=True)
        self.right += features.T @ values
        self.squares += values.square().sum(dim=0)
        self.count += len(values)

    def tensors(self) -> list[Tensor]:
        """All of it, in place."""
        return [torch.from_numpy(self.matrix.T), self.right, self.squares, self.count]

    def solve(self) -> Solution:
        """Coefficients, with a ridge for each output by evidence."""
        full = torch.from_numpy(self.matrix)
        values, vectors = torch.linalg.eigh(torch.triu(full) + torch.triu(full, 1).T)
        values, n = values.clamp(min=0), float(self.count)
        projected = vectors.T @ self.right
        floor = LABEL_NOISE**2 * self.squares + 1e-300
        ridges = RIDGES * values[-1].clamp(min=1e-300)
        scores = []
        for ridge in ridges:
            penalty = (self.squares - (projected.square() / (values + ridge)[:, None]).sum(dim=0)).clamp(min=floor)
            scores.append(n * torch.log(penalty) + torch.log1p(values / ridge).sum())
        table = torch.stack(scores)
        best = table.min(dim=0).values
        # With fewer rows than features the evidence is flat towards small ridges: the largest of equally good ones.
        places = torch.arange(len(ridges))[:, None].expand_as(table)
        chosen = ridges[torch.where(table <= best + EQUALLY_GOOD, places, -1).max(dim=0).values]
        shrunk = projected / (values[:, None] + chosen)
        rest = self.squares - (2 * shrunk * projected).sum(dim=0) + (shrunk.square() * values[:, None]).sum(dim=0)
        freedom = (values[:, None] / (values[:, None] + chosen)).sum(dim=0)
        variance = rest.clamp(min=floor) / (n - freedom).clamp(min=0.1 * max(n, 1.0))
        return Solution(vectors @ shrunk, variance, chosen, values, vectors)


@dataclass(frozen=True)
class Solution:
    """Of a `System`.

    :param coefficients: shape (n_features, n_outputs).
    :param variance: of the rest, by output.
    :param ridges: by output.
    :param values, vectors: eigenvalues and eigenvectors of X^T X.
    """

    coefficients: Tensor
    variance: Tensor
    ridges: Tensor
    values: Tensor
    vectors: Tensor


Solved = Callable[[str, Solution], None]


@torch.no_grad()
def fit(
    model: ThreeCentre, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None, solved: Solved | None = None
) -> None:
    """Set all coefficients of a model in float64 on the CPU.

    :param graphs: with `label` and `entry_index`; gone through once, the first few twice.
    :param add_up: replaces tensors by their sums over all processes.
    :param solved: called with the name and the solution of each system.
    """
    fit_scale(model, graphs, add_up)
    systems: dict[Hashable, System] = {}
    for kind, key in model.bond_systems():
        systems[kind, key] = System.empty(model.n_bond_features(*key), model.bonds[kind].n_outputs(*key))
    for species, site_key in model.site_systems():
        n_outputs = len(model.sites[species].chosen[site_key])
        systems[species, site_key] = System.empty(model.n_site_features(*site_key), n_outputs)
    for graph in graphs:
        add_member(model, graph, systems)
    for system in systems.values():
        add_up(system.tensors())

    def solve(name: str, system: System) -> None:
        if system.count:
            solution = system.solve()
            getattr(model, name).copy_(solution.coefficients)
            if solved is not None:
                solved(name, solution)

    for kind, key in model.bond_systems():
        solve(bond_name(kind, *key), systems.pop((kind, key)))
    for species, site_key in model.site_systems():
        solve(site_name(species, *site_key), systems.pop((species, site_key)))


def label_columns(model: ThreeCentre, graph: Any) -> Tensor:
    """Labels at their places among the outputs, zeros where a pair has no such block; float64 or complex128."""
    n_edges = graph.edge_index.shape[1]
    dtype = torch.complex128 if graph.label.is_complex() else torch.float64
    columns = torch.zeros(n_edges * model.layout.n_columns, dtype=dtype)
    columns[graph.entry_index] = graph.label.to(dtype)
    return columns.view(n_edges, -1)


def one_direction(graph: Any) -> Tensor:
    """Whether an edge is the one of both directions of a bond that is fitted to, shape (n_edges,)."""
    pairs = torch.empty_like(graph.atom_pairs)
    pairs[graph.edge_of_pair] = graph.atom_pairs
    order = torch.cat(
        [graph.species[pairs[:, 4:]] - graph.species[pairs[:, 3:4]], pairs[:, 4:] - pairs[:, 3:4], pairs[:, :3]], dim=1
    )
    leading = order.gather(1, (order != 0).to(torch.int8).argmax(dim=1, keepdim=True))
    return leading[:, 0] > 0


def fit_scale(model: ThreeCentre, graphs: Sequence[Any], add_up: AddUp) -> None:
    """Mean square of H around the centres of the Gaussians of the bonds' lengths."""
    centres = model.architecture.bond.centres()
    sums = {kind: torch.zeros(2, len(centres), dtype=torch.float64) for kind in model.bonds}
    for n in range(min(len(graphs), MEMBERS_FOR_SCALE)):
        graph = graphs[n]
        between = model.between(graph)
        basis = gaussians(graph.edge_vec.to(torch.float64)[between].norm(dim=1), centres)
        labels = label_columns(model, graph)[between]
        for kind in model.bonds:
            bonds = model.bonds_of(graph, kind)
            if len(bonds.rows):
                squares = labels[bonds.rows].abs().square().mean(dim=1)
                sums[kind] += torch.stack([basis[bonds.rows].T @ squares, basis[bonds.rows].sum(dim=0)])
    add_up(list(sums.values()))
    for kind, (total, weight) in sums.items():
        if weight.sum():
            mean = (total + 1e-12 * total.sum()) / (weight + 1e-12 * weight.sum())
            getattr(model, f"scale_{kind[0]}_{kind[1]}").copy_(0.5 * mean.clamp(min=1e-30).log())


def add_member(model: ThreeCentre, graph: Any, systems: dict[Hashable, System]) -> None:
    """Add the rows of a labelled graph to those systems that are there, by (kind, key)."""
    labels, between, wanted = label_columns(model, graph), model.between(graph), one_direction(graph)
    frames, distances = model.geometry(graph)
    around = model.around(graph, frames, distances)
    for kind, outputs in model.bonds.items():
        everything = model.bonds_of(graph, kind)
        kept = wanted[between[everything.rows]]
        for part in torch.split(torch.nonzero(kept)[:, 0], ROWS_AT_A_TIME):
            bonds = everything.selected(part)
            own = model.frames_of(frames, bonds)
            basis, lengths = model.lengths(distances[bonds.rows])
            relative = labels[between[bonds.rows]] / model.scale(kind, basis)[:, None]
            values = outputs.encode(relative, own)
            for q in outputs.sectors:
                for m, parts in model.bond_parts(own, around, bonds, q).items():
                    if (kind, (q, m)) in systems:
                        rows = model.rows(parts, lengths, q, m)
                        systems[kind, (q, m)].add(rows.flatten(0, 1), values[q, m].flatten(0, 1))
    for species, site_outputs in enumerate(model.sites):
        rows = graph.loops[graph.species[graph.edge_index[0, graph.loops]] == species]
        if not len(rows):
            continue
        nearby = [A[graph.edge_index[0, rows]] for A in around]
        for key, value in site_outputs.encode(labels[rows]).items():
            if (species, key) in systems:
                on_site = model.site_values(nearby, *key)
                assert on_site is not None  # a system has features
                systems[species, key].add(on_site.flatten(0, 1).contiguous(), value.flatten(0, 1))
