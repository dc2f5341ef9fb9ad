"""Backward passes that are written out: against finite differences, in float64."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.nn.equivariant.features import FeatureLayout
from aiida_deeph.engine.nn.equivariant.frames import Edges, Frames
from aiida_deeph.engine.nn.equivariant.gate import gate
from aiida_deeph.engine.nn.equivariant.irreps import Irreps, spherical_irreps
from aiida_deeph.engine.nn.equivariant.layernorm import EquivariantLayerNorm
from aiida_deeph.engine.nn.equivariant.linear import EquivariantLinear, TypeGroups
from aiida_deeph.engine.nn.equivariant.so2 import SO2Product
from aiida_deeph.engine.nn.network import build_model_graph
from aiida_deeph.engine.nn.passes import Part
from tests.engine.nn.systems import CUTOFF, random_network, random_structure

IRREPS = Irreps.parse("2x0e+1x0o+2x1o+1x1e+1x2e")


def random_features(irreps: Irreps, n: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    zeros = FeatureLayout(irreps).zeros(n, torch.empty(0, dtype=torch.float64))
    return [torch.randn(part.shape, generator=generator, dtype=torch.float64, requires_grad=True) for part in zeros]


@pytest.fixture(scope="module")
def edges() -> Edges:
    """Edges of a random structure, its loops included."""
    network, _ = random_network()
    structure = random_structure(0, 3)
    graph = build_model_graph(network, structure, pairs_within(structure, 2.4), dtype=torch.float64)
    return network.edges_of(Part(graph), torch.float64)


def check(function, *tensors: torch.Tensor) -> None:
    """`gradcheck` on some random directions, complex numbers aside."""
    assert torch.autograd.gradcheck(function, tensors, eps=1e-6, atol=1e-7, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize(("n_types", "types"), [(1, [0, 0, 0, 0]), (3, [2, 0, 2, 2]), (3, [1, 1, 1, 1])])
@pytest.mark.parametrize("small", [True, False])
def test_linear(n_types: int, types: list[int], small: bool) -> None:
    """Items of several types, spread over one product or sorted and multiplied type by type."""
    linear = EquivariantLinear(IRREPS, Irreps.parse("1x0e+2x1o+2x0e+1x3o+1x2e"), bias=True, n_types=n_types).double()
    groups = TypeGroups(torch.tensor(types), n_types) if n_types > 1 else None
    if groups is not None:
        assert groups.small
        groups.small = small
    x, onto = random_features(IRREPS, 4), random_features(linear.irreps_out, 4, 1)

    def function(weight, bias, *tensors):
        linear.weight.data, linear.bias.data = weight.data, bias.data
        named = {"weight": weight, "bias": bias}
        return tuple(
            torch.func.functional_call(linear, named, (list(tensors[: len(x)]), groups, list(tensors[len(x) :])))
        )

    check(function, linear.weight.detach().requires_grad_(), linear.bias.detach().requires_grad_(), *x, *onto)


@pytest.mark.parametrize("ignore_parity", [False, True])
@pytest.mark.parametrize("fold", [False, True])
def test_product(ignore_parity: bool, fold: bool, edges: Edges) -> None:
    node, edge, out = (
        Irreps.parse("2x0e+2x1o+1x2e"),
        Irreps.parse("1x0e+1x0o+1x1o+1x1e"),
        Irreps.parse("2x0o+3x0e+2x1o+1x1e+1x2o+1x3o"),
    )
    if ignore_parity:
        node, edge, out = (irreps.all_even().sorted().simplified() for irreps in (node, edge, out))
    product = SO2Product(node, edge, spherical_irreps(3, ignore_parity), out).double()
    before = [EquivariantLinear(irreps, irreps, bias=True).double() for irreps in (node, edge)]
    for linear in before:
        linear.bias.data.normal_()
    frames = Frames.of(torch.zeros(0, 3), None, 3, ignore_parity, torch.float64)
    frames.natural = edges.frames.natural
    used = Edges(**{**edges.__dict__, "frames": frames}) if "groups" not in edges.__dict__ else edges
    x, e = random_features(node, 3), random_features(edge, len(edges.source), 1)

    def function(weight, *tensors):
        scalars, v, e = tensors[0], tensors[1 : len(x)], tensors[len(x) :]
        ends = used.ends([scalars, *v], product.node)
        maps = (before[0].matrix_of_ends(), before[1]) if fold else (None, None)
        return tuple(torch.func.functional_call(product, {"weight": weight}, (scalars, ends, list(e), used, *maps)))

    check(function, product.weight.detach().requires_grad_(), *x, *e)
    if fold:
        parameters = [parameter for linear in before for parameter in linear.parameters()]
        outputs = function(product.weight, *x, *e)
        total = sum(
            (value * torch.cos(torch.arange(value.numel(), dtype=torch.float64)).view(value.shape)).sum()
            for value in outputs
        )
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:  # scalars of the nodes come with their map applied
                continue
            direction = torch.randn_like(parameter)
            values = []
            for step in (1e-5, -1e-5):
                parameter.data += step * direction
                values.append(
                    sum(
                        (v * torch.cos(torch.arange(v.numel(), dtype=torch.float64)).view(v.shape)).sum()
                        for v in function(product.weight, *x, *e)
                    )
                )
                parameter.data -= step * direction
            assert torch.allclose((values[0] - values[1]) / 2e-5, (gradient * direction).sum(), rtol=1e-6, atol=1e-7)


def test_rotations(edges: Edges) -> None:
    layout = FeatureLayout(IRREPS)
    z = random_features(IRREPS, len(edges.source))
    check(lambda *parts: tuple(edges.sum_at_source(list(parts), layout, 3)), *z)
    x = random_features(IRREPS, 3)
    check(lambda *parts: tuple(edges.ends(list(parts), layout)), *x)


@pytest.mark.parametrize("irreps", ["3x0e+2x1o+1x2e", "2x0e+1x0o+1x0e+2x1o", "3x0e"])
def test_gate(irreps: str) -> None:
    layout = FeatureLayout(Irreps.parse(irreps))
    out = random_features(layout.irreps, 4)
    n = layout.n_scalars + 2 * layout.n_channels(0)
    z0 = torch.randn(4, n, dtype=torch.float64, requires_grad=True)
    factors = torch.randn(4, layout.n_scalars + layout.n_channels(0), dtype=torch.float64, requires_grad=True)
    check(lambda factors, *z: tuple(gate(layout, factors, z)), factors, z0, *out[2:])


@pytest.mark.parametrize("n_graphs", [1, 2])
@pytest.mark.parametrize("framed", [False, True])
def test_normalisation(n_graphs: int, framed: bool, edges: Edges) -> None:
    norm = EquivariantLayerNorm(IRREPS).double()
    n = len(edges.source)
    graph = None if n_graphs == 1 else (torch.arange(n) >= n // 3).long()
    x, past = random_features(IRREPS, n), random_features(IRREPS, n, 1)

    def function(weight, bias, *tensors):
        arguments = (
            list(tensors[: len(x)]),
            list(tensors[len(x) :]),
            graph,
            n_graphs,
            edges.frames if framed else None,
        )
        return tuple(torch.func.functional_call(norm, {"weight": weight, "bias": bias}, arguments))

    weight = torch.randn_like(norm.weight).requires_grad_()
    check(function, weight, torch.randn_like(norm.bias).requires_grad_(), *x, *past)


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
@pytest.mark.parametrize("batch", [False, True])
def test_whole_network(spin: SpinMode, batch: bool) -> None:
    network, _ = random_network(spin, irreps_mid="4x0e+2x1o+2x1e+1x2e", lmax=2)
    graphs = []
    for seed in range(2):
        structure = random_structure(seed, 3)
        graphs.append(build_model_graph(network, structure, pairs_within(structure, CUTOFF), dtype=torch.float64))
    graph = Batch.from_data_list(graphs) if batch else graphs[0]
    torch.manual_seed(0)
    with torch.no_grad():
        factor = torch.randn_like(network(graph))

    def loss() -> torch.Tensor:
        return (network(graph) * factor.conj()).real.sum()

    loss().backward()
    for name, parameter in network.named_parameters():
        direction = torch.randn_like(parameter)
        values = []
        with torch.no_grad():
            for step in (1e-6, -1e-6):
                parameter += step * direction
                values.append(loss())
                parameter -= step * direction
        slope = (values[0] - values[1]) / 2e-6
        assert torch.allclose(slope, (parameter.grad * direction).sum(), rtol=1e-5, atol=1e-6), name
