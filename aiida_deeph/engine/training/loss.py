"""The loss, which is mean |dH|^2 in eV^2 unless another one is configured; and the errors that are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.graph.build import HamiltonianGraph
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.training.config import LossConfig
from aiida_deeph.engine.units import HARTREE_TO_EV

PLAIN = LossConfig()


def summed_loss(prediction: Tensor, label: Tensor, weight: Tensor | None = None, config: LossConfig = PLAIN) -> Tensor:
    """Sum over all entries of |H_predicted - H_label|^2, or of what is configured, a scalar.

    :param prediction: shape (n_entries,), eV, perhaps complex.
    :param label: shape (n_entries,), eV.
    :param weight: of each entry, shape (n_entries,); None counts all alike.
    """
    difference = prediction - label
    unit = HARTREE_TO_EV if config.unit == "Hartree" else 1.0
    if config.absolute:
        size = difference.abs() / unit
        terms = config.squared * size.square() + config.absolute * size
        return (terms if weight is None else terms * weight).sum()
    if weight is not None:
        difference = difference * weight.sqrt()
    if difference.is_complex():
        difference = torch.view_as_real(difference)
    return difference.square().sum() * (config.squared / unit**2)


@dataclass
class ErrorSums:
    """Errors summed over entries; float64 tensors on the device of the network, so that no batch waits for the host.

    :param sums: squared error (eV^2), absolute error (eV) and number of entries, shape (3,).
    """

    sums: Tensor

    @classmethod
    def zeros(cls, device: torch.device | str = "cpu") -> ErrorSums:
        """Nothing summed yet."""
        return cls(torch.zeros(3, dtype=torch.float64, device=device))

    def add(self, prediction: Tensor, label: Tensor) -> None:
        """Add the errors of one batch, both of shape (n_entries,), eV."""
        absolute = (prediction.detach() - label).abs().to(torch.float64)
        # Values from the host would stall a GPU at every step, hence ones_like instead of the length.
        self.sums += torch.stack([absolute.square().sum(), absolute.sum(), torch.ones_like(absolute).sum()])

    @property
    def loss(self) -> float:
        """Mean |dH|^2, eV^2."""
        return float(self.sums[0] / self.sums[2])

    @property
    def mae(self) -> float:
        """Mean |dH|, eV."""
        return float(self.sums[1] / self.sums[2])


LARGEST_RATIO = 1e4
"""Pairs of shells whose mean square is smaller than the largest one by more than this count as that small."""


def orbital_weights(layout: EntryLayout, graphs: Iterable[HamiltonianGraph], power: float) -> Tensor:
    """Weight of each column of the network's output, shape (n_columns,): <|x|^2>^-power over its pair of shells.

    x is what the network has to learn: the label, without the part that a graph holds as `base`. The weights average
    to 1 over the entries of all graphs.

    :param graphs: for training, with `label` and `entry_index`.
    :param power: 0 treats all entries alike, 1 all pairs of shells.
    """
    sums, counts = (torch.zeros(layout.n_columns, dtype=torch.float64) for _ in range(2))
    for graph in graphs:
        column = graph.entry_index % layout.n_columns
        squares = (graph.label - getattr(graph, "base", 0)).abs().double().square()
        sums.index_add_(0, column, squares)
        counts.index_add_(0, column, torch.ones_like(squares))
    target = _target_of_column(layout)
    n_targets = len(layout.targets)
    total, number = (torch.zeros(n_targets, dtype=torch.float64).index_add_(0, target, x) for x in (sums, counts))
    mean = total / number.clamp(min=1)
    weight = mean.clamp(min=float(mean.max()) / LARGEST_RATIO).pow(-power) if mean.max() > 0 else mean + 1
    weight = weight * number.sum() / (weight * number).sum()
    return weight[target]


def _target_of_column(layout: EntryLayout) -> Tensor:
    target = torch.empty(layout.n_columns, dtype=torch.int64)
    for n, (first, t) in enumerate(zip(layout.first_columns.tolist(), layout.targets, strict=False)):
        target[first : first + layout.n_spin_blocks * (2 * t.l1 + 1) * (2 * t.l2 + 1)] = n
    return target


def weigher(weights: Tensor) -> Callable[[HamiltonianGraph], HamiltonianGraph]:
    """A function that stores the weight of each entry in a graph, as `loss_weight`.

    :param weights: see `orbital_weights`.
    """

    def weigh(graph: HamiltonianGraph) -> HamiltonianGraph:
        real = graph.label.real if graph.label.is_complex() else graph.label
        graph.loss_weight = weights[graph.entry_index % len(weights)].to(real.dtype)
        return graph

    return weigh


def site_weigher(graphs: Iterable[HamiltonianGraph], share: float) -> Callable[[HamiltonianGraph], HamiltonianGraph]:
    """A function that scales the weights of a graph's entries, so that those on site have a share of the whole.

    :param graphs: for training, with the weights that they have already; gone through once.
    :param share: of the sum of all weights that falls on the blocks on the atoms, in (0, 1).
    :raises DataError: no entry is on site, or all are.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for graph in graphs:
        on_site, weight = _on_site(graph), _weight(graph).double()
        sums += torch.stack([weight[on_site].sum(), weight[~on_site].sum()])
    if not sums.all():
        raise DataError("nothing to share the loss with", where="loss.on_site", expected="blocks on and between atoms")
    of_sites, of_bonds = (sums.sum() * torch.tensor([share, 1 - share]) / sums).tolist()

    def weigh(graph: HamiltonianGraph) -> HamiltonianGraph:
        weight = _weight(graph)
        graph.loss_weight = torch.where(_on_site(graph), weight * of_sites, weight * of_bonds)
        return graph

    return weigh


def _on_site(graph: HamiltonianGraph) -> Tensor:
    """Which entries belong to an atom's own block, shape (n_entries,)."""
    is_loop = torch.zeros(graph.edge_index.shape[1], dtype=torch.bool)
    is_loop[graph.loops] = True
    return is_loop[graph.entry_index // graph.n_columns]


def _weight(graph: HamiltonianGraph) -> Tensor:
    """Weight of each entry so far, shape (n_entries,)."""
    real = graph.label.real if graph.label.is_complex() else graph.label
    return graph.loss_weight if "loss_weight" in graph else torch.ones_like(real)


def weigh_structure(graph: HamiltonianGraph) -> HamiltonianGraph:
    """Divide the weight of each entry by their number, so that every structure counts alike."""
    graph.loss_weight = _weight(graph) / len(graph.label)
    return graph
