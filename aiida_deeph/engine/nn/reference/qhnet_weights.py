"""The weights of the reference's state dict of QHNet and where they lie in our network: only their order differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.qhnet.head import Expansion
from aiida_deeph.engine.nn.qhnet.layers import ChannelLinear, NormGate, WeightNetwork
from aiida_deeph.engine.nn.qhnet.network import QHNet
from aiida_deeph.engine.nn.qhnet.products import coupling_paths
from aiida_deeph.engine.nn.reference.conventions import Convention, e3nn_table

LMAX, FIRST_PAIR_LAYER = 4, 3
N_SHELLS = (3, 2, 1)
"""Shells of each l that the reference expands for every element."""
UNTRAINED_ALPHA = float(torch.tensor(0.5).expm1().log())
"""Where the decay of the radial basis starts, before the softplus."""


@dataclass(frozen=True)
class Slot:
    """A tensor of a reference state dict, or some of its rows, and its place in our network: `ours = sign * theirs`.

    :param shape: of theirs as rows of ours; the file may hold it flat.
    :param rows: which of its rows, in our order; None: all.
    """

    name: str
    ours: Tensor
    shape: tuple[int, ...]
    rows: Tensor | None = None
    sign: Tensor | float = 1.0


def slots(network: QHNet, convention: Convention, n_elements: int) -> Iterator[Slot]:
    """Every tensor of the reference that has a counterpart."""
    numbers = torch.tensor([int(atomic_numbers[symbol]) for symbol in network.layout.basis.elements])
    table = network.embedding.weight.data
    yield Slot("node_embedding.weight", table, (n_elements, table.shape[1]), numbers)
    if network.radial_basis.raw_alpha is not None:
        yield Slot("distance_expansion._alpha", network.radial_basis.raw_alpha.data, ())
    for k, convolution in enumerate(network.convolutions):
        prefix = f"e3_gnn_layer.{k}.conv"
        yield from _weights(f"{prefix}.fc_node", convolution.radial)
        yield from _weights(f"{prefix}.layer_l0", convolution.invariant)
        yield from _linear(f"{prefix}.linear_out", convolution.after)
        if k:
            yield from _linear(f"{prefix}.linear_node_pre", convolution.before)
            yield from _linear(f"{prefix}.linear_node", convolution.gated)
            yield from _gate(f"{prefix}.norm_gate", convolution.gate)
    signs = path_signs(convention)
    for j, (atoms, pairs) in enumerate(zip(network.atoms, network.pairs_of_atoms, strict=True)):
        prefix = f"e3_gnn_node_layer.{j}"
        gates, linears = (*atoms.gates, atoms.gate), (*atoms.before, *atoms.after)
        for n, name in enumerate(("norm_gate_1", "norm_gate_2", "norm_gate")):
            yield from _linear(f"{prefix}.linear_node_{n + 1}", linears[n])
            yield from _gate(f"{prefix}.{name}", gates[n])
        yield Slot(f"{prefix}.tp.weight", atoms.weight.data, tuple(atoms.weight.shape), sign=signs[:, None])
        prefix = f"e3_gnn_node_pair_layer.{j}"
        yield from _linear(f"{prefix}.linear_node_pair_inner", pairs.inner)
        yield from _linear(f"{prefix}.linear_node_pair_n", pairs.before)
        yield from _linear(f"{prefix}.linear_node_pair", pairs.after[0])
        yield from _gate(f"{prefix}.norm_gate_pre", pairs.gate_before)
        yield from _gate(f"{prefix}.norm_gate", pairs.gate)
        yield from _mlp(f"{prefix}.fc", pairs.invariant)
        first, second = _weights(f"{prefix}.fc_node_pair", pairs.radial)
        yield from (first, Slot(second.name, second.ours, second.shape, sign=signs.repeat_interleave(table.shape[1])))
    yield from _expansion("ii", network.expand_atoms, convention)
    yield from _expansion("ij", network.expand_pairs, convention)


def path_signs(convention: Convention) -> Tensor:
    """Sign of each path's 3j symbol relative to ours."""
    paths = coupling_paths(LMAX, LMAX, LMAX, None)
    return torch.tensor([float(convention.sign(path.l1, path.l2, path.l3)) for path in paths])


def _linear(name: str, linear: ChannelLinear) -> Iterator[Slot]:
    yield Slot(f"{name}.weight", linear.weight.data, tuple(linear.weight.shape))
    if linear.bias is not None:
        yield Slot(f"{name}.bias", linear.bias.data, tuple(linear.bias.shape))


def _weights(name: str, network: WeightNetwork) -> Iterator[Slot]:
    yield Slot(f"{name}.layer0.weight", network.first.data, tuple(network.first.shape))
    yield Slot(f"{name}.layer1.weight", network.second.data, tuple(network.second.shape))


def _gate(name: str, gate: NormGate) -> Iterator[Slot]:
    yield from _mlp(f"{name}.fc", gate.network)


def _mlp(name: str, network: nn.Sequential) -> Iterator[Slot]:
    for key, value in network.named_parameters():
        yield Slot(f"{name}.{key}", value.data, tuple(value.shape))


def _expansion(kind: str, expansion: Expansion, convention: Convention) -> Iterator[Slot]:
    yield from _linear(f"output_{kind}", expansion.bottlenecks[0])
    width = expansion.bottlenecks[0].weight.shape[2]
    tables = expansion_rows(expansion, width, convention)
    for name, network, (rows, signs, size) in (
        (f"fc_{kind}", expansion.weights, tables[0]),
        (f"fc_{kind}_bias", expansion.bias, tables[1]),
    ):
        yield from list(_mlp(f"{name}.hamiltonian", network))[:2]
        for key in ("weight", "bias"):
            value = getattr(network[2], key).data
            sign = signs.view(-1, *[1] * (value.dim() - 1))
            yield Slot(f"{name}.hamiltonian.2.{key}", value, (size, *value.shape[1:]), rows, sign)


def expansion_rows(expansion: Expansion, width: int, convention: Convention) -> list[tuple[Tensor, Tensor, int]]:
    """For the outputs W and then B: their row for each of ours, its sign, and how many rows they have.

    They run over L, l1, l2, and the elements of W[w, u, v]; u and v count the shells of l1 and l2 of an element.
    """
    layout = expansion.layout
    first, place, first_bias, place_bias = {}, 0, {}, 0
    for L in range(LMAX + 1):
        for l1, n1 in enumerate(N_SHELLS):
            for l2, n2 in enumerate(N_SHELLS):
                if abs(l1 - l2) <= L <= l1 + l2:
                    first[L, l1, l2] = place
                    place += width * n1 * n2
                    if L == 0:
                        first_bias[l1, l2] = place_bias
                        place_bias += n1 * n2
    rows: list[int] = []
    signs: list[float] = []
    bias_rows: list[int] = []
    for L in range(LMAX + 1):
        members = [t for (l1, l2), ts in layout.classes.items() if abs(l1 - l2) <= L <= l1 + l2 for t in ts]
        places = [shell_places(layout, t) for t in members]
        pairs = [(layout.targets[t].l1, layout.targets[t].l2) for t in members]
        for w in range(width):
            for (u, v), (l1, l2) in zip(places, pairs, strict=True):
                rows.append(first[L, l1, l2] + (w * N_SHELLS[l1] + u) * N_SHELLS[l2] + v)
                signs.append(float(convention.sign(l1, l2, L)))
        if L == 0:
            bias_rows = [first_bias[ls] + u * N_SHELLS[ls[1]] + v for (u, v), ls in zip(places, pairs, strict=True)]
    return [
        (torch.tensor(rows), torch.tensor(signs), place),
        (torch.tensor(bias_rows), torch.ones(len(bias_rows)), place_bias),
    ]


def shell_places(layout: EntryLayout, target: int) -> tuple[int, int]:
    """Which shell of l1, and which of l2, counted from 0 among those of the same l."""
    (a, b), places = next(iter(layout.targets[target].shells.items()))
    counted = [layout.basis.shells[symbol][:place] for symbol, place in zip((a, b), places, strict=True)]
    return counted[0].count(layout.targets[target].l1), counted[1].count(layout.targets[target].l2)


def fill(network: QHNet, state: dict[str, Tensor], convention: Convention, where: Path) -> None:
    """Set all weights from a reference state dict.

    :raises DataError: a tensor is missing or has a wrong size, or the radial basis is another one.
    """
    n_elements = len(state["node_embedding.weight"])
    for slot in slots(network, convention, n_elements):
        theirs = state.get(slot.name)
        if theirs is None or theirs.numel() != int(np.prod(slot.shape)):
            raise DataError(
                "tensor of wrong size in the checkpoint",
                where=f"{where}, {slot.name}",
                found="none" if theirs is None else tuple(theirs.shape),
                expected=slot.shape,
            )
        theirs = theirs.view(slot.shape).to(slot.ours.dtype)
        slot.ours.copy_((theirs if slot.rows is None else theirs[slot.rows]) * slot.sign)
    ours = network.radial_basis.log_binomial
    if not torch.allclose(state["distance_expansion.logc"].to(ours), ours, atol=1e-5):
        raise DataError("radial basis of an unknown form", where=where, expected="Bernstein polynomials")


def state_dict(network: QHNet, length: float, convention: Convention) -> dict[str, Tensor]:
    """The reference's state dict, float32, with all that its modules register besides weights.

    :param length: unit of its lengths, Angstrom.
    """
    n_elements = max(10, *(int(atomic_numbers[symbol]) + 1 for symbol in network.layout.basis.elements))
    state = buffers(network, length, convention)
    for slot in slots(network, convention, n_elements):
        flat = slot.name.endswith((".tp.weight", "output_ii.weight", "output_ij.weight")) or (
            ".linear_" in slot.name and slot.name.endswith(".weight")
        )
        theirs = torch.zeros(slot.shape)
        value = (slot.ours * slot.sign).float()
        theirs = value.clone() if slot.rows is None else theirs.index_copy(0, slot.rows, value)
        state[slot.name] = theirs.flatten() if flat else theirs
    return state


def buffers(network: QHNet, length: float, convention: Convention) -> dict[str, Tensor]:
    """Dead parameters, masks, 3j tables and empty tensors of the reference's modules."""
    a = network.architecture
    n, dim = a.channels, (LMAX + 1) ** 2
    order = torch.arange(a.n_radial, dtype=torch.float32)
    state = {
        "distance_expansion._alpha": torch.tensor(UNTRAINED_ALPHA),
        "distance_expansion.cutoff": torch.tensor(a.message_cutoff / length, dtype=torch.float32),
        "distance_expansion.logc": network.radial_basis.log_binomial.float(),
        "distance_expansion.n": order.flip(0),
        "distance_expansion.v": order,
    }

    def product(name: str, size: int, triples: list[tuple[int, int, int]], weight: int = 0) -> None:
        state[f"{name}.weight"], state[f"{name}.output_mask"] = torch.zeros(weight), torch.ones(size)
        for ls in triples:
            table = (convention.sign(*ls) * e3nn_table(*ls)).float()
            state[f"{name}._compiled_main_left_right._w3j_" + "_".join(map(str, ls))] = table

    def linear(name: str, n_in: int, n_out: int, size: int, bias: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.zeros(n_in * n_out * size), torch.zeros(bias)
        state[f"{name}.output_mask"] = torch.ones(n_out * (dim if size > 1 else 1))

    def gate(name: str, lmax: int) -> None:
        product(f"{name}.norm.tp", n * (lmax + 1), [])
        product(f"{name}.mul", n * ((lmax + 1) ** 2 - 1), [])

    natural, every = ([(p.l1, p.l2, p.l3) for p in coupling_paths(LMAX, LMAX, LMAX, b)] for b in (0, None))
    for k in range(a.n_layers):
        prefix = f"e3_gnn_layer.{k}.conv"
        lmax = LMAX if k else 0
        product(f"{prefix}.tp_node", n * dim, [ls for ls in natural if all(ls)] if k else [])
        product(f"{prefix}.inner_product.tp", n * (lmax + 1), [])
        gate(f"{prefix}.norm_gate", lmax)
        linear(f"{prefix}.linear_out", n, n, LMAX + 1, n)
        for name in ("linear_node", "linear_node_pre"):
            linear(f"{prefix}.{name}", n, n, lmax + 1, n)
        if not k:
            for layer in (0, 2):
                state[f"{prefix}.norm_gate.fc.{layer}.weight"] = torch.zeros(n, n)
                state[f"{prefix}.norm_gate.fc.{layer}.bias"] = torch.zeros(n)
    # e3nn has no table for (1, 1, 1): it takes the cross product.
    paths = [ls for ls in every if all(ls) and ls != (1, 1, 1)]
    for j in range(a.n_layers - FIRST_PAIR_LAYER):
        prefix = f"e3_gnn_node_layer.{j}"
        product(f"{prefix}.tp", n * dim, paths, len(every) * n)
        for m, name in enumerate(("norm_gate_1", "norm_gate_2", "norm_gate")):
            gate(f"{prefix}.{name}", LMAX)
            linear(f"{prefix}.linear_node_{m + 1}", n, n, LMAX + 1, n)
        prefix = f"e3_gnn_node_pair_layer.{j}"
        product(f"{prefix}.tp_node_pair", n * dim, paths)
        product(f"{prefix}.tp_node_pair_2", n * dim, paths, len(every) * n)
        for name in ("inner_product.tp", "norm.tp"):
            product(f"{prefix}.{name}", n * (LMAX + 1), [])
        for name in ("norm_gate", "norm_gate_pre"):
            gate(f"{prefix}.{name}", LMAX)
        for name in ("", "_n", "_inner", "_2"):
            linear(f"{prefix}.linear_node_pair{name}", n, n, LMAX + 1, n)
    size = expansion_rows(network.expand_atoms, a.bottleneck, convention)
    for which in ("ii", "ij"):
        linear(f"output_{which}", n, a.bottleneck, LMAX + 1, 0)
        state[f"expand_{which}.hamiltonian.weights"] = torch.zeros(size[0][2] + size[1][2])
    return state
