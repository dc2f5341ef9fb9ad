"""The gate of the convolution: scalars are activated, other irreps are multiplied by activated scalars of their own.

As in e3nn's Gate, activations are scaled so that a normal variable keeps a second moment of 1. The factors that
depend on the distance are multiplied in the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.linear import SCALAR
from aiida_deeph.engine.nn.equivariant.module import Function

# Factors that e3nn computes for silu, tanh and sigmoid, and that the reference uses.
SILU_FACTOR = 1.6791767923989418
TANH_FACTOR = 1.5937334472592695
SIGMOID_FACTOR = 1.8467055342154763


def gate(layout: FeatureLayout, factors: Tensor, z: Sequence[Tensor]) -> Features:
    """Gated features.

    :param layout: of the result.
    :param factors: of all channels of S and V_0, shape (n_edges, n_channels).
    :param z: z_0 with scalars, gates and V_0 side by side, shape (n_edges, n_scalars + 2 n_vectors), then V_1, V_2, ...
    """
    return list(_Gate.apply(layout, factors, *z))


def _activated(layout: FeatureLayout, s: Tensor) -> Tensor:
    if all(layout.irreps[k].irrep == SCALAR for k in layout.scalars):
        return torch.nn.functional.silu(s).mul_(SILU_FACTOR)
    parts = s.split([layout.irreps[k].mul for k in layout.scalars], dim=1)
    return torch.cat(
        [
            torch.nn.functional.silu(part).mul_(SILU_FACTOR)
            if layout.irreps[k].irrep == SCALAR
            else torch.tanh(part).mul_(TANH_FACTOR)
            for k, part in zip(layout.scalars, parts, strict=True)
        ],
        dim=1,
    )


def _activated_backward(layout: FeatureLayout, s: Tensor, grad: Tensor) -> Tensor:
    if all(layout.irreps[k].irrep == SCALAR for k in layout.scalars):
        result: Tensor = torch.ops.aten.silu_backward(grad, s).mul_(SILU_FACTOR)
        return result
    muls = [layout.irreps[k].mul for k in layout.scalars]
    return torch.cat(
        [
            torch.ops.aten.silu_backward(g, part).mul_(SILU_FACTOR)
            if layout.irreps[k].irrep == SCALAR
            else torch.ops.aten.tanh_backward(g, torch.tanh(part)).mul_(TANH_FACTOR)
            for k, part, g in zip(layout.scalars, s.split(muls, dim=1), grad.split(muls, dim=1), strict=True)
        ],
        dim=1,
    )


class _Gate(Function):
    """See `gate`."""

    @staticmethod
    def forward(ctx: Any, layout: FeatureLayout, factors: Tensor, *z: Tensor) -> tuple[Tensor, ...]:
        n_s, n_v = layout.n_scalars, layout.n_channels(0)
        result = [_activated(layout, z[0][:, :n_s]).mul_(factors[:, :n_s])]
        gates = torch.sigmoid(z[0][:, n_s : n_s + n_v])
        ctx.layout = layout
        ctx.save_for_backward(factors, gates, *z)
        if n_v:
            scale = (gates * factors[:, n_s:]).mul_(SIGMOID_FACTOR)
            result.append((z[0][:, n_s + n_v :] * scale).unsqueeze(1))
            result += [z[m] * scale[:, None, layout.skipped(m) :] for m in range(1, layout.lmax + 1)]
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        layout = ctx.layout
        factors, gates, *z = ctx.saved_tensors
        n_s, n_v = layout.n_scalars, layout.n_channels(0)
        s, f_s, f_v = z[0][:, :n_s], factors[:, :n_s], factors[:, n_s:]
        grad_factors, grad_z0 = torch.empty_like(factors), torch.empty_like(z[0])
        torch.mul(grads[0], _activated(layout, s), out=grad_factors[:, :n_s])
        grad_z0[:, :n_s] = _activated_backward(layout, s, grads[0] * f_s)
        if not n_v:
            return None, grad_factors, grad_z0
        scale = (gates * f_v).mul_(SIGMOID_FACTOR)
        grad_scale = grads[1][:, 0] * z[0][:, n_s + n_v :]
        torch.mul(grads[1][:, 0], scale, out=grad_z0[:, n_s + n_v :])
        grad_z = []
        for m in range(1, layout.lmax + 1):
            skipped = layout.skipped(m)
            grad_z.append(grads[1 + m] * scale[:, None, skipped:])
            for sign in (0, 1):
                grad_scale[:, skipped:].addcmul_(grads[1 + m][:, sign], z[m][:, sign])
        torch.mul(grad_scale, gates, out=grad_factors[:, n_s:])
        grad_factors[:, n_s:] *= SIGMOID_FACTOR
        torch.mul(grad_scale, scale.addcmul_(scale, gates, value=-1), out=grad_z0[:, n_s : n_s + n_v])
        return None, grad_factors, grad_z0, *grad_z
