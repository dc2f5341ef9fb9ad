"""The reference's loss: mean |dH|^2 over all labelled entries, in eV^2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def squared_error(prediction: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of |H_predicted - H_label|^2 over all entries, a scalar in eV^2 (modulus squared where H is complex).

    :param prediction: shape (n_entries,), eV.
    :param label: shape (n_entries,), eV.
    :param weight: of each entry, shape (n_entries,); None counts all alike.
    """
    difference = prediction - label
    if weight is not None:
        difference = difference * weight.sqrt()
    if difference.is_complex():
        difference = torch.view_as_real(difference)
    return difference.square().sum()


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
