"""The equivariant convolution as SO(2) products in the frame of each edge.

The reference couples features x with the spherical harmonics Y of the edge by e3nn's tensor product
z_(w,k) = sum_p sqrt(a_p) sum_u W1[u,w] W2[w] sum_(i,j) w3j[i,j,k] x_(u,i) Y_j (Gong et al., Nat. Commun. 14, 2848 (2023), eq. 4).
In a frame whose z axis is the edge only Y_(l,0) = sqrt(2 l + 1) remains, so that the sum over paths becomes one matrix per
|m| (Passaro & Zitnick, ICML 2023, section 4): the same function of the same weights at a fraction of the cost.

Irreps of unnatural parity are stored in the edge frame with their components +m and -m exchanged, (u_-m, -u_m). Then every
product whose parities agree is the same matrix for +m and -m; only networks that ignore parity also mix +m with -m.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.wigner import component_order, wigner_3j
from aiida_deeph.engine.nn.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.features import FeatureLayout, Features
from aiida_deeph.engine.nn.frames import Edges
from aiida_deeph.engine.nn.linear import DenseWeights, Normalization, path_factor
from aiida_deeph.engine.nn.module import EngineModule


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
    """Paths that share the irreps of input and output; their weights have shape (n_l2, n_rows, n_columns)."""

    irrep: Irrep
    i_out: int
    l2: tuple[int, ...]
    start: int
    shape: tuple[int, int]


@dataclass(frozen=True)
class Matrices:
    """The product as matrices, for ordinary edges or for those of an atom with itself.

    :param ends: scalars of source and target into the outputs m = 0, shape (n_scalars, 2 * n_out).
    :param edge_scalars: shape (n_scalars, n_out).
    :param ends_m: vectors of both ends per m; for m > 0 of networks that ignore parity twice as large, (+m, -m).
    :param edge_m: the same for the edge.
    """

    ends: Tensor
    edge_scalars: Tensor
    ends_m: list[Tensor]
    edge_m: list[Tensor]


class SO2Product(EngineModule):
    """The tensor product of source node, target node and edge with the spherical harmonics, in the edge frame.

    Its weights W1 and W2 lie in one parameter: W1 ordered as [irrep of the input][irrep of the output][l2][u][w] with the
    channels u of source, target and edge of that irrep side by side, then W2 as [...][l2][input entry][w].

    :param irreps_node: of source and target.
    :param irreps_edge: of the edge.
    :param irreps_sh: spherical harmonics of the edge, one channel each.
    :param irreps_out: sorted and simplified; all of it reachable.
    """

    def __init__(
        self,
        irreps_node: Irreps,
        irreps_edge: Irreps,
        irreps_sh: Irreps,
        irreps_out: Irreps,
        *,
        normalization: Normalization = "path",
    ) -> None:
        super().__init__()
        self.irreps_node, self.irreps_edge = irreps_node, irreps_edge
        self.irreps_sh, self.irreps_out = irreps_sh, irreps_out
        self.node, self.edge, self.out = (
            FeatureLayout(irreps_node),
            FeatureLayout(irreps_edge),
            FeatureLayout(irreps_out),
        )
        self.joined = Irreps((*irreps_node, *irreps_node, *irreps_edge))
        self.ignore_parity = irreps_sh.lmax > 0 and all(ir.p == 1 for ir in irreps_sh.irreps())
        self.paths = product_paths(self.joined, irreps_sh, irreps_out, normalization)
        if {path.i_out for path in self.paths} != set(range(len(irreps_out))):
            raise InputError("convolution has outputs that nothing reaches", where="irreps_out", found=irreps_out)
        self._plan_weights()
        self._plan_matrices()

    def _plan_weights(self) -> None:
        """Places of the weights of every path, their factors, and the coupling table of every group of paths."""
        by_key = {(path.i_in, path.l2, path.i_out): path for path in self.paths}
        self.path_places: dict[tuple[int, int, int], tuple[int, int]] = {}
        self.groups: list[_Group] = []
        scale, scale_index, start, start_second = [], [], 0, 0
        tables: list[tuple[NDArray[np.complex128], bool]] = []
        for ir in sorted(set(self.joined.irreps())):
            entries = [n for n, (_, other) in enumerate(self.joined) if other == ir]
            for o, (mul_out, ir_out) in enumerate(self.irreps_out):
                l2s = tuple(l2 for l2 in range(len(self.irreps_sh)) if (entries[0], l2, o) in by_key)
                if not l2s:
                    continue
                n_rows = sum(self.joined[n].mul for n in entries)
                self.groups.append(_Group(ir, o, l2s, start, (n_rows, mul_out)))
                columns = np.stack([couplings(ir, l2, ir_out, self.ignore_parity) for l2 in l2s], axis=1)
                tables.append((columns, ir == ir_out))
                for l2 in l2s:
                    for n in entries:
                        size = self.joined[n].mul * mul_out
                        self.path_places[n, l2, o] = (start, start_second)
                        scale.append(np.full(size, by_key[n, l2, o].factor))
                        second = np.arange(start_second, start_second + mul_out)
                        scale_index.append(np.tile(second, self.joined[n].mul))
                        start, start_second = start + size, start_second + mul_out
        self.n_first, self.n_second = start, start_second
        self.weight = nn.Parameter(torch.randn(start + start_second))
        self.constant("scale", np.concatenate(scale))
        self.constant("scale_index", np.concatenate(scale_index).astype(np.int64))
        self.mixes_signs = any(np.abs(table.imag).max() > 1e-12 for table, _ in tables)
        # Rows of a table: a of m = 0, 1, ..., then b and -b if signs mix, then the loops' part: that of l2 = 0 alone.
        for n, (table, same) in enumerate(tables):
            rows = [table.real, *([table.imag, -table.imag] if self.mixes_signs else [])]
            if same:
                rows.append(table.real[:1] * (np.arange(table.shape[1]) == 0))
            self.constant(f"table_{n}", np.concatenate(rows))

    def _plan_matrices(self) -> None:
        """Index from all tables applied to all weights into the matrices, one after the other."""
        place: dict[tuple[int, int, str, int], int] = {}  # entry, output, kind, m -> place of its first element
        stride: dict[tuple[int, int], int] = {}
        start = 0
        for n, group in enumerate(self.groups):
            entries = [k for k, (_, other) in enumerate(self.joined) if other == group.irrep]
            n_m = min(group.irrep.l, self.irreps_out[group.i_out].irrep.l) + 1
            kinds = [("a", m) for m in range(n_m)]
            if self.mixes_signs:
                kinds += [(kind, m) for kind in ("b", "-b") for m in range(n_m)]
            if len(getattr(self, f"table_{n}")) > len(kinds):
                kinds.append(("loop", 0))
            size = group.shape[0] * group.shape[1]
            for kind, m in kinds:
                row = 0
                for k in entries:
                    place[k, group.i_out, kind, m] = start + row * group.shape[1]
                    row += self.joined[k].mul
                start += size
            for k in entries:
                stride[k, group.i_out] = group.shape[1]
        self.n_products = start

        def matrix(rows: list[int], columns: list[int], kind: str, m: int) -> NDArray[np.int64]:
            blocks = []
            for k in rows:
                line = []
                for o in columns:
                    mul, mul_out = self.joined[k].mul, self.irreps_out[o].mul
                    first = place.get((k, o, kind, 0 if kind == "loop" else m))
                    block = np.full((mul, mul_out), self.n_products)
                    if first is not None:
                        block = first + np.arange(mul * mul_out).reshape(mul, mul_out)
                    line.append(block)
                blocks.append(np.concatenate(line, axis=1))
            width = sum(self.irreps_out[o].mul for o in columns)
            return np.concatenate(blocks) if blocks else np.zeros((0, width), dtype=np.int64)

        def signed(rows: list[int], columns: list[int], kind: str, m: int) -> NDArray[np.int64]:
            a = matrix(rows, columns, kind, m)
            if not self.mixes_signs or m == 0:
                return a
            none = np.full_like(a, self.n_products)
            plus = none if kind == "loop" else matrix(rows, columns, "b", m)
            minus = none if kind == "loop" else matrix(rows, columns, "-b", m)
            return np.block([[a, plus], [minus, a]])

        n_node = len(self.irreps_node)
        pieces = []
        for kind in ("a", "loop"):
            columns = self.out.order
            source = matrix(self.node.scalars, columns, kind, 0)
            target = matrix([n_node + k for k in self.node.scalars], columns, kind, 0)
            pieces.append(np.concatenate([source, target], axis=1))
            pieces.append(matrix([2 * n_node + k for k in self.edge.scalars], columns, kind, 0))
            for m in range(self.out.lmax + 1):
                columns = self.out.order if m == 0 else self.out.entries(m)
                ends = [k + shift for k in self.node.entries(m) for shift in (0, n_node)]
                pieces.append(signed(ends, columns, kind, m))
                pieces.append(signed([2 * n_node + k for k in self.edge.entries(m)], columns, kind, m))
        self.matrix_shapes = [piece.shape for piece in pieces]
        self.constant("matrix_index", np.concatenate([piece.ravel() for piece in pieces]).astype(np.int64))

    def path_weights(self, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
        """W1 of shape (mul_in, mul_out) and W2 of shape (1, mul_out) of each path, in e3nn's order; views of `weight`."""
        result = []
        for path in self.paths:
            first, second = self.path_places[path.i_in, path.l2, path.i_out]
            mul, mul_out = self.joined[path.i_in].mul, self.irreps_out[path.i_out].mul
            w2 = weight[self.n_first + second : self.n_first + second + mul_out]
            result.append((weight[first : first + mul * mul_out].view(mul, mul_out), w2.view(1, -1)))
        return result

    def matrices(
        self, before_ends: DenseWeights | None, before_edge: DenseWeights | None
    ) -> tuple[Matrices, Matrices, Tensor | None]:
        """Matrices of ordinary edges and of loops, which have no direction (Y_l = 0 for l > 0).

        :param before_ends: a linear map of the nodes that has not been applied to their vectors, folded in here.
        :param before_edge: one that has not been applied to the edge at all; with its bias.
        :returns: both, and what the bias of `before_edge` adds to the outputs m = 0 of ordinary edges and of loops.
        """
        first, second = self.weight.split([self.n_first, self.n_second])
        weight = first * second.index_select(0, self.scale_index) * self.scale
        sizes = [len(group.l2) * group.shape[0] * group.shape[1] for group in self.groups]
        products = [
            (getattr(self, f"table_{n}") @ part.view(len(group.l2), -1)).view(-1)
            for n, (group, part) in enumerate(zip(self.groups, weight.split(sizes), strict=True))
        ]
        flat = torch.cat([*products, weight.new_zeros(1)]).index_select(0, self.matrix_index)
        pieces = [
            piece.view(shape)
            for piece, shape in zip(flat.split([a * b for a, b in self.matrix_shapes]), self.matrix_shapes, strict=True)
        ]
        half = len(pieces) // 2
        results, biases = [], []
        for ends, edge_scalars, *rest in (pieces[:half], pieces[half:]):
            ends_m, edge_m = rest[0::2], rest[1::2]
            if before_ends is not None:
                ends_m = [
                    self._fold(before_ends.vectors, matrix, self.node, m, ends=True) for m, matrix in enumerate(ends_m)
                ]
            if before_edge is not None:
                if before_edge.bias is not None:
                    biases.append(before_edge.bias @ edge_scalars)
                edge_scalars = before_edge.scalars[0] @ edge_scalars
                edge_m = [
                    self._fold(before_edge.vectors, matrix, self.edge, m, ends=False) for m, matrix in enumerate(edge_m)
                ]
            results.append(Matrices(ends, edge_scalars, ends_m, edge_m))
        return results[0], results[1], torch.stack(biases) if biases else None

    def _fold(self, before: Tensor, matrix: Tensor, layout: FeatureLayout, m: int, *, ends: bool) -> Tensor:
        """The product of a linear map and a matrix of this product, for the channels of V_m."""
        if not len(matrix):
            return matrix
        skipped = layout.skipped(m)
        linear = before[0, skipped:, skipped:]
        if ends:
            linear = self._on_both_ends(linear, layout.muls(m))
        if self.mixes_signs and m > 0:
            linear = torch.block_diag(linear, linear)
        return linear @ matrix

    @staticmethod
    def _on_both_ends(linear: Tensor, muls: list[int]) -> Tensor:
        """The same map on source and target, whose channels alternate entry by entry."""
        lines = []
        for line in linear.split(muls, dim=0):
            blocks = line.split(muls, dim=1)
            zeros = [torch.zeros_like(block) for block in blocks]
            lines.append(torch.cat([part for pair in zip(blocks, zeros, strict=True) for part in pair], dim=1))
            lines.append(torch.cat([part for pair in zip(zeros, blocks, strict=True) for part in pair], dim=1))
        return torch.cat(lines)

    def forward(
        self,
        scalars: Tensor,
        ends: list[Tensor],
        e: Features,
        edges: Edges,
        before_ends: DenseWeights | None = None,
        before_edge: DenseWeights | None = None,
    ) -> Features:
        """Outputs of every edge: z_0 of all entries, shape (n_edges, n_channels), then V_1, V_2, ...

        :param scalars: of the nodes, shape (n_atoms, n_scalars).
        :param ends: vectors of both ends, see `Edges.ends`.
        :param e: features of the edges.
        """
        ordinary, own, bias = self.matrices(before_ends, before_edge)
        n_out = sum(mul for mul, _ in self.irreps_out)
        at_nodes = scalars @ torch.cat([ordinary.ends, own.ends], dim=1)
        source, target, own_source, own_target = at_nodes.split(n_out, dim=1)
        own_scalars = own_source + own_target
        if bias is not None:
            source, own_scalars = source + bias[0], own_scalars + bias[1]
        z0 = source.index_select(0, edges.source) + target.index_select(0, edges.target)
        z0 = _accumulate(z0, e[0], ordinary.edge_scalars)
        loops = edges.loops
        own0 = _accumulate(own_scalars.index_select(0, edges.loop_atoms), e[0].index_select(0, loops), own.edge_scalars)
        result: Features = []
        n = len(edges.source)
        for m in range(self.out.lmax + 1 if self.out.vectors else 1):
            z, z_own = (z0, own0) if m == 0 else (None, None)
            for parts, big, small in ((ends, ordinary.ends_m, own.ends_m), (e[1:], ordinary.edge_m, own.edge_m)):
                if m < len(parts):
                    z = _accumulate(z, parts[m].reshape(-1, len(big[m])), big[m])
                    z_own = _accumulate(z_own, parts[m].index_select(0, loops).view(-1, len(small[m])), small[m])
            rows, columns = (1, n_out) if m == 0 else (2, self.out.n_channels(m))
            if z is None:
                result.append(e[0].new_zeros(n, rows, columns))
                continue
            z = z.view(n, rows * columns).index_copy_(0, loops, z_own.view(len(loops), rows * columns))
            result.append(z if m == 0 else z.view(n, rows, columns))
        return result


def _accumulate(total: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
    """total + x weight."""
    if 0 in weight.shape:
        return x.new_zeros(len(x), weight.shape[1]) if total is None else total
    return x @ weight if total is None else torch.addmm(total, x, weight)
