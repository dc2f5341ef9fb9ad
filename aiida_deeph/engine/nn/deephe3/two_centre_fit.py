"""Fit of the two-centre part to labelled graphs: least squares, a small linear system per pair of elements, shells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from aiida_deeph.engine.nn.deephe3.two_centre import Bonds, TwoCentre
from aiida_deeph.engine.nn.network import AddUp

RIDGE = 1e-3
"""Added to the diagonal of the normal equations: functions that no pair of the data supports vanish."""
SMALLEST_SCALE = 0.03
"""As a fraction of the mean one: no output is shut off."""


@torch.no_grad()
def fit_two_centre(model: TwoCentre, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> None:
    """Set all coefficients of `model`, on the CPU.

    :param graphs: with `label` and `entry_index`; gone through twice.
    :param add_up: replaces tensors by their sums over all processes, if others hold other graphs.
    """
    for (name, row), (matrix, right) in _equations(model, graphs, add_up).items():
        coefficients = torch.linalg.solve(matrix + RIDGE * torch.eye(len(matrix), dtype=matrix.dtype), right)
        getattr(model, name)[row] = coefficients.to(getattr(model, name).dtype)
    fit_scale(model, graphs, add_up)


@torch.no_grad()
def fit_on_site(model: TwoCentre, graphs: Sequence[Any], add_up: AddUp = lambda tensors: None) -> None:
    """Set the constants of the blocks on the atoms, L = 0, to their means and the scale to their spread, by element.

    :param graphs: with `label` and `entry_index`; gone through twice.
    :param add_up: replaces tensors by their sums over all processes, if others hold other graphs.
    """
    for (name, row), (matrix, right) in _equations(model, graphs, add_up, constants_only=True).items():
        # The last feature is the constant 1.
        getattr(model, name)[row, -1] = (right / matrix).to(getattr(model, name).dtype)[0]
    fit_scale(model, graphs, add_up, sites_only=True)


def _equations(
    model: TwoCentre, graphs: Sequence[Any], add_up: AddUp, *, constants_only: bool = False
) -> dict[tuple[str, int], list[Tensor]]:
    """The normal equations (X^T X) c = X^T y of each (buffer, row) over all graphs of all processes.

    :param constants_only: of the blocks on the atoms, without their neighbours and without other blocks.
    """
    systems: dict[tuple[str, int], list[Tensor]] = {}
    for k, L in model.components():
        names = ("site",) if constants_only else ("bond", "site")
        for name in names if L == 0 or not constants_only else ():
            n_rows, n_features, n_values = getattr(model, f"{name}_{k}_{L}").shape
            size = 1 if constants_only else n_features
            for row in range(n_rows):
                zeros = (torch.zeros(size, n, dtype=torch.float64) for n in (size, n_values))
                systems[f"{name}_{k}_{L}", row] = list(zeros)
    for graph in graphs:
        _add_equations(model, graph, systems, constants_only=constants_only)
    add_up([tensor for system in systems.values() for tensor in system])
    return systems


def _label_columns(model: TwoCentre, graph: Any) -> Tensor:
    """Labels at their places among the outputs, zeros where a pair has no such block; shape (n_edges, n_columns)."""
    n_edges = graph.edge_index.shape[1]
    columns: Tensor = graph.label.new_zeros(n_edges * model.layout.n_columns)
    columns[graph.entry_index] = graph.label
    return columns.view(n_edges, -1)


def _add_equations(
    model: TwoCentre, graph: Any, systems: dict[tuple[str, int], list[Tensor]], *, constants_only: bool = False
) -> None:
    """Add a graph to the normal equations."""

    def add(name: str, row: int, features: Tensor, values: Tensor) -> None:
        for total, term in zip(systems[name, row], (features.T @ features, features.T @ values), strict=True):
            total += term

    bonds, labels = Bonds.of(graph), _label_columns(model, graph)
    functions = model.functions(bonds)
    surroundings = model.surroundings(bonds, functions)
    for k, L in model.components():
        if constants_only and L:
            continue
        l1, l2, members = model.classes[k]
        parts = [
            torch.stack([labels[:, model.columns_of(target, s)].real for target in members], dim=1)
            for s in model.spin_diagonal
        ]
        blocks = torch.stack(parts).to(torch.float64).mean(dim=0).view(-1, len(members), 2 * l1 + 1, 2 * l2 + 1)
        t = (2 * L + 1) * torch.einsum("abm,ncab->ncm", model.coupling(k, L, blocks), blocks)
        for kind, rows in enumerate([] if constants_only else functions.rows):
            along = (t[rows] * functions.harmonics[L][rows][:, None]).sum(dim=2) / (2 * L + 1)
            add(f"bond_{k}_{L}", kind, functions.gaussians[rows], along)
        for species, rows in enumerate(functions.sites):
            features = model.site_features(surroundings[L][bonds.source[rows]])
            features = features[:, :, -1:] if constants_only else features
            add(f"site_{k}_{L}", species, features.flatten(0, 1), t[rows].transpose(1, 2).flatten(0, 1))


@torch.no_grad()
def fit_scale(
    model: TwoCentre,
    graphs: Sequence[Any],
    add_up: AddUp,
    *,
    sites_only: bool = False,
    below: Callable[[Any], Tensor] | None = None,
) -> None:
    """Root mean square of what is left: on the atoms, and around each centre of the Gaussians.

    :param below: columns of what else is taken from the labels, shape (n_edges, n_columns), eV.
    """
    bond, bond_weight = (torch.zeros(model.bond_scale.shape, dtype=torch.float64) for _ in range(2))
    site, site_weight = (torch.zeros(model.site_scale.shape, dtype=torch.float64) for _ in range(2))
    n_blocks = model.layout.n_spin_blocks
    for graph in graphs:
        bonds = Bonds.of(graph)
        functions = model.functions(bonds)
        known = model.columns(bonds, functions)[0]
        if below is not None:
            known = known + below(graph)
        rest = (_label_columns(model, graph) - known).abs().square()
        means = [
            torch.cat([rest[:, model.columns_of(target, s)] for s in range(n_blocks)], dim=1).mean(dim=1)
            for target in range(len(model.layout.targets))
        ]
        squares = torch.stack(means, dim=1)
        for kind, rows in enumerate([] if sites_only else functions.rows):
            bond[kind] += functions.gaussians[rows].T @ squares[rows]
            bond_weight[kind] += functions.gaussians[rows].sum(dim=0)[:, None]
        for species, rows in enumerate(functions.sites):
            site[species] += squares[rows].sum(dim=0)
            site_weight[species] += len(rows)
    add_up([bond, bond_weight, site, site_weight])
    mean = sqrt(float((bond.sum() + site.sum()) / (bond_weight.sum() + site_weight.sum()).clamp(min=1)))
    parts = [(model.bond_scale, bond, bond_weight), (model.site_scale, site, site_weight)]
    for buffer, total, weight in parts[1:] if sites_only else parts:
        # Around centres without any pair the mean stands in.
        scale = torch.sqrt((total + 1e-9 * mean**2) / (weight + 1e-9))
        buffer.copy_(scale.clamp(min=SMALLEST_SCALE * mean) if mean else torch.ones_like(scale))
