"""Forward and backward passes of the SO(2) product: few matrix products, nothing stored twice.

Written out instead of left to autograd because the product is most of the network's time: weights are turned into
matrices with one small product per pair of irreps, and gradients are summed up in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aiida_deeph.engine.nn.equivariant.module import Function

if TYPE_CHECKING:
    from aiida_deeph.engine.nn.equivariant.frames import Edges
    from aiida_deeph.engine.nn.equivariant.so2 import SO2Product


class ProductMatrices(Function):
    """The weights of a product as matrices, with linear maps that come before it folded in.

    Returns, see `SO2Product.matrix_shapes`: ends_s, edge_s, (ends_m, edge_m) for m = 0..lmax; for edges of an atom with
    itself own_ends_s, own_edge_s, own_ends_v, own_edge_v; then the two rows that the bias on the edge's scalars adds.

    :param before_ends: map of the vectors of both ends, shape (2 n_v, 2 n_v), or None.
    :param before_s: map of the edge's scalars, shape (n_s, n_s), or None; `before_v` that of its vectors.
    :param bias: on the edge's scalars, shape (n_s,), or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        product: SO2Product,
        weight: Tensor,
        before_ends: Tensor | None,
        before_s: Tensor | None,
        before_v: Tensor | None,
        bias: Tensor | None,
    ) -> tuple[Tensor, ...]:
        first, second = weight[: product.n_first], weight[product.n_first :]
        scaled = second.index_select(0, product.scale_index).mul_(product.scale)
        combined = first * scaled
        values = weight.new_empty(product.n_products + 1)
        values[-1] = 0
        for table, part, place in zip(
            product.tables(), product.weights_of(combined), product.values_of(values), strict=True
        ):
            torch.mm(table, part, out=place)
        raw = product.split(values.index_select(0, product.matrix_index))
        ctx.product = product
        ctx.save_for_backward(first, scaled, before_ends, before_s, before_v, bias, *raw)
        result = [_before(product, n, before_ends, before_s, before_v, matrix) for n, matrix in enumerate(raw)]
        edge_s, own_edge_s = raw[1], raw[product.n_ordinary + 1]
        if bias is None:
            rows = weight.new_zeros(edge_s.shape[1]), weight.new_zeros(own_edge_s.shape[1])
        else:
            rows = bias @ edge_s, bias @ own_edge_s
        return *result, *rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        product = ctx.product
        first, scaled, before_ends, before_s, before_v, bias, *raw = ctx.saved_tensors
        befores = (before_ends, before_s, before_v)
        grad_befores = [None if before is None else torch.zeros_like(before) for before in befores]
        total = first.new_empty(product.matrix_index.shape)
        for n, (matrix, grad, place) in enumerate(zip(raw, grads, product.split(total), strict=False)):
            found, target = _view(product, n, befores), _view(product, n, grad_befores)
            if found is None or target is None or not matrix.numel():
                place.copy_(grad)
                continue
            linear, rows = found
            grad_rows, matrix_rows = grad.view(rows, len(linear), -1), matrix.view(rows, len(linear), -1)
            torch.matmul(linear.T, grad_rows, out=place.view(grad_rows.shape))
            for k in range(rows):
                target[0].addmm_(grad_rows[k], matrix_rows[k].T)
        grad_bias = None
        if bias is not None:
            pieces = product.split(total)
            grad_bias = torch.zeros_like(bias)
            for n, row in ((1, grads[-2]), (product.n_ordinary + 1, grads[-1])):
                pieces[n].addr_(bias, row)
                grad_bias.addmv_(raw[n], row)
        if product.matrix_inverse is None:
            values = first.new_zeros(product.n_products + 1).index_add_(0, product.matrix_index, total)
        else:
            values = total.index_select(0, product.matrix_inverse)
        combined = torch.empty_like(first)
        for table, part, place in zip(
            product.tables(), product.weights_of(combined), product.values_of(values), strict=True
        ):
            torch.mm(table.T, place, out=part)
        grad_second = first.new_zeros(product.n_second)
        grad_second.index_add_(0, product.scale_index, (combined * first).mul_(product.scale))
        return None, torch.cat([combined.mul_(scaled), grad_second]), *grad_befores, grad_bias


def _view(product: SO2Product, n: int, befores: Sequence[Tensor | None]) -> tuple[Tensor, int] | None:
    """The linear map that comes before matrix n, and how often it stands on the diagonal; None if there is none."""
    kind, m = product.matrix_kinds[n]
    before = befores[{"ends": 0, "edge_s": 1, "edge": 2}.get(kind, 0)] if kind != "ends_s" else None
    if before is None:
        return None
    if kind == "edge_s":
        return before, 1
    layout, copies = (product.node, 2) if kind == "ends" else (product.edge, 1)
    skipped = copies * layout.skipped(max(m, 0))
    return before[skipped:, skipped:], 2 if product.mixes_signs and m > 0 else 1


def _before(
    product: SO2Product,
    n: int,
    before_ends: Tensor | None,
    before_s: Tensor | None,
    before_v: Tensor | None,
    matrix: Tensor,
) -> Tensor:
    found = _view(product, n, (before_ends, before_s, before_v))
    if found is None or not matrix.numel():
        return matrix
    linear, rows = found
    return torch.matmul(linear, matrix.view(rows, len(linear), -1)).view(matrix.shape)


class EdgeProduct(Function):
    """Outputs of every edge from the matrices of `ProductMatrices`: z_0, shape (n_edges, n_out), V_1, V_2, ...

    :param tensors: scalars of the nodes, then vectors of the ends, features of the edge, and all matrices.
    """

    @staticmethod
    def forward(
        ctx: Any, product: SO2Product, edges: Edges, n_ends: int, n_edge: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.product, ctx.edges, ctx.counts = product, edges, (n_ends, n_edge)
        ctx.save_for_backward(*tensors)
        scalars, ends, e, matrices, own, row, own_row = _unpack(product, n_ends, n_edge, tensors)
        n, n_out, loops = len(edges.source), product.n_out, edges.loops
        at_nodes = scalars @ matrices[0]
        at_nodes[:, :n_out] += row
        z0 = at_nodes[:, :n_out].index_select(0, edges.source)
        z0 += at_nodes[:, n_out:].index_select(0, edges.target)
        z0.addmm_(e[0], matrices[1])
        result = [z0]
        for m in range(1, product.out.lmax + 1):
            result.append(scalars.new_empty(n, 2, product.out.n_channels(m)))
        for m, z in enumerate(result):
            z, empty = z.view(-1, matrices[2 + 2 * m].shape[1]), m > 0
            for x, matrix in ((ends[m : m + 1], matrices[2 + 2 * m]), (e[1 + m : 2 + m], matrices[3 + 2 * m])):
                if x and len(matrix):
                    z.addmm_(x[0].view(-1, len(matrix)), matrix, beta=0 if empty else 1)
                    empty = False
            if empty:
                z.zero_()
        if len(loops):
            _fill_loops(product, edges, scalars, ends, e, own, own_row, result)
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        product, edges, (n_ends, n_edge) = ctx.product, ctx.edges, ctx.counts
        tensors = ctx.saved_tensors
        scalars, ends, e, matrices, own, _, _ = _unpack(product, n_ends, n_edge, tensors)
        loops, n_out = edges.loops, product.n_out
        # Loops took no part in the ordinary products: their rows of the gradient are set aside and replaced by zero.
        of_loops = [grad.index_select(0, loops) for grad in grads]
        rest = [grad.index_fill(0, loops, 0) if len(loops) else grad for grad in grads]
        at_nodes = scalars.new_zeros(len(scalars), 2 * n_out)
        at_nodes[:, :n_out].index_add_(0, edges.source, rest[0])
        at_nodes[:, n_out:].index_add_(0, edges.target, rest[0])
        grad_scalars = at_nodes @ matrices[0].T
        grad_matrices = [scalars.T @ at_nodes, e[0].T @ rest[0]]
        grad_e = [rest[0] @ matrices[1].T]
        grad_ends: list[Tensor] = []
        for m, grad in enumerate(rest):
            flat = grad.reshape(-1, matrices[2 + 2 * m].shape[1])
            for x, matrix, target in (
                (ends[m : m + 1], matrices[2 + 2 * m], grad_ends),
                (e[1 + m : 2 + m], matrices[3 + 2 * m], grad_e),
            ):
                if x and len(matrix):
                    target.append((flat @ matrix.T).view(x[0].shape))
                    grad_matrices.append(x[0].view(-1, len(matrix)).T @ flat)
                else:
                    target += [torch.zeros_like(part) for part in x]
                    grad_matrices.append(torch.zeros_like(matrix))
        grad_e += [torch.zeros_like(part) for part in e[len(grad_e) :]]
        grad_ends += [torch.zeros_like(part) for part in ends[len(grad_ends) :]]
        grad_row = at_nodes[:, :n_out].sum(dim=0)
        grad_own, grad_own_row = [torch.zeros_like(matrix) for matrix in own], torch.zeros_like(tensors[-1])
        if len(loops):
            _loops_backward(
                product, edges, scalars, ends, e, own, of_loops, grad_scalars, grad_ends, grad_e, grad_own, grad_own_row
            )
        return (
            None,
            None,
            None,
            None,
            grad_scalars,
            *grad_ends,
            *grad_e,
            *grad_matrices,
            *grad_own,
            grad_row,
            grad_own_row,
        )


def _unpack(product: SO2Product, n_ends: int, n_edge: int, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    scalars, rest = tensors[0], tensors[1:]
    ends, rest = rest[:n_ends], rest[n_ends:]
    e, rest = rest[:n_edge], rest[n_edge:]
    return scalars, ends, e, rest[: product.n_ordinary], rest[product.n_ordinary : -2], rest[-2], rest[-1]


def _fill_loops(
    product: SO2Product,
    edges: Edges,
    scalars: Tensor,
    ends: Sequence[Tensor],
    e: Sequence[Tensor],
    own: Sequence[Tensor],
    own_row: Tensor,
    result: Sequence[Tensor],
) -> None:
    """Write the outputs of edges from an atom to itself: only Y_0 is not zero there, so that each irrep keeps its m."""
    loops, n_s = edges.loops, product.out.n_scalars
    at_nodes = scalars @ own[0]
    both = (at_nodes[:, :n_s] + at_nodes[:, n_s:]).index_select(0, edges.loop_atoms) + own_row
    values = scalars.new_zeros(len(loops), product.n_out)
    values[:, :n_s] = torch.addmm(both, e[0].index_select(0, loops), own[1])
    for m, z in enumerate(result):
        total = values[:, n_s:].unsqueeze(1) if m == 0 else z.new_zeros(len(loops), *z.shape[1:])
        for x, matrix in _own_parts(product, ends, e, own, m):
            total += x.index_select(0, loops) @ matrix
        z.index_copy_(0, loops, values if m == 0 else total)


def _own_parts(
    product: SO2Product, ends: Sequence[Tensor], e: Sequence[Tensor], own: Sequence[Tensor], m: int
) -> list[tuple[Tensor, Tensor]]:
    """V_m of ends and edge with the matrices that they meet in edges from an atom to itself."""
    skipped = product.out.skipped(m)
    parts = []
    if m < len(ends):
        parts.append((ends[m], own[2][2 * product.node.skipped(m) :, skipped:]))
    if 1 + m < len(e):
        parts.append((e[1 + m], own[3][product.edge.skipped(m) :, skipped:]))
    return [(x, matrix) for x, matrix in parts if matrix.numel()]


def _loops_backward(
    product: SO2Product,
    edges: Edges,
    scalars: Tensor,
    ends: Sequence[Tensor],
    e: Sequence[Tensor],
    own: Sequence[Tensor],
    grads: Sequence[Tensor],
    grad_scalars: Tensor,
    grad_ends: Sequence[Tensor],
    grad_e: Sequence[Tensor],
    grad_own: Sequence[Tensor],
    grad_own_row: Tensor,
) -> None:
    """Add what edges from an atom to itself contribute to the gradients."""
    loops, n_s = edges.loops, product.out.n_scalars
    g = grads[0][:, :n_s]
    grad_own_row += g.sum(dim=0)
    at_nodes = torch.cat([g, g], dim=1)
    at_atoms = scalars.new_zeros(len(scalars), 2 * n_s).index_add_(0, edges.loop_atoms, at_nodes)
    grad_scalars.addmm_(at_atoms, own[0].T)
    grad_own[0].addmm_(scalars.T, at_atoms)
    grad_own[1].addmm_(e[0].index_select(0, loops).T, g)
    grad_e[0].index_add_(0, loops, g @ own[1].T)
    for m, grad in enumerate(grads):
        grad_m = grad[:, n_s:].unsqueeze(1) if m == 0 else grad
        skipped = product.out.skipped(m)
        for x, matrix in _own_parts(product, ends, e, own, m):
            is_end = m < len(ends) and x is ends[m]
            layout, copies, place = (product.node, 2, 2) if is_end else (product.edge, 1, 3)
            (grad_ends[m] if is_end else grad_e[1 + m]).index_add_(0, loops, grad_m @ matrix.T)
            target = grad_own[place][copies * layout.skipped(m) :, skipped:]
            rows = x.index_select(0, loops)
            target.addmm_(rows.reshape(-1, rows.shape[2]).T, grad_m.reshape(-1, grad_m.shape[2]))
