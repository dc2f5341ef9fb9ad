"""The equivariant convolution as SO(2) products in the frame of each edge.

The reference couples features x with the spherical harmonics Y of the edge by e3nn's tensor product (Gong et al.,
Nat. Commun. 14, 2848 (2023), Methods): z_(w,k) = sum_p sqrt(a_p) sum_u W1[u,w] W2[w] sum_(i,j) w3j[i,j,k] x_(u,i) Y_j.
In a frame whose z axis is the edge only Y_(l,0) = sqrt(2 l + 1) remains, so that the sum over paths becomes one matrix
per |m| (Passaro & Zitnick, ICML 2023, section 4): the same function of the same weights at a fraction of the cost.

Irreps of unnatural parity are stored in the edge frame with their components +m and -m exchanged, (u_-m, -u_m). Then
every product whose parities agree is the same matrix for +m and -m; only networks that ignore parity mix +m with -m.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.wigner import component_order, wigner_3j
from aiida_deeph.engine.nn.equivariant.features import FeatureLayout, Features
from aiida_deeph.engine.nn.equivariant.frames import Edges
from aiida_deeph.engine.nn.equivariant.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.equivariant.linear import EquivariantLinear, Normalization, path_factor
from aiida_deeph.engine.nn.equivariant.module import EngineModule
from aiida_deeph.engine.nn.equivariant.so2_kernels import EdgeProduct, ProductMatrices


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


class SO2Product(EngineModule):
    """The tensor product of source node, target node and edge with the spherical harmonics, in the edge frame.

    Its weights W1 and W2 lie in one parameter: W1 ordered as [irrep of the input][irrep of the output][l2][u][w] with
    the channels u of source, target and edge of that irrep side by side, then W2 as [...][l2][input entry][w].

    :param irreps_node: of source and target.
    :param irreps_edge: of the edge.
    :param irreps_sh: spherical harmonics of the edge, one channel each.
    :param irreps_out: sorted and simplified; all of it reachable.
    """

    scale: Tensor
    scale_index: Tensor
    matrix_index: Tensor

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
        self.n_out = irreps_out.n_channels
        self.joined = Irreps((*irreps_node, *irreps_node, *irreps_edge))
        self.ignore_parity = irreps_sh.lmax > 0 and all(ir.p == 1 for ir in irreps_sh.irreps())
        self.paths = product_paths(self.joined, irreps_sh, irreps_out, normalization)
        if {path.i_out for path in self.paths} != set(range(len(irreps_out))):
            raise InputError("convolution has outputs that nothing reaches", where="irreps_out", found=irreps_out)
        self._plan_weights()
        self._plan_matrices()
        self._keep = False
        self._fixed: tuple[Tensor, ...] | None = None

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
        self.constant("scale_index", np.concatenate(scale_index).astype(np.int32))
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
        self._value_sizes = [
            len(table) * group.shape[0] * group.shape[1]
            for table, group in zip(self.tables(), self.groups, strict=True)
        ]
        self._weight_sizes = [len(group.l2) * group.shape[0] * group.shape[1] for group in self.groups]
        self._group_rows = [
            (len(group.l2), len(table)) for table, group in zip(self.tables(), self.groups, strict=True)
        ]

        def matrix(rows: list[int], columns: list[int], kind: str, m: int) -> NDArray[np.int64]:
            if not rows or not columns:
                height = sum(self.joined[k].mul for k in rows)
                return np.zeros((height, sum(self.irreps_out[o].mul for o in columns)), dtype=np.int64)
            lines = []
            for k in rows:
                line = []
                for o in columns:
                    mul, mul_out = self.joined[k].mul, self.irreps_out[o].mul
                    first = place.get((k, o, kind, 0 if kind == "loop" else m))
                    block = np.full((mul, mul_out), self.n_products)
                    if first is not None:
                        block = first + np.arange(mul * mul_out).reshape(mul, mul_out)
                    line.append(block)
                lines.append(line)
            return np.block(lines)

        def signed(rows: list[int], columns: list[int], m: int) -> NDArray[np.int64]:
            a = matrix(rows, columns, "a", m)
            if not self.mixes_signs or m == 0:
                return a
            return np.block([[a, matrix(rows, columns, "b", m)], [matrix(rows, columns, "-b", m), a]])

        n_node = len(self.irreps_node)
        target = [n_node + k for k in self.node.scalars]
        edge_scalars = [2 * n_node + k for k in self.edge.scalars]
        pieces: list[NDArray[np.int64]] = []
        self.matrix_kinds: list[tuple[str, int]] = []

        def add(kind: str, m: int, piece: NDArray[np.int64]) -> None:
            self.matrix_kinds.append((kind, m))
            pieces.append(piece)

        def ends(m: int) -> list[int]:
            return [k + shift for k in self.node.entries(m) for shift in (0, n_node)]

        def edge(m: int) -> list[int]:
            return [2 * n_node + k for k in self.edge.entries(m)]

        scalars = [matrix(rows, self.out.order, "a", 0) for rows in (self.node.scalars, target)]
        add("ends_s", -1, np.concatenate(scalars, axis=1))
        add("edge_s", -1, matrix(edge_scalars, self.out.order, "a", 0))
        for m in range(self.out.lmax + 1):
            columns = self.out.order if m == 0 else self.out.entries(m)
            add("ends", m, signed(ends(m), columns, m))
            add("edge", m, signed(edge(m), columns, m))
        self.n_ordinary = len(pieces)
        scalars = [matrix(rows, self.out.scalars, "loop", 0) for rows in (self.node.scalars, target)]
        add("ends_s", -1, np.concatenate(scalars, axis=1))
        add("edge_s", -1, matrix(edge_scalars, self.out.scalars, "loop", 0))
        add("ends", 0, matrix(ends(0), self.out.vectors, "loop", 0))
        add("edge", 0, matrix(edge(0), self.out.vectors, "loop", 0))
        self.matrix_shapes = [piece.shape for piece in pieces]
        index = np.concatenate([piece.ravel() for piece in pieces]).astype(np.int64)
        self.constant("matrix_index", index.astype(np.int32))
        used = np.flatnonzero(index < self.n_products)
        self.matrix_inverse: Tensor | None = None
        if len(used) == len(set(index[used].tolist())):
            # Every value stands in one place at most: the way back is a gather as well, from a zero for unused values.
            inverse = np.full(self.n_products, -1, dtype=np.int64)
            inverse[index[used]] = used
            if (inverse >= 0).all():
                del self.matrix_inverse
                self.constant("matrix_inverse", inverse.astype(np.int32))

    def tables(self) -> list[Tensor]:
        """Coupling table of every group of paths, shape (n_values, n_l2)."""
        return [getattr(self, f"table_{n}") for n in range(len(self.groups))]

    def weights_of(self, combined: Tensor) -> list[Tensor]:
        """Views of the weights of every group, shape (n_l2, n_rows * n_columns)."""
        return [
            part.view(rows, -1)
            for part, (rows, _) in zip(combined.split(self._weight_sizes), self._group_rows, strict=True)
        ]

    def values_of(self, values: Tensor) -> list[Tensor]:
        """Views of the elements of the matrices that every group gives, shape (n_values, n_rows * n_columns)."""
        parts = values[: self.n_products].split(self._value_sizes)
        return [part.view(rows, -1) for part, (_, rows) in zip(parts, self._group_rows, strict=True)]

    def split(self, flat: Tensor) -> list[Tensor]:
        """Views of all matrices, which lie one after the other."""
        parts = flat.split([rows * columns for rows, columns in self.matrix_shapes])
        return [part.view(shape) for part, shape in zip(parts, self.matrix_shapes, strict=True)]

    def path_weights(self, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
        """W1, shape (mul_in, mul_out), and W2, shape (1, mul_out), of each path in e3nn's order; views of `weight`."""
        result = []
        for path in self.paths:
            first, second = self.path_places[path.i_in, path.l2, path.i_out]
            mul, mul_out = self.joined[path.i_in].mul, self.irreps_out[path.i_out].mul
            w2 = weight[self.n_first + second : self.n_first + second + mul_out]
            result.append((weight[first : first + mul * mul_out].view(mul, mul_out), w2.view(1, -1)))
        return result

    def forward(
        self,
        scalars: Tensor,
        ends: list[Tensor],
        e: Features,
        edges: Edges,
        before_ends: Tensor | None = None,
        before_edge: EquivariantLinear | None = None,
    ) -> Features:
        """Outputs of every edge: z_0 of all entries, shape (n_edges, n_channels), then V_1, V_2, ...

        :param scalars: of the nodes, shape (n_atoms, n_scalars).
        :param ends: vectors of both ends, see `Edges.ends`.
        :param e: features of the edges.
        :param before_ends: a linear map of the nodes' vectors that has not been applied to `ends`, see
            `EquivariantLinear.matrix_of_ends`.
        :param before_edge: a linear map that has not been applied to `e`.
        """
        matrices = self._fixed
        if matrices is None:
            before_s = before_v = bias = None
            if before_edge is not None:
                (before_s, before_v), bias = (part[0] for part in before_edge.matrices()), before_edge.full_bias()
            matrices = ProductMatrices.apply(self, self.weight, before_ends, before_s, before_v, bias)
            self._fixed = matrices if self._keep else None
        return list(EdgeProduct.apply(self, edges, len(ends), len(e), scalars, *ends, *e, *matrices))

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Within, the matrices are made once: for many calls with the same weights and no gradients."""
        self._keep, self._fixed = True, None
        try:
            yield
        finally:
            self._keep, self._fixed = False, None
