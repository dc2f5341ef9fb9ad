"""Wigner 3j symbols and Wigner D matrices of real spherical harmonics, m = -l..l (l = 1 is y, z, x).

Both follow from the spherical harmonics alone and do not depend on the version of any library. The global sign of a
3j symbol is a convention; ours is that of e3nn from 0.5 on (`nn/reference.py` folds the older one into the weights),
and the tests compare with e3nn. They are made here because every prediction needs them: all up to l = 4 take 0.03 CPU
seconds, by e3nn 1.5 and 70 MiB, for torch's compiler comes along. Rotations are made without angles, which would cost
digits near the poles.
"""

from __future__ import annotations

from functools import cache
from math import factorial, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j3: int, m3: int) -> float:
    """<j1 m1 j2 m2 | j3 m3> by Racah's formula (Edmonds, Angular Momentum in Quantum Mechanics, eq. 3.6.11)."""
    if m3 != m1 + m2:
        return 0.0
    f = factorial
    # The prefactor under the root and the sum are exact integers and fractions until the last step.
    numerator = (2 * j3 + 1) * f(j3 + j1 - j2) * f(j3 - j1 + j2) * f(j1 + j2 - j3)
    numerator *= f(j3 + m3) * f(j3 - m3) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2)
    total = 0.0
    for k in range(max(0, j2 - j3 - m1, j1 - j3 + m2), min(j1 + j2 - j3, j1 - m1, j2 + m2) + 1):
        denominator = (
            f(k) * f(j1 + j2 - j3 - k) * f(j1 - m1 - k) * f(j2 + m2 - k) * f(j3 - j2 + m1 + k) * f(j3 - j1 - m2 + k)
        )
        total += (-1) ** k / denominator
    return total * sqrt(numerator / f(j1 + j2 + j3 + 1))


def _real_to_complex(l: int) -> NDArray[np.complex128]:
    """Rows: complex harmonics m = -l..l (Condon-Shortley); columns: real ones; with the phase (-i)^l of e3nn."""
    q = np.zeros((2 * l + 1, 2 * l + 1), dtype=np.complex128)
    q[l, l] = 1
    for m in range(1, l + 1):
        q[l - m, l + m], q[l - m, l - m] = 1 / sqrt(2), -1j / sqrt(2)
        q[l + m, l + m], q[l + m, l - m] = (-1) ** m / sqrt(2), 1j * (-1) ** m / sqrt(2)
    return (-1j) ** l * q


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    """Real 3j symbols with unit Frobenius norm, shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), read-only.

    :raises ValueError: the three l violate the triangle rule.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"no 3j symbol for l = {l1}, {l2}, {l3}")
    table = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1), dtype=np.complex128)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                table[l1 + m1, l2 + m2, l3 + m1 + m2] = _clebsch_gordan(l1, m1, l2, m2, l3, m1 + m2)
    q1, q2, q3 = map(_real_to_complex, (l1, l2, l3))
    # a, b, c: complex components; i, j, k: real components.
    real = np.einsum("ai,bj,ck,abc->ijk", q1, q2, q3.conj(), table)
    if np.abs(real.imag).max() > 1e-10:
        raise ValueError(f"3j symbol of l = {l1}, {l2}, {l3} is not real")
    symbol = real.real / np.linalg.norm(real.real)
    symbol.setflags(write=False)
    return symbol


def frame_rotations(vectors: Tensor) -> Tensor:
    """Rotations R with R v = |v| z for each vector, built without angles and so exact at the poles.

    :param vectors: shape (n, 3); a zero vector (an atom with itself) gets the identity.
    :returns: shape (n, 3, 3), float64.
    """
    v = vectors.to(torch.float64)
    length = v.norm(dim=1)
    rho = torch.hypot(v[:, 0], v[:, 1])
    on_axis = rho == 0
    one, zero = torch.ones_like(rho), torch.zeros_like(rho)
    cos_phi = torch.where(on_axis, one, v[:, 0] / torch.where(on_axis, one, rho))
    sin_phi = torch.where(on_axis, zero, v[:, 1] / torch.where(on_axis, one, rho))
    is_zero = length == 0
    cos_theta = torch.where(is_zero, one, v[:, 2] / torch.where(is_zero, one, length))
    sin_theta = torch.where(is_zero, zero, rho / torch.where(is_zero, one, length))
    rows = [cos_theta * cos_phi, cos_theta * sin_phi, -sin_theta, -sin_phi, cos_phi, zero]
    rows += [sin_theta * cos_phi, sin_theta * sin_phi, cos_theta]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def wigner_d(rotations: Tensor, lmax: int) -> list[Tensor]:
    """D_l(R) with Y_l(R v) = D_l(R) Y_l(v) for l = 0..lmax, by coupling D_1 and D_(l-1) to D_l.

    D_l = (2 l + 1) C^T (D_1 x D_(l-1)) C with C the 3j symbols (1, l-1, l): exact to rounding for any rotation.

    :param rotations: proper rotations, shape (n, 3, 3), float64.
    :returns: one tensor of shape (n, 2 l + 1, 2 l + 1) per l, float64.
    """
    n = len(rotations)
    order = [1, 2, 0]  # Cartesian (x, y, z) -> (y, z, x)
    result = [rotations.new_ones(n, 1, 1), rotations[:, order][:, :, order]]
    for l in range(2, lmax + 1):
        coupling = torch.tensor(wigner_3j(1, l - 1, l), dtype=rotations.dtype, device=rotations.device)
        coupling = coupling.reshape(-1, 2 * l + 1) * sqrt(2 * l + 1)
        d = 3 * (2 * l - 1)
        product = torch.einsum("nac,nbd->nabcd", result[1], result[l - 1]).reshape(n, d, d)
        result.append(coupling.T @ (product @ coupling))
    return result[: lmax + 1]


def component_order(l: int) -> list[int]:
    """Components m = 0, +1, -1, +2, -2, ... as indices into m = -l..l: the order inside an edge frame."""
    return [l] + [l + sign * m for m in range(1, l + 1) for sign in (1, -1)]


@cache
def _polar_basis(l: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """D_l of a rotation about y by -t as a sum over 1, cos t, sin t, cos 2t, ..., and with columns +-m exchanged.

    Rows and columns of D_l are in `component_order`; shape (2 l + 1, (2 l + 1)^2). A rotation about y is one about z,
    which only mixes +m with -m, seen from other axes: D(R_y) = K D(R_z) K^T with K = D of a quarter turn from z to y.
    """
    order = component_order(l)
    quarter = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]], dtype=torch.float64)
    k = wigner_d(quarter, l)[l][0].numpy()[order][:, order]
    result = np.zeros((2 * l + 1, 2 * l + 1, 2 * l + 1))
    result[0] = np.outer(k[:, 0], k[:, 0])
    for m in range(1, l + 1):
        plus, minus = k[:, 2 * m - 1], k[:, 2 * m]
        result[2 * m - 1] = np.outer(plus, plus) + np.outer(minus, minus)
        result[2 * m] = np.outer(plus, minus) - np.outer(minus, plus)
    swap = [0, *(n for m in range(1, l + 1) for n in (2 * m, 2 * m - 1))]
    return result.reshape(2 * l + 1, -1), result[:, :, swap].reshape(2 * l + 1, -1)


def _harmonics(cosine: Tensor, sine: Tensor, lmax: int) -> tuple[Tensor, Tensor]:
    """cos(m t) and sin(m t) for m = 0..lmax from those of t, both of shape (n, lmax + 1)."""
    cosines, sines = [torch.ones_like(cosine)], [torch.zeros_like(sine)]
    for _ in range(lmax):
        c, s = cosines[-1], sines[-1]
        cosines.append(c * cosine - s * sine)
        sines.append(s * cosine + c * sine)
    return torch.stack(cosines, dim=1), torch.stack(sines, dim=1)


def edge_wigner(vectors: Tensor, lmax: int, dtype: torch.dtype, edges_per_chunk: int = 8192) -> Tensor:
    """Rotations of features into the frame of each edge, whose z axis is the edge, l = 1..lmax side by side.

    Rows are the components of the edge frame, columns those of the laboratory, both in `component_order`.
    D_l = D_l(R_y(-theta)) D_l(R_z(-phi)): the first is one matrix product, the second mixes columns +m and -m.

    :param vectors: shape (n_edges, 3), Angstrom.
    :returns: shape (n_edges, sum of (2 l + 1)^2 over l = 1..lmax), computed in float64, stored as `dtype`.
    """
    result = vectors.new_empty((len(vectors), wigner_size(lmax)), dtype=dtype)
    for rows, part in zip(result.split(edges_per_chunk), vectors.split(edges_per_chunk), strict=True):
        rotation = frame_rotations(part)
        polar = _harmonics(rotation[:, 2, 2], -rotation[:, 0, 2], lmax)
        azimuth = _harmonics(rotation[:, 1, 1], -rotation[:, 1, 0], lmax)
        angles = torch.stack(polar, dim=2).flatten(1)[:, [0, *range(2, 2 * lmax + 2)]]
        cosine = torch.stack([azimuth[0], azimuth[0]], dim=2).flatten(1)[:, 1:]
        sine = torch.stack([-azimuth[1], azimuth[1]], dim=2).flatten(1)[:, 1:]
        start = 0
        for l in range(1, lmax + 1):
            d = 2 * l + 1
            basis, exchanged = (torch.as_tensor(table, device=part.device) for table in _polar_basis(l))
            about_y = (angles[:, :d] @ basis).view(-1, d, d) * cosine[:, None, :d]
            about_y += (angles[:, :d] @ exchanged).view(-1, d, d) * sine[:, None, :d]
            rows[:, start : start + d * d] = about_y.flatten(1)
            start += d * d
    return result


def wigner_size(lmax: int) -> int:
    """Columns of `edge_wigner`: the sum of (2 l + 1)^2 over l = 1..lmax."""
    return sum((2 * l + 1) ** 2 for l in range(1, lmax + 1))
