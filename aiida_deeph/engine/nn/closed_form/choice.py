"""Whether four centres predict better than three: errors of structures that are left out of the fit, by folds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from aiida_deeph.engine.nn.closed_form.architecture import product_count
from aiida_deeph.engine.nn.closed_form.fit import System, add_member, fit_scale
from aiida_deeph.engine.nn.closed_form.model import ThreeCentre

FOLDS = 3
RIDGES = (1e-12, 1e-10, 1e-8, 1e-6)
"""As fractions of the largest diagonal entry of X^T X."""


@torch.no_grad()
def left_out_errors(
    model: ThreeCentre, graphs: Sequence[Any], add_up: Callable[[Iterable[Tensor]], None] = lambda tensors: None
) -> tuple[float, float]:
    """Root mean square errors of structures that were left out, without and with products of surroundings.

    Relative to the size of H, of the components m = 0 between atoms, each pair of elements with a ridge of its own;
    from the normal equations of the folds alone, of which features of three centres are the leading part.

    :param model: with products; its scale of H is set.
    :param graphs: see `fit`; every third structure belongs to one fold.
    """
    fit_scale(model, graphs, add_up)
    sectors = {kind: (max(outputs.sectors), 0) for kind, outputs in model.bonds.items()}
    folds: list[dict[Hashable, System]] = [
        {
            (kind, key): System.empty(model.n_bond_features(*key), model.bonds[kind].n_outputs(*key))
            for kind, key in model.bond_systems()
            if sectors[kind] == key
        }
        for _ in range(FOLDS)
    ]
    for n in range(len(graphs)):
        add_member(model, graphs[n], folds[n % FOLDS])
    for fold in folds:
        for system in fold.values():
            add_up(system.tensors())
    squares, n_values = [0.0, 0.0], 0.0
    for kind, key in sectors.items():
        own = [fold[kind, key] for fold in folds]
        if not all(float(system.count) for system in own):
            continue
        three = len(own[0].right) - product_count(model.architecture, *key)
        n_values += sum(float(system.count) * len(system.squares) for system in own)
        for order, n_features in enumerate((three, len(own[0].right))):
            squares[order] += _squares_left(own, n_features)
    three_centre, four_centre = ((total / max(n_values, 1.0)) ** 0.5 for total in squares)
    return three_centre, four_centre


def _squares_left(folds: Sequence[System], n: int) -> float:
    """Sum of squared errors of every fold, fitted to the others with the first n features, at the best ridge."""
    matrices = []
    for fold in folds:
        upper = torch.from_numpy(fold.matrix)[:n, :n]
        matrices.append(torch.triu(upper) + torch.triu(upper, 1).T)
    everything = sum(matrices[1:], matrices[0])
    right = sum((fold.right[:n] for fold in folds[1:]), folds[0].right[:n])
    totals = torch.zeros(len(RIDGES), dtype=torch.float64)
    for fold, matrix in zip(folds, matrices, strict=True):
        rest, target, own = everything - matrix, right - fold.right[:n], fold.right[:n]
        largest = rest.diagonal().max().clamp(min=1e-300)
        for number, ridge in enumerate(RIDGES):
            shifted = rest + ridge * largest * torch.eye(n, dtype=torch.float64)
            factor, failed = torch.linalg.cholesky_ex(shifted)
            if int(failed):
                totals[number] = torch.inf
                continue
            c = torch.cholesky_solve(target, factor)
            totals[number] += float((fold.squares - 2 * (c * own).sum(dim=0) + (c * (matrix @ c)).sum(dim=0)).sum())
    return float(totals.min())
