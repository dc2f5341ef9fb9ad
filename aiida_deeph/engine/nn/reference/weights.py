"""The weights of the reference's state dict and where they lie in our network.

Both are the same function of the same weights, so that import and export only reorder them, change the signs that
differ between the versions of e3nn (`nn.conventions`), and rescale where the normalisations differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.nn.deephe3.head import HamiltonianHead
from aiida_deeph.engine.nn.deephe3.network import Architecture, DeepHE3, output_irreps
from aiida_deeph.engine.nn.equivariant.irreps import Irrep, Irreps
from aiida_deeph.engine.nn.equivariant.linear import EquivariantLinear
from aiida_deeph.engine.nn.equivariant.so2 import SO2Product, product_paths
from aiida_deeph.engine.nn.equivariant.wigner_eckart import components
from aiida_deeph.engine.nn.reference.conventions import CONVENTIONS, Convention, e3nn_table


@dataclass(frozen=True)
class Slot:
    """One tensor of a reference state dict, or a part of it, and where it lies in ours: `ours = factor * theirs`.

    :param ours: a view of one of our parameters; filled on import, read on export.
    :param place: first and last + 1 place in their flattened tensor; None is all of it.
    """

    name: str
    ours: Tensor
    factor: Tensor | float = 1.0
    place: tuple[int, int] | None = None


def slots(network: DeepHE3, convention: Convention) -> Iterator[Slot]:
    """Every tensor of the reference that has a counterpart, with the factor from its weights to ours."""
    yield from _linear("embedding", network.embedding, convention)
    for kind, updates in (("node", network.node_updates), ("edge", network.edge_updates)):
        for b, update in enumerate(updates):
            prefix = f"{kind}_update_blocks.{b}"
            yield from _linear(f"{prefix}.lin_pre", update.lin_pre, convention)
            yield from _product(f"{prefix}.conv.tp", update.conv.product, convention)
            for layer in (0, 2, 4):
                yield Slot(f"{prefix}.conv.fc.{layer}.weight", update.conv.radial.get_parameter(f"{layer}.weight").data)
                yield Slot(f"{prefix}.conv.fc.{layer}.bias", update.conv.radial.get_parameter(f"{layer}.bias").data)
            yield from _linear(f"{prefix}.lin_post", update.lin_post, convention)
            yield from _linear(f"{prefix}.sc", update.self_connection, convention)
            yield Slot(f"{prefix}.norm.weight", update.norm.weight.data)
            yield Slot(f"{prefix}.norm.bias", update.norm.bias.data)
            if update.skip is not None:
                yield from _linear(f"{prefix}.skip_connect.sc", update.skip, convention)
    yield from _head(network, convention)


def _rescaled(linear: EquivariantLinear, convention: Convention) -> Tensor | float:
    """Factor from weights of their normalisation to weights of ours."""
    if linear.normalization == convention.normalization:
        return 1.0
    irreps_in, irreps_out, n_types = linear.irreps_in, linear.irreps_out, linear.n_types
    theirs = EquivariantLinear(irreps_in, irreps_out, n_types=n_types, normalization=convention.normalization)
    factor = torch.ones_like(linear.weight.data)
    for ours, other in zip(linear.paths, theirs.paths, strict=True):
        factor[ours.start : ours.stop] = other.factor / ours.factor
    return factor


def _linear(name: str, linear: EquivariantLinear, convention: Convention) -> Iterator[Slot]:
    yield Slot(f"{name}.weight", linear.weight.data, _rescaled(linear, convention))
    if linear.bias is not None:
        yield Slot(f"{name}.bias", linear.bias.data)


def _product(name: str, product: SO2Product, convention: Convention) -> Iterator[Slot]:
    theirs = product_paths(product.joined, product.irreps_sh, product.irreps_out, convention.normalization)
    views = product.path_weights(product.weight.data)
    for q, (path, other, (first, second)) in enumerate(zip(product.paths, theirs, views, strict=True)):
        sign = convention.sign(product.joined[path.i_in].irrep.l, path.l2, product.irreps_out[path.i_out].irrep.l)
        yield Slot(f"{name}.weights1.{q}", first, sign * other.factor / path.factor)
        yield Slot(f"{name}.weights2.{q}", second)


def _head(network: DeepHE3, convention: Convention) -> Iterator[Slot]:
    head, linear = network.head, network.head.linear
    scale = _rescaled(linear, convention)
    outputs = list(head_outputs(head, network))
    weights: dict[int, dict[Irrep, tuple[Tensor, float]]] = {}
    for path in linear.paths:
        irrep = linear.irreps_out[path.i_out].irrep
        shape = (linear.irreps_in[path.i_in].mul, -1)
        part = slice(path.start, path.stop)
        factor = scale if isinstance(scale, float) else float(scale[part][0])
        weights.setdefault(path.i_in, {})[irrep] = (linear.weight.data[part].view(shape), factor)
    start = 0
    for i, (mul, irrep) in enumerate(linear.irreps_in):
        for wanted, channel, sign_of in outputs:
            if wanted == irrep:
                weight, factor = weights[i][irrep]
                yield Slot("lin_edge.weight", weight[:, channel], sign_of(convention) * factor, (start, start + mul))
                start += mul
    if linear.bias is None:
        return
    scalars = [(channel, sign_of) for wanted, channel, sign_of in outputs if wanted == Irrep(0, 1)]
    for n, (channel, sign_of) in enumerate(scalars):
        yield Slot("lin_edge.bias", linear.bias.data[channel : channel + 1], sign_of(convention), (n, n + 1))


def clear_time_odd(network: DeepHE3) -> None:
    """Weights of zero for outputs that a head with time reversal leaves out: the same function for the reference."""
    head, linear = network.head, network.head.linear
    odd: dict[Irrep, list[int]] = {}
    for n, target in enumerate(network.layout.targets):
        for k, c in enumerate(components(target.l1, target.l2, True, network.ignore_parity)):
            if c.time_odd:
                irrep, channel = head.channel_of[n, k]
                odd.setdefault(irrep, []).append(channel)
    with torch.no_grad():
        for path in linear.paths:
            channels = odd.get(linear.irreps_out[path.i_out].irrep, [])
            linear.weight[path.start : path.stop].view(linear.irreps_in[path.i_in].mul, -1)[:, channels] = 0
        if linear.bias is not None:
            linear.bias[odd.get(Irrep(0, 1), [])] = 0


def head_outputs(head: HamiltonianHead, network: DeepHE3) -> Iterator[tuple[Irrep, int, Any]]:
    """Irrep, our channel and sign of every output of the reference, in its order."""
    spinful = network.layout.n_spin_blocks > 1
    for half in range(2 if spinful else 1):
        for n, target in enumerate(network.layout.targets):
            l1, l2 = target.l1, target.l2
            for k, c in enumerate(components(l1, l2, spinful, network.ignore_parity)):
                if c.half != half:
                    continue

                def sign(convention: Convention, l1: int = l1, l2: int = l2, c: Any = c) -> int:
                    return convention.sign(l1, l2, c.L) * (convention.sign(c.L, 1, c.irrep.l) if c.vector else 1)

                irrep, channel = head.channel_of[n, k]
                yield irrep, channel, sign


def fill(network: DeepHE3, state: dict[str, Tensor], convention: Convention, where: object) -> None:
    """Set all weights of a network from a reference state dict.

    :raises DataError: a tensor is missing or has a wrong size.
    """
    used: dict[str, int] = {}
    with torch.no_grad():
        for slot in slots(network, convention):
            theirs = state.get(slot.name)
            if theirs is None or not theirs.is_floating_point():
                raise DataError(
                    "tensor missing in the checkpoint",
                    where=where,
                    found=f"no {slot.name}",
                    expected="a complete state dict",
                )
            part = theirs.reshape(-1)[slice(*slot.place or (None,))]
            if part.numel() != slot.ours.numel():
                raise DataError(
                    "tensor of wrong size in the checkpoint",
                    where=f"{where}, {slot.name}",
                    found=tuple(theirs.shape),
                    expected=tuple(slot.ours.shape),
                    remedy="build_model.py and best_model.pkl must belong together",
                )
            used[slot.name] = used.get(slot.name, 0) + part.numel()
            slot.ours.copy_(part.view(slot.ours.shape).to(slot.ours.dtype) * slot.factor)
    for name, count in used.items():
        if state[name].numel() != count:
            raise DataError(
                "tensor of wrong size in the checkpoint",
                where=f"{where}, {name}",
                found=state[name].numel(),
                expected=count,
            )
    learned = (".weight", ".bias")
    ignored = ("lin_node.", ".tp.tp.", ".nonlin.mul.", "output_mask", "_w3j_")
    left = [
        name
        for name, value in state.items()
        if value.numel()
        and name not in used
        and not any(part in name for part in ignored)
        and (name.endswith(learned) or ".weights" in name)
    ]
    if left:
        raise DataError("checkpoint holds more weights than the network has", where=where, found=left[:3])


def state_dict(
    network: DeepHE3, architecture: Architecture, version: str, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The reference's state dict of a network, with all the buffers that its version of e3nn expects."""
    convention = CONVENTIONS[version]
    flat: dict[str, list[tuple[int, Tensor]]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for slot in slots(network, convention):
        value = (slot.ours / slot.factor).reshape(-1)
        flat.setdefault(slot.name, []).append((slot.place[0] if slot.place else 0, value))
        shapes[slot.name] = tuple(slot.ours.shape) if slot.place is None else (-1,)
    state = {
        name: torch.cat([value for _, value in sorted(parts, key=lambda part: part[0])]).reshape(shapes[name]).to(dtype)
        for name, parts in flat.items()
    }
    for name, value in _buffers(network, architecture, version).items():
        state.setdefault(name, value)
    return {name: value.contiguous().clone() for name, value in state.items()}


def _buffers(network: DeepHE3, architecture: Architecture, version: str) -> dict[str, Tensor]:
    """What the reference's modules register besides their weights."""
    state = {}
    for name, basis in (("basis", network.radial_basis), ("distance_expansion", network.distance_embedding)):
        state[f"{name}.offsets"] = basis.centres.float()
        state[f"{name}.width"] = torch.full((basis.n,), float(basis.centres[1]))

    def linear(name: str, irreps_in: Irreps, irreps_out: Irreps, bias: bool = True) -> None:
        mask = [
            torch.full((mul * ir.dim,), float(ir in set(irreps_in.irreps()) or (bias and ir == Irrep(0, 1))))
            for mul, ir in irreps_out
        ]
        state[f"{name}.output_mask"] = torch.cat(mask)

    linear("embedding", network.embedding.irreps_in, network.embedding.irreps_out)
    state["embedding.bias"] = torch.zeros(0)
    for kind, updates in (("node", network.node_updates), ("edge", network.edge_updates)):
        for b, update in enumerate(updates):
            prefix = f"{kind}_update_blocks.{b}"
            linear(f"{prefix}.lin_pre", update.irreps_in, update.irreps_in)
            linear(f"{prefix}.lin_post", update.irreps_out, update.irreps_out)
            linear(f"{prefix}.sc", update.irreps_in, update.irreps_out, bias=False)
            for module in ("lin_pre", "lin_post"):
                state.setdefault(f"{prefix}.{module}.bias", torch.zeros(0))
            if update.skip is not None:
                linear(f"{prefix}.skip_connect.sc", update.irreps_in, update.irreps_out, bias=False)
                state[f"{prefix}.skip_connect.sc.bias"] = torch.zeros(0)
            product = update.conv.product
            state[f"{prefix}.conv.tp.tp.weight"] = torch.zeros(0)
            state[f"{prefix}.conv.tp.tp.output_mask"] = torch.ones(product.irreps_out.dim)
            if update.conv.layout.vectors:
                state[f"{prefix}.conv.nonlin.mul.weight"] = torch.zeros(0)
                state[f"{prefix}.conv.nonlin.mul.output_mask"] = torch.ones(
                    sum(mul * ir.dim for mul, ir in update.conv.irreps_out if ir.l)
                )
            state.update(_tables(f"{prefix}.conv.tp.tp", product, version))
    n_out = 1
    node = network.node_updates[-1].irreps_out
    state["lin_node.weight"] = torch.zeros(sum(mul for mul, ir in node if ir == Irrep(0, 1)) * n_out)
    state["lin_node.bias"], state["lin_node.output_mask"] = torch.zeros(n_out), torch.ones(n_out)
    linear("lin_edge", network.head.irreps_in, output_irreps(network.layout, architecture.ignore_parity))
    state.setdefault("lin_edge.bias", torch.zeros(0))
    return state


def _tables(name: str, product: SO2Product, version: str) -> dict[str, Tensor]:
    """3j tables as e3nn's tensor product registers them: those of the paths whose three l are all above 0."""
    convention = CONVENTIONS[version]
    segments = ("_compiled_main_out", "_compiled_main_right") if version == "0.3" else ("_compiled_main_left_right",)
    result = {}
    for path in product.paths:
        ls = (product.joined[path.i_in].irrep.l, path.l2, product.irreps_out[path.i_out].irrep.l)
        if all(ls):
            # e3nn 0.3 stores its tables with the factor of the irrep normalisation.
            factor = sqrt(2 * ls[2] + 1) if version == "0.3" else 1.0
            table = (factor * convention.sign(*ls) * e3nn_table(*ls)).float()
            for segment in segments:
                result[f"{name}.{segment}._w3j_" + "_".join(map(str, ls))] = table
    return result
