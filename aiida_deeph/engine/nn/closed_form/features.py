"""What H is linear in: equivariant functions of the surroundings of two atoms in the frame of their bond, or of one.

Surroundings of an atom: A_i(l, m, c, n) = sum over neighbours k of w_c(element of k) f_n(r_ik) Y_lm(r_ik). Off site,
for each |m| in the frame of the bond: h_p(r_ij) A_x(l, m, c, n) with x = i, j and l >= |m|, three centres each; between
atoms of one element in the combinations A_i + q (-1)^l A_j, see `targets`. To m = 0 and q >= 0 belong h_p(r_ij), two
centres. On site: A_i(J) itself (two centres) and products C^(l1 l2 J) A_i(l1) A_i(l2) (three centres).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from math import sqrt

import torch
from torch import Tensor

from aiida_deeph.engine.graph.wigner import component_order, edge_wigner, frame_rotations, wigner_3j, wigner_d

TWO_CENTRE, CONSTANT, LINEAR = 10.0, 10.0, 3.0
"""How large functions of the bond length, the constant on site and A_i(J) on site are beside three-centre features: the
prior hardly holds them."""


def rotations(vectors: Tensor, lmax: int) -> list[Tensor]:
    """D_l into the frame of each bond, rows and columns m = 0, +1, -1, ..., shape (n, 2 l + 1, 2 l + 1), float64.

    Any rotation that takes the bond to z will do: results do not depend on the angle about it.
    """
    if vectors.requires_grad:
        # An unlikely axis: the frame's derivative does not exist where the bond lies along it.
        axes, _ = torch.linalg.qr(torch.tensor([[3.0, 1, 2], [-1, 5, 1], [2, -1, 7]], dtype=torch.float64))
        axes = axes * torch.linalg.det(axes)
        orders = [component_order(l) for l in range(lmax + 1)]
        matrices = wigner_d(frame_rotations(vectors @ axes.T) @ axes, lmax)
        return [D[:, order][:, :, order] for D, order in zip(matrices, orders, strict=True)]
    flat, result, start = edge_wigner(vectors, lmax, torch.float64), [], 0
    for l in range(lmax + 1):
        d = 2 * l + 1
        result.append(flat[:, start : start + d * d].view(-1, d, d) if l else flat.new_ones(len(flat), 1, 1))
        start += d * d if l else 0
    return result


def surroundings(
    frames: Sequence[Tensor], functions: Tensor, source: Tensor, weights: Tensor, n_atoms: int, lmax: int
) -> list[Tensor]:
    """A of all atoms for l = 0..lmax, shape (n_atoms, 2 l + 1, n_channels * n_functions).

    :param frames: of the edges, see `rotations`: their rows m = 0 are the harmonics, |Y_l|^2 = 2 l + 1.
    :param functions: f_n of the edges' lengths, shape (n_edges, n_functions).
    :param source: atom i of each edge, shape (n_edges,).
    :param weights: w_c of the element of j, shape (n_edges, n_channels).
    """
    radial = (weights[:, :, None] * functions[:, None, :]).flatten(1)
    result = []
    for l in range(lmax + 1):
        terms = sqrt(2 * l + 1) * frames[l][:, 0, :, None].to(radial) * radial[:, None, :]
        result.append(radial.new_zeros(n_atoms, *terms.shape[1:]).index_add(0, source, terms))
    return result


def bond_surroundings(own: Sequence[Tensor], other: Sequence[Tensor], q: int, mmax: int) -> dict[int, Tensor]:
    """Surroundings of both atoms in the frame of their bond by |m|, shape (2, n, n_features): +m, -m; for 0 (1, ...).

    :param own: of atom i in the frame, shape (n, 2 l + 1, n_channels) for each l; `other` of atom j.
    :param q: symmetry under exchange of the atoms; 0 keeps them apart.
    """
    found: dict[int, list[Tensor]] = {m: [] for m in range(mmax + 1)}
    for l, (first, second) in enumerate(zip(own, other, strict=True)):
        parts = [first + q * (-1) ** l * second] if q else [first, second]
        for m in range(min(l, mmax) + 1):
            rows = slice(0, 1) if m == 0 else slice(2 * m - 1, 2 * m + 1)
            found[m] += [part[:, rows].transpose(0, 1) for part in parts]
    return {m: torch.cat(parts, dim=2) for m, parts in found.items() if parts}


def times_length(features: Tensor, lengths: Tensor, two_centre: bool) -> Tensor:
    """Products of all functions of the bond length with all surroundings, shape (1 or 2, n, n_products).

    :param lengths: h_p of the bonds' lengths, shape (n, n_lengths).
    :param two_centre: whether these functions alone are features, too, behind the products.
    """
    products = (lengths[None, :, :, None] * features[:, :, None, :]).flatten(2)
    return torch.cat([products, TWO_CENTRE * lengths[None]], dim=2) if two_centre else products


def bond_products(first: dict[int, Tensor], second: dict[int, Tensor] | None, mmax: int) -> dict[int, list[Tensor]]:
    """Products of two surroundings in the frame of a bond by |m|, each of shape (2, n, n_products), (1, ...) for 0.

    cos(m1 +- m2) = cos cos -+ sin sin, sin(m1 +- m2) = sin cos +- cos sin; the products that are odd under reflection
    although m = 0 are left out.

    :param first: see `bond_surroundings`; `second` likewise, None stands for the same one, each product once.
    """
    found: dict[int, list[Tensor]] = {}
    for m1, x in first.items():
        for m2, y in (first if second is None else second).items():
            if second is None and m2 < m1:
                continue
            alike = second is None and m1 == m2
            for sign in (1, -1) if m1 and m2 else (1,):
                m = abs(m1 + sign * m2)
                if m > mmax:
                    continue
                cosine = _outer(x[0], y[0], alike)
                if m1 and m2:
                    cosine = cosine - sign * _outer(x[1], y[1], alike)
                parts = [cosine]
                if m:
                    sine = [_outer(x[1], y[0], alike)] if m1 else []
                    sine += [sign * _outer(x[0], y[1], alike)] if m2 else []
                    total = sum(sine[1:], sine[0])
                    parts.append(-total if m1 + sign * m2 < 0 else total)
                found.setdefault(m, []).append(torch.stack(parts))
    return found


def _outer(x: Tensor, y: Tensor, alike: bool) -> Tensor:
    """Products of all pairs of channels, shape (n, n_products); of each pair once if both are alike."""
    if not alike:
        return (x[:, :, None] * y[:, None, :]).flatten(1)
    a, b = torch.triu_indices(x.shape[1], y.shape[1], device=x.device)
    return x[:, a] * y[:, b]


@cache
def _coupling(l1: int, l2: int, J: int) -> Tensor:
    symbol = torch.tensor(wigner_3j(l1, l2, J))
    return symbol[component_order(l1)][:, component_order(l2)][:, :, component_order(J)]


def site_features(A: Sequence[Tensor], J: int, natural: bool) -> Tensor | None:
    """Features of the atoms' own blocks, shape (2 J + 1, n, n_features), None if there are none.

    :param A: surroundings of the atoms, shape (n, 2 l + 1, n_channels) for each l.
    :param natural: parity (-1)^J, else the other.
    """
    found = []
    if natural and len(A) > J:
        found.append(LINEAR * A[J])
    if natural and J == 0:
        found.append(torch.full_like(A[0][:, :, :1], CONSTANT))
    for l1 in range(len(A)):
        for l2 in range(l1, min(l1 + J, len(A) - 1) + 1):
            if l1 + l2 < J or ((l1 + l2 + J) % 2 == 0) != natural:
                continue
            product = torch.einsum("abm,nax,nby->nmxy", _coupling(l1, l2, J).to(A[l1]), A[l1], A[l2])
            if l1 == l2:  # symmetric in both factors for natural parity, else antisymmetric
                x, y = torch.triu_indices(
                    product.shape[2], product.shape[3], 0 if natural else 1, device=product.device
                )
                found.append(product[:, :, x, y])
            else:
                found.append(product.flatten(2))
    return torch.cat(found, dim=2).transpose(0, 1) if found else None


def site_triples(A: Sequence[Tensor], J: int, natural: bool) -> list[Tensor]:
    """Products of three surroundings of the atoms, four centres, shapes (2 J + 1, n, n_features).

    C^(k l3 J) (C^(l1 l2 k) A(l1) A(l2)) A(l3), l1 <= l2 <= l3, every set of channels once.

    :param A: see `site_features`, with few l and channels.
    """
    found = []
    n = A[0].shape[2]
    for l1, l2, l3 in combinations_with_replacement(range(len(A)), 3):
        if ((l1 + l2 + l3 + J) % 2 == 0) != natural:
            continue
        x, y, z = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(n)] * 3, indexing="ij"))
        kept = ((x <= y) | (l1 != l2)) & ((y <= z) | (l2 != l3))
        x, y, z = x[kept], y[kept], z[kept]
        for k in range(max(l2 - l1, abs(l3 - J)), min(l1 + l2, l3 + J) + 1):
            pair = torch.einsum("abm,nax,nbx->nmx", _coupling(l1, l2, k).to(A[0]), A[l1][:, :, x], A[l2][:, :, y])
            triple = torch.einsum("abm,nax,nbx->mnx", _coupling(k, l3, J).to(A[0]), pair, A[l3][:, :, z])
            found.append(triple)
    return found
