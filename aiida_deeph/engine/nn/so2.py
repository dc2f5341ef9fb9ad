"""The equivariant convolution as SO(2) products in the frame of each edge.

The reference couples features x with the spherical harmonics Y of the edge by e3nn's tensor product
z_(w,k) = sum_p sqrt(a_p) sum_u W1[u,w] W2[w] sum_(i,j) w3j[i,j,k] x_(u,i) Y_j (Gong et al., Nat. Commun. 14, 2848 (2023), eq. 4).
In a frame whose z axis is the edge only Y_(l,0) = sqrt(2 l + 1) remains, so that the sum over paths becomes one matrix per
|m| (Passaro & Zitnick, ICML 2023, section 4): the same function of the same weights at a fraction of the cost.

Irreps of unnatural parity are stored in the edge frame with their components +m and -m exchanged, (u_-m, -u_m). Then every
product whose parities agree is the same matrix for +m and -m; only networks that ignore parity also mix +m with -m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.wigner import component_order, wigner_3j
from aiida_deeph.engine.nn.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.linear import Normalization, path_factor
from aiida_deeph.engine.nn.module import EngineModule, Features


@dataclass(frozen=True)
class ProductPath:
    """One path of the tensor product: entry `i_in` times Y_l2 into entry `i_out`, in the order of e3nn's lists."""

    i_in: int
    l2: int
    i_out: int
    factor: float


def product_paths(
    irreps_in: Irreps, irreps_sh: Irreps, irreps_out: Irreps, normalization: Normalization
) -> list[ProductPath]:
    """All paths, the input entry outermost, the output entry innermost, each with sqrt(a_p (2 l_out + 1))."""
    triples = [
        (i, l2, o)
        for i, (_, ir1) in enumerate(irreps_in)
        for l2, (_, ir2) in enumerate(irreps_sh)
        for o, (_, ir3) in enumerate(irreps_out)
        if ir1.couples(ir2, ir3)
    ]
    fans: dict[int, list[int]] = {}
    for i, _, o in triples:
        fans.setdefault(o, []).append(irreps_in[i].mul)
    return [
        ProductPath(i, l2, o, path_factor(fans[o], irreps_in[i].mul, normalization) * sqrt(irreps_out[o].irrep.dim))
        for i, l2, o in triples
    ]


def frame_basis(irrep: Irrep, ignore_parity: bool) -> NDArray[np.float64]:
    """Rows: components stored in the edge frame, m = 0, +1, -1, ...; columns: m = -l..l."""
    rows = np.eye(irrep.dim)[component_order(irrep.l)]
    if not irrep.natural and not ignore_parity:
        for m in range(1, irrep.l + 1):
            rows[2 * m - 1], rows[2 * m] = rows[2 * m].copy(), -rows[2 * m - 1]
    return rows


def couplings(ir1: Irrep, l2: int, ir3: Irrep, ignore_parity: bool) -> NDArray[np.complex128]:
    """sqrt(2 l2 + 1) w3j[., 0, .] in the frame's components: one number a + i b per m = 0..min(l1, l3).

    The product of m > 0 is z_+ = a x_+ - b x_-, z_- = b x_+ + a x_-.
    """
    q1, q3 = frame_basis(ir1, ignore_parity), frame_basis(ir3, ignore_parity)
    table = sqrt(2 * l2 + 1) * q1 @ wigner_3j(ir1.l, l2, ir3.l)[:, l2, :] @ q3.T
    result = [complex(table[0, 0])]
    for m in range(1, min(ir1.l, ir3.l) + 1):
        plus, minus = 2 * m - 1, 2 * m
        result.append(complex(table[plus, plus], table[plus, minus]))
    return np.array(result)


@dataclass(frozen=True)
class _Group:
    """Paths that share the irreps of input and output: weights of shape (n_l2, rows, columns), `start` their place."""

    ir_in: int
    ir_out: int
    l2: tuple[int, ...]
    start: int
    start_scale: int


class SO2Product(EngineModule):
    """The tensor product of several features with the spherical harmonics of the edge, in the edge frame.

    Its weights W1 and W2 lie in one parameter: W1 ordered as [irrep of the input][irrep of the output][l2][u][w] with the
    channels u of all inputs of that irrep side by side, then W2 as [...][l2][input entry][w].

    :param irreps_in: irreps of each input (source node, target node, edge).
    :param irreps_sh: spherical harmonics of the edge, one channel each.
    :param irreps_out: sorted and simplified; all of it reachable.
    """

    def __init__(
        self,
        irreps_in: Sequence[Irreps],
        irreps_sh: Irreps,
        irreps_out: Irreps,
        *,
        normalization: Normalization = "path",
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_sh, self.irreps_out = tuple(irreps_in), irreps_sh, irreps_out
        joined = Irreps(entry for irreps in irreps_in for entry in irreps)
        self.ignore_parity = all(ir.p == 1 for ir in irreps_sh.irreps()) and irreps_sh.lmax > 0
        self.paths = product_paths(joined, irreps_sh, irreps_out, normalization)
        if {path.i_out for path in self.paths} != set(range(len(irreps_out))):
            raise InputError("convolution has outputs that nothing reaches", where="irreps_out", found=irreps_out)
        # Inputs of equal irrep lie side by side, in the order of the entries; (input, entry, irrep, mul) of each.
        flat = [(part, k) for part, irreps in enumerate(irreps_in) for k in range(len(irreps))]
        self.in_irreps = sorted({ir for ir in joined.irreps()})
        self.in_entries = {ir: [n for n, (_, other) in enumerate(joined) if other == ir] for ir in self.in_irreps}
        self.in_places = {ir: [flat[n] for n in self.in_entries[ir]] for ir in self.in_irreps}
        self.in_mul = {ir: sum(joined[n].mul for n in self.in_entries[ir]) for ir in self.in_irreps}
        self.joined = joined
        self._plan()

    def _plan(self) -> None:
        """Lay out the weights and the per-|m| matrices."""
        lmax = min(max(ir.l for ir in self.in_irreps), self.irreps_out.lmax)
        self.mmax = lmax
        self.rows = [[ir for ir in self.in_irreps if ir.l >= m] for m in range(lmax + 1)]
        self.columns = [[o for o, (_, ir) in enumerate(self.irreps_out) if ir.l >= m] for m in range(lmax + 1)]
        self.sizes = [
            (sum(self.in_mul[ir] for ir in rows), sum(self.irreps_out[o].mul for o in cols))
            for rows, cols in zip(self.rows, self.columns, strict=True)
        ]
        by_key = {(path.i_in, path.l2, path.i_out): path for path in self.paths}
        groups, scale, scale_index, start, start_scale = [], [], [], 0, 0
        tables: list[NDArray[np.complex128]] = []
        self.path_slices: dict[tuple[int, int, int], tuple[Any, Any]] = {}
        for ir in self.in_irreps:
            entries = self.in_entries[ir]
            for o, (mul_out, ir_out) in enumerate(self.irreps_out):
                l2s = tuple(l2 for l2 in range(len(self.irreps_sh)) if (entries[0], l2, o) in by_key)
                if not l2s:
                    continue
                groups.append(_Group(self.in_irreps.index(ir), o, l2s, start, start_scale))
                tables.append(np.stack([couplings(ir, l2, ir_out, self.ignore_parity) for l2 in l2s], axis=1))
                for l2 in l2s:
                    for n in entries:
                        size = self.joined[n].mul * mul_out
                        self.path_slices[n, l2, o] = (
                            slice(start, start + size),
                            slice(start_scale, start_scale + mul_out),
                        )
                        scale.append(np.full(size, by_key[n, l2, o].factor))
                        scale_index.append(np.tile(np.arange(start_scale, start_scale + mul_out), self.joined[n].mul))
                        start, start_scale = start + size, start_scale + mul_out
        self.groups, self.n_first, self.n_second = groups, start, start_scale
        self.mixes_signs = any(np.abs(table.imag).max() > 1e-12 for table in tables)
        self.weight = nn.Parameter(torch.randn(start + start_scale))
        self.constant("scale", np.concatenate(scale))
        self.constant("scale_index", np.concatenate(scale_index).astype(np.int64))
        for n, table in enumerate(tables):
            self.constant(f"table_{n}", np.concatenate([table.real, table.imag]) if self.mixes_signs else table.real)

    def path_weights(self, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
        """W1 of shape (mul_in, mul_out) and W2 of shape (1, mul_out) of each path, in e3nn's order; views of `weight`."""
        result = []
        for path in self.paths:
            first, second = self.path_slices[path.i_in, path.l2, path.i_out]
            shape = (self.joined[path.i_in].mul, self.irreps_out[path.i_out].mul)
            result.append((weight[: self.n_first][first].view(shape), weight[self.n_first :][second].view(1, -1)))
        return result

    def matrices(self) -> tuple[list[Tensor], list[Tensor]]:
        """Per |m| the matrix of ordinary edges and that of edges of an atom with itself, which have no direction (Y_(l>0) = 0).

        Shape (n_in, n_out) of the channels with l >= |m|; twice that for m > 0 if +m and -m mix.
        """
        first, second = self.weight[: self.n_first], self.weight[self.n_first :]
        weight = first * second.index_select(0, self.scale_index) * self.scale
        blocks: dict[tuple[int, int, int], Tensor] = {}
        loop_blocks: dict[tuple[int, int], Tensor] = {}
        for n, group in enumerate(self.groups):
            shape = (self.in_mul[self.in_irreps[group.ir_in]], self.irreps_out[group.ir_out].mul)
            table = getattr(self, f"table_{n}")
            part = weight[group.start : group.start + len(group.l2) * shape[0] * shape[1]].view(len(group.l2), -1)
            product = (table @ part).view(-1, *shape)
            for m, matrix in enumerate(product):
                blocks[group.ir_in, group.ir_out, m] = matrix
            if group.l2[0] == 0:
                loop_blocks[group.ir_in, group.ir_out] = (table[0, 0] * part[0]).view(shape)
        return self._assemble(blocks), self._assemble_loops(loop_blocks)

    def _assemble(self, blocks: dict[tuple[int, int, int], Tensor]) -> list[Tensor]:
        result = []
        for m, (rows, cols) in enumerate(zip(self.rows, self.columns, strict=True)):
            parts = [self._stack(rows, cols, lambda i, o, k=m: blocks.get((i, o, k)))]
            if self.mixes_signs and m > 0:
                shift = {
                    (i, o): blocks.get((i, o, m + min(self.in_irreps[i].l, self.irreps_out[o].irrep.l) + 1))
                    for i, o, _ in blocks
                }
                a, b = parts[0], self._stack(rows, cols, lambda i, o, s=shift: s.get((i, o)))
                parts = [torch.cat([torch.cat([a, b], dim=1), torch.cat([-b, a], dim=1)])]
            result.append(parts[0])
        return result

    def _assemble_loops(self, blocks: dict[tuple[int, int], Tensor]) -> list[Tensor]:
        result = []
        for m, (rows, cols) in enumerate(zip(self.rows, self.columns, strict=True)):
            matrix = self._stack(rows, cols, lambda i, o: blocks.get((i, o)))
            if self.mixes_signs and m > 0:
                matrix = torch.block_diag(matrix, matrix)
            result.append(matrix)
        return result

    def _stack(self, rows: list[Irrep], cols: list[int], block: Any) -> Tensor:
        """A matrix from its blocks, zero where there is none."""
        columns = []
        for o in cols:
            column = []
            for ir in rows:
                part = block(self.in_irreps.index(ir), o)
                column.append(self.weight.new_zeros(self.in_mul[ir], self.irreps_out[o].mul) if part is None else part)
            columns.append(torch.cat(column))
        return torch.cat(columns, dim=1)

    def forward(self, inputs: Sequence[Features], loops: Tensor) -> Features:
        """:param inputs: features of each input in the edge frame, tensors of shape (n_edges, 2 l + 1, mul).
        :param loops: edges from an atom to itself.
        """
        n = inputs[0][0].shape[0]
        ordinary, own = self.matrices()
        outputs: list[list[Tensor]] = [[] for _ in self.irreps_out]
        for m, (rows, cols) in enumerate(zip(self.rows, self.columns, strict=True)):
            components = slice(0, 1) if m == 0 else slice(2 * m - 1, 2 * m + 1)
            x = torch.cat([inputs[p][k][:, components] for ir in rows for p, k in self.in_places[ir]], dim=2)
            rows_x = x.view(-1, ordinary[m].shape[0])
            z = rows_x @ ordinary[m]
            if len(loops):
                x_own = x.index_select(0, loops).view(-1, own[m].shape[0])
                z = z.view(n, -1).index_copy(0, loops, (x_own @ own[m]).view(len(loops), -1))
            parts = z.view(n, x.shape[1], -1).split([self.irreps_out[o].mul for o in cols], dim=2)
            for o, part in zip(cols, parts, strict=True):
                outputs[o].append(part)
        result = []
        for parts, (mul, ir) in zip(outputs, self.irreps_out, strict=True):
            missing = ir.dim - sum(part.shape[1] for part in parts)
            if missing:
                parts = [*parts, parts[0].new_zeros(n, missing, mul)]
            result.append(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
        return result
