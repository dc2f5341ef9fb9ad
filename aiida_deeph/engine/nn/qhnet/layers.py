"""The layers of QHNet: convolution, and the features of atoms and of pairs that H is made of (arXiv 2306.04922).

All maps but the linear ones act on each channel by itself. Shapes of features are those of `products`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from aiida_deeph.engine.nn.equivariant.module import EngineModule, Modules
from aiida_deeph.engine.nn.qhnet.products import EdgeProduct, PairProduct

SOFTPLUS_FACTOR = 1.878204668541552
"""Gives the shifted softplus of a normal variable a second moment of 1: e3nn's number, found by sampling."""


class ChannelLinear(nn.Module):
    """Mixes the channels, each l with a matrix of its own; a bias on l = 0 alone."""

    def __init__(self, n_in: int, n_out: int, lmax: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(lmax + 1, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """:param x: shape (n_items, (lmax + 1)^2, n_in)."""
        weights = (self.weight / sqrt(self.weight.shape[1])).unbind()
        parts = [part @ w for part, w in zip(by_l(x), weights, strict=True)]
        if self.bias is not None:
            parts[0] = parts[0] + self.bias
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def by_l(x: Tensor) -> tuple[Tensor, ...]:
    """The components of each l, shape (n_items, 2 l + 1, n_channels)."""
    parts: tuple[Tensor, ...] = x.split([2 * l + 1 for l in range(round(sqrt(x.shape[1])))], dim=1)
    return parts


def mlp(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """One hidden layer with SiLU."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_out))


class WeightNetwork(nn.Module):
    """One hidden layer with shifted softplus, no biases, so that 0 gives 0: e3nn's FullyConnectedNet."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.randn(a, b)) for a, b in ((n_in, n_hidden), (n_hidden, n_out)))

    def forward(self, x: Tensor) -> Tensor:
        """:param x: shape (n_items, n_in)."""
        hidden = nn.functional.softplus(x @ (self.first / sqrt(len(self.first)))) - log(2)
        return hidden @ (self.second * (SOFTPLUS_FACTOR / sqrt(len(self.second))))


class NormGate(nn.Module):
    """A network of scalars and norms gives the new scalars and a factor for every other channel."""

    def __init__(self, n_channels: int, lmax: int) -> None:
        super().__init__()
        n = (lmax + 1) * n_channels
        self.network = mlp(n, n, n)

    def forward(self, x: Tensor, *others: Tensor) -> list[Tensor]:
        """Gated features.

        :param x: shape (n_items, (lmax + 1)^2, n_channels).
        :param others: of the other parity, without scalars: multiplied with the same factors.
        """
        scalars, *tensors = by_l(x)
        given = torch.cat([scalars[:, 0], *map(_norm, tensors)], dim=1)
        new, *factors = self.network(given).unflatten(1, (-1, x.shape[2])).split(1, dim=1)

        def scaled(first: Tensor, rest: Sequence[Tensor]) -> Tensor:
            return torch.cat([first, *(part * factor for part, factor in zip(rest, factors, strict=True))], dim=1)

        return [scaled(new, tensors), *(scaled(parts[0], parts[1:]) for parts in map(by_l, others))]


def _norm(x: Tensor) -> Tensor:
    """Norm over the components, whose gradient at 0 is 0: symmetric molecules have features that are exactly 0."""
    square = x.square().sum(dim=1)
    is_positive = square > 0
    return torch.where(is_positive, torch.where(is_positive, square, 1).sqrt(), 0)


class BernsteinBasis(EngineModule):
    """B_v(r) = binomial(K - 1, v) e^(-a r (K-1-v)) (1 - e^(-a r))^v f(r), f = exp(-r^2 / (c^2 - r^2)), 0 from c on.

    :param n: K.
    :param cutoff: c, Angstrom.
    :param alpha: a, 1/Angstrom; `learned`: only where it starts.
    """

    log_binomial: Tensor
    order: Tensor

    def __init__(self, n: int, cutoff: float, alpha: float, *, learned: bool) -> None:
        super().__init__()
        self.n, self.cutoff, self.fixed_alpha = n, cutoff, alpha
        self.raw_alpha = nn.Parameter(torch.tensor(log(np.expm1(alpha)))) if learned else None
        binomials = [lgamma(n) - lgamma(v + 1) - lgamma(n - v) for v in range(n)]
        # Rounded as in every published checkpoint: B changes by 4e-7 of itself.
        self.constant("log_binomial", np.array(binomials, dtype=np.float32).astype(np.float64))
        self.constant("order", np.arange(n, dtype=np.float64))

    @property
    def alpha(self) -> Tensor | float:
        """a, 1/Angstrom."""
        return self.fixed_alpha if self.raw_alpha is None else nn.functional.softplus(self.raw_alpha)

    def forward(self, distances: Tensor) -> Tensor:
        """:param distances: shape (n_edges,), Angstrom, above 0; returns shape (n_edges, n)."""
        r = distances[:, None]
        exponent = -self.alpha * r
        inside = r < self.cutoff
        square = torch.where(inside, r, 0).square()
        envelope = torch.where(inside, torch.exp(-square / (self.cutoff**2 - square)), 0)
        falling = (self.n - 1 - self.order) * exponent
        return envelope * torch.exp(self.log_binomial + falling + self.order * torch.log(-torch.expm1(exponent)))


def pair_scalars(x: Tensor, first: Tensor, second: Tensor, *, both: bool = True) -> Tensor:
    """Scalars of both ends, then their inner products sum_m a_m b_m / (2 l + 1) for l > 0; (n_edges, (2 + lmax) C).

    :param both: False takes those of the first end twice, as the published models do.
    """
    a, b = x.index_select(0, first), x.index_select(0, second)
    inner = [part.mean(dim=1) for part in by_l(a * b)[1:]]
    return torch.cat([a[:, 0], (b if both else a)[:, 0], *inner], dim=1)


class Convolution(nn.Module):
    """x' = x + Lin(sum_j T(g_j, Y_ij; w_ij) + g_i): messages from all atoms within the cutoff.

    The first one has scalars alone and neither gate nor anything added.

    :param both: the weights know the scalars of both ends, see `pair_scalars`.
    """

    def __init__(self, n_channels: int, lmax: int, n_radial: int, *, is_first: bool, both: bool) -> None:
        super().__init__()
        self.is_first, self.both = is_first, both
        self.product = EdgeProduct(0 if is_first else lmax, lmax)
        n_scalars, n_weights = 2 if is_first else lmax + 2, self.product.n_paths * n_channels
        self.radial = WeightNetwork(n_radial, 32, n_weights)
        self.invariant = WeightNetwork(n_scalars * n_channels, 32, n_weights)
        self.after = ChannelLinear(n_channels, n_channels, lmax)
        if not is_first:
            self.before = ChannelLinear(n_channels, n_channels, lmax)
            self.gate, self.gated = NormGate(n_channels, lmax), ChannelLinear(n_channels, n_channels, lmax)

    def atoms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the weights of messages are made of, and what is sent."""
        return (x, x) if self.is_first else (self.before(x), self.gated(self.gate(x)[0]))

    def messages(
        self, p: Tensor, g: Tensor, source: Tensor, target: Tensor, radial: Tensor, couplings: list[Tensor]
    ) -> Tensor:
        """Sums at the atoms.

        :param p: see `atoms`; `g` too.
        :param radial: shape (n_edges, n_radial).
        :param couplings: see `EdgeProduct.couplings`.
        """
        weights = self.radial(radial) * self.invariant(pair_scalars(p, source, target, both=self.both))
        sums: Tensor = self.product(g, weights.unflatten(1, (-1, g.shape[2])), source, target, couplings)
        return sums

    def update(self, x: Tensor, g: Tensor, messages: Tensor) -> Tensor:
        """New features."""
        new: Tensor = self.after(messages) if self.is_first else x + self.after(messages + g)
        return new


class BlockFeatures(nn.Module):
    """Features that blocks of H are made of, from products of two atoms' features: Lin(G(T(a, b; w) + x)).

    From features of parity (-1)^l the paths of even l1 + l2 + l3 give such again. Blocks of H need the other parity as
    well (the antisymmetric part of a p-p block is a pseudovector); the odd paths give it. Both are kept apart, and
    mirror images come out right. With `ignore_parity`, as published, all paths add up to one set of features.
    """

    def __init__(self, n_channels: int, lmax: int, *, ignore_parity: bool) -> None:
        super().__init__()
        parities = (None,) if ignore_parity else (0, 1)
        self.products: Modules[PairProduct] = Modules(PairProduct(lmax, parity) for parity in parities)
        self.n_paths = [product.n_paths for product in self.products]
        self.gate = NormGate(n_channels, lmax)
        self.after: Modules[ChannelLinear] = Modules(
            ChannelLinear(n_channels, n_channels, lmax, bias=not n) for n in range(len(parities))
        )

    def combined(
        self, left: Tensor, right: Tensor, weights: Tensor, first: Tensor, second: Tensor, x: Tensor | None = None
    ) -> list[Tensor]:
        """Features of parity (-1)^l, then those of the other one if they are kept apart.

        :param weights: shape (n_pairs, n_paths, n_channels).
        :param x: what is added to the products; the other arguments are those of `PairProduct`.
        """
        parts = weights.split(self.n_paths, dim=1)
        t = [product(left, right, w, first, second) for product, w in zip(self.products, parts, strict=True)]
        gated = self.gate(t[0] if x is None else t[0] + x, *t[1:])
        return [linear(part) for linear, part in zip(self.after, gated, strict=True)]


class AtomFeatures(BlockFeatures):
    """Those of the blocks on the atoms: Lin(G(T(Lin G x, Lin G x; w) + x)), with the same weights for all."""

    def __init__(self, n_channels: int, lmax: int, *, ignore_parity: bool) -> None:
        super().__init__(n_channels, lmax, ignore_parity=ignore_parity)
        self.gates: Modules[NormGate] = Modules(NormGate(n_channels, lmax) for _ in range(2))
        self.before: Modules[ChannelLinear] = Modules(ChannelLinear(n_channels, n_channels, lmax) for _ in range(2))
        self.weight = nn.Parameter(torch.randn(sum(self.n_paths), n_channels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """:param x: of the atoms."""
        left, right = (linear(gate(x)[0]) for linear, gate in zip(self.before, self.gates, strict=True))
        atoms = torch.arange(len(x), device=x.device)
        return self.combined(left, right, self.weight.expand(len(x), -1, -1), atoms, atoms, x)


class PairFeatures(BlockFeatures):
    """Those of the blocks of two atoms: Lin(G(T(y_j, y_i; w_ij)))."""

    def __init__(self, n_channels: int, lmax: int, n_radial: int, *, ignore_parity: bool) -> None:
        super().__init__(n_channels, lmax, ignore_parity=ignore_parity)
        self.inner, self.before = (ChannelLinear(n_channels, n_channels, lmax) for _ in range(2))
        self.gate_before = NormGate(n_channels, lmax)
        n_weights = sum(self.n_paths) * n_channels
        self.radial = WeightNetwork(n_radial, n_channels, n_weights)
        self.invariant = mlp((lmax + 2) * n_channels, n_channels, n_weights)

    def atoms(self, x: Tensor) -> list[Tensor]:
        """What the weights are made of, and the factors of the products."""
        return [self.inner(x), self.before(self.gate_before(x)[0])]

    def forward(self, q: Tensor, y: Tensor, source: Tensor, target: Tensor, radial: Tensor) -> list[Tensor]:
        """:param q: see `atoms`; `y` too.

        :param radial: shape (n_pairs, n_radial).
        """
        weights = self.radial(radial) * self.invariant(pair_scalars(q, source, target))
        return self.combined(y, y, weights.unflatten(1, (-1, y.shape[2])), target, source)
