"""DeepH-E3 in its plain form, with e3nn's own modules: what the fast network is compared with.

Written from the paper and the reference's state dict, for one graph, slow on purpose. Loads a state dict of the
reference, whichever version of e3nn it was trained with: `path` normalisation is asked from e3nn, older signs are set
per path.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aiida_deeph.engine.nn.reference.conventions import CONVENTIONS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import e3nn
    from e3nn import o3
    from e3nn.nn import Gate

e3nn.set_optimization_defaults(jit_script_fx=False, optimize_einsums=False)

SILU, TANH, SIGMOID = torch.nn.functional.silu, torch.tanh, torch.sigmoid
State = Mapping[str, Tensor]


def possible(irreps: o3.Irreps, first: o3.Irreps, second: o3.Irreps) -> list[tuple[int, o3.Irrep]]:
    """Entries of `irreps` that a product of the two others holds."""
    return [(mul, ir) for mul, ir in irreps if any(ir in a * b for _, a in first for _, b in second)]


class Convolution:
    """Tensor product with the spherical harmonics, gate, and factors from the distance."""

    def __init__(
        self, irreps_in: o3.Irreps, sh: o3.Irreps, wanted: o3.Irreps, state: State, name: str, version: str
    ) -> None:
        convention = CONVENTIONS[version]
        reachable = possible(wanted, irreps_in, sh)
        scalars = o3.Irreps([(mul, ir) for mul, ir in reachable if ir.l == 0]).simplify()
        gated = o3.Irreps([(mul, ir) for mul, ir in reachable if ir.l > 0]).simplify()
        gates = o3.Irreps([(mul, "0e") for mul, _ in gated]).simplify()
        activations = [SILU if ir.p == 1 else TANH for _, ir in scalars]
        self.gate = Gate(scalars, activations, gates, [SIGMOID for _ in gates], gated)
        # e3nn finds the activations' factors by sampling; these are the ones it has found in the reference's versions.
        self.irreps_out = self.gate.irreps_out
        irreps_mid = self.gate.irreps_in
        instructions, weights = [], []
        for i, (_, a) in enumerate(irreps_in):
            for j, (_, b) in enumerate(sh):
                for k, (_, c) in enumerate(irreps_mid):
                    if c in a * b:
                        q = len(instructions)
                        instructions.append((i, j, k, "uvw", True))
                        w1, w2 = state[f"{name}.tp.weights1.{q}"], state[f"{name}.tp.weights2.{q}"]
                        sign = convention.sign(a.l, b.l, c.l)
                        weights.append(sign * torch.einsum("uw,vw->uvw", w1, w2).reshape(-1))
        self.weights = torch.cat(weights)
        self.product = o3.TensorProduct(
            irreps_in,
            sh,
            irreps_mid,
            instructions,
            irrep_normalization="component",
            path_normalization=convention.normalization,
            internal_weights=False,
            shared_weights=True,
            compile_left_right=True,
            compile_right=False,
        )
        self.layers = [(state[f"{name}.fc.{n}.weight"], state[f"{name}.fc.{n}.bias"]) for n in (0, 2, 4)]

    def __call__(self, x: Tensor, y: Tensor, gaussians: Tensor) -> Tensor:
        z = self.gate(self.product(x, y, self.weights))
        factor = gaussians
        for n, (weight, bias) in enumerate(self.layers):
            factor = torch.nn.functional.linear(SILU(factor) if n else factor, weight, bias)
        channels = torch.cat(
            [torch.full((ir.dim,), c) for c, ir in enumerate(ir for mul, ir in self.irreps_out for _ in range(mul))]
        )
        return z * factor[:, channels]


def linear(
    irreps_in: o3.Irreps, irreps_out: o3.Irreps, state: State, name: str, version: str, *, biases: bool
) -> nn.Module:
    """e3nn's Linear with the reference's weights."""
    module = o3.Linear(irreps_in, irreps_out, biases=biases, path_normalization=CONVENTIONS[version].normalization)
    with torch.no_grad():
        module.weight.copy_(state[f"{name}.weight"])
        if biases and module.bias.numel():
            module.bias.copy_(state[f"{name}.bias"])
    return module


def self_connection(
    irreps_in: o3.Irreps, n: int, irreps_out: o3.Irreps, state: State, name: str, version: str
) -> nn.Module:
    """Fully connected product with a one-hot vector of n types."""
    module = o3.FullyConnectedTensorProduct(
        irreps_in, f"{n}x0e", irreps_out, path_normalization=CONVENTIONS[version].normalization
    )
    with torch.no_grad():
        module.weight.copy_(state[f"{name}.weight"])
    return module


def layer_norm(irreps: o3.Irreps, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Means over all items and channels, division by the root mean square for scalars alone."""
    parts, w, b = [], 0, 0
    for part, (mul, ir) in zip([x[:, s] for s in irreps.slices()], irreps, strict=True):
        f = part.reshape(len(x), mul, ir.dim)
        f = f - f.mean(dim=(0, 1), keepdim=True)
        if ir.l == 0:
            f = f / (f.square().mean().sqrt() + 1e-5)
        f = f * weight[w : w + mul, None]
        w += mul
        if ir.l == 0 and ir.p == 1:
            f = f + bias[b : b + mul, None]
            b += mul
        parts.append(f.reshape(len(x), -1))
    return torch.cat(parts, dim=1)


class Update:
    """What updates of nodes and edges share."""

    def __init__(
        self,
        own: o3.Irreps,
        node: o3.Irreps,
        edge: o3.Irreps,
        sh: o3.Irreps,
        out: o3.Irreps,
        n: int,
        state: State,
        name: str,
        version: str,
    ) -> None:
        self.lin_pre = linear(own, own, state, f"{name}.lin_pre", version, biases=True)
        self.conv = Convolution(node + node + edge, sh, out, state, f"{name}.conv", version)
        self.irreps_out = self.conv.irreps_out
        self.lin_post = linear(self.irreps_out, self.irreps_out, state, f"{name}.lin_post", version, biases=True)
        self.sc = self_connection(own, n, self.irreps_out, state, f"{name}.sc", version)
        self.norm = (state[f"{name}.norm.weight"], state[f"{name}.norm.bias"])
        same = self.irreps_out == own
        self.skip = (
            None if same else linear(own, self.irreps_out, state, f"{name}.skip_connect.sc", version, biases=False)
        )

    def finish(self, old: Tensor, z: Tensor, one_hot: Tensor) -> Tensor:
        z = layer_norm(self.irreps_out, self.lin_post(z) + self.sc(old, one_hot), *self.norm)
        return z + (old if self.skip is None else self.skip(old))


class Oracle:
    """The network of one state dict.

    :param arguments: keyword arguments of the reference's network.
    :param blocks: (l1, l2) of every target in order.
    """

    def __init__(
        self, arguments: dict[str, Any], state: State, blocks: list[tuple[int, int]], spinful: bool, version: str
    ) -> None:
        state = {name: value.double() for name, value in state.items()}
        a = {name: o3.Irreps(value) for name, value in arguments.items() if name.startswith("irreps_")}
        self.n_species, self.version, self.blocks, self.spinful = arguments["num_species"], version, blocks, spinful
        self.no_parity = arguments.get("no_parity", False)
        self.sh, self.ends = a["irreps_sh"], (arguments["r_max"], 6.0)
        self.sizes = (arguments.get("num_basis", 128), a["irreps_edge_init"].dim)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            self._build(a, state, arguments["num_block"])
        finally:
            torch.set_default_dtype(default)

    def _build(self, a: dict[str, o3.Irreps], state: State, n_blocks: int) -> None:
        n, version = self.n_species, self.version
        node, edge = a["irreps_embed_node"], a["irreps_edge_init"]
        self.embedding = linear(o3.Irreps(f"{n}x0e"), node, state, "embedding", version, biases=False)
        self.updates = []
        for b in range(n_blocks):
            last = b == n_blocks - 1
            out = a["irreps_post_node"] if last else a["irreps_mid_node"]
            name = f"node_update_blocks.{b}"
            nodes = Update(node, node, edge, self.sh, out, n, state, name, version)
            node = nodes.irreps_out
            out = a["irreps_post_edge"] if last else a["irreps_mid_edge"]
            name = f"edge_update_blocks.{b}"
            edges = Update(edge, node, edge, self.sh, out, n * n, state, name, version)
            edge = edges.irreps_out
            self.updates.append((nodes, edges))
        self.lin_edge = linear(edge, a["irreps_out_edge"], state, "lin_edge", version, biases=True)

    def blocks_of_edges(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> list[Tensor]:
        """Blocks of all edges, for every target: (n_edges, 2 l1 + 1, 2 l2 + 1); with spin (n_edges, 4, ., .), complex.

        :param vectors: shape (n_edges, 3), Angstrom, float64.
        """
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad():
                return self._head(self._edges(species, edge_index, vectors))
        finally:
            torch.set_default_dtype(default)

    def _edges(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        i, j = edge_index
        n = self.n_species
        one_hot = torch.nn.functional.one_hot(species, n).double()
        pair_one_hot = torch.nn.functional.one_hot(species[i] * n + species[j], n * n).double()
        y = o3.spherical_harmonics(list(range(self.sh.lmax + 1)), vectors[:, [1, 2, 0]], True, "component")
        loops = vectors.norm(dim=1) == 0
        y[loops] = 0
        y[loops, 0] = 1
        gaussians, e = [
            torch.exp(
                -((vectors.norm(dim=1)[:, None] - torch.linspace(0, end, size)) ** 2) / (2 * (end / (size - 1)) ** 2)
            )
            for end, size in zip(self.ends, self.sizes, strict=True)
        ]
        x = self.embedding(one_hot)
        for nodes, edges in self.updates:
            h = nodes.lin_pre(x)
            messages = nodes.conv(torch.cat([h[i], h[j], e], dim=1), y, gaussians)
            total = torch.zeros(len(x), messages.shape[1]).index_add_(0, i, messages)
            x = nodes.finish(x, total, one_hot)
            z = edges.conv(torch.cat([x[i], x[j], edges.lin_pre(e)], dim=1), y, gaussians)
            e = edges.finish(e, z, pair_one_hot)
        return self.lin_edge(e)

    def _w3j(self, l1: int, l2: int, l3: int) -> Tensor:
        return CONVENTIONS[self.version].sign(l1, l2, l3) * o3.wigner_3j(l1, l2, l3).double()

    def _head(self, t: Tensor) -> list[Tensor]:
        widths = []
        for l1, l2 in self.blocks:
            ls = range(abs(l1 - l2), l1 + l2 + 1)
            widths.append((2 * l1 + 1) * (2 * l2 + 1) * (4 if self.spinful else 1))
            assert sum(2 * l + 1 for l in ls) * (4 if self.spinful else 1) == widths[-1]
        if self.spinful:
            real, imaginary = t.split(sum(widths), dim=1)
            t = torch.complex(real, imaginary)
        result = []
        for (l1, l2), part in zip(self.blocks, t.split(widths, dim=1), strict=True):
            ls = range(abs(l1 - l2), l1 + l2 + 1)
            c = torch.cat([self._w3j(l1, l2, l) for l in ls], dim=2).to(t.dtype)
            n = c.shape[2]
            if not self.spinful:
                result.append(torch.einsum("abm,em->eab", c, part))
                continue
            pieces = part[:, n:].split([3 * (2 * l + 1) for l in ls], dim=1)
            vectors = [
                torch.einsum(
                    "msk,ek->ems",
                    torch.cat([self._w3j(l, 1, k) for k in range(abs(l - 1), l + 2)], dim=2).to(t.dtype),
                    piece,
                )
                for l, piece in zip(ls, pieces, strict=True)
            ]
            tensor = torch.cat([part[:, :n, None], torch.cat(vectors, dim=1)], dim=2)
            basis = torch.tensor([[1, 0, 1, 0], [0, -1j, 0, 1], [0, 1j, 0, 1], [1, 0, -1, 0]], dtype=t.dtype) / 2**0.5
            result.append(torch.einsum("ems,abm,ts->etab", tensor, c, basis))
        return result


def entries_of(blocks: list[Tensor], layout: Any, symbols: tuple[str, ...], atom_pairs: Any) -> Tensor:
    """Entries in the order of BlockSparseMatrix from the blocks of every target.

    :param layout: `EntryLayout` with the same targets; only its list of targets is used.
    """
    spin = 2 if layout.n_spin_blocks > 1 else 1
    result = []
    for e, (*_, i, j) in enumerate(atom_pairs.tolist()):
        a, b = symbols[i], symbols[j]
        shells = [
            [sum(2 * l + 1 for l in layout.basis.shells[s][:n]) for n in range(len(layout.basis.shells[s]))]
            for s in (a, b)
        ]
        rows, columns = layout.basis.n_orbitals(a), layout.basis.n_orbitals(b)
        block = torch.full((spin, rows, spin, columns), float("nan"), dtype=blocks[0].dtype)
        for target, values in zip(layout.targets, blocks, strict=True):
            if (a, b) in target.shells:
                first, second = target.shells[a, b]
                row, column = shells[0][first], shells[1][second]
                value = values[e].reshape(spin, spin, 2 * target.l1 + 1, 2 * target.l2 + 1).permute(0, 2, 1, 3)
                block[:, row : row + 2 * target.l1 + 1, :, column : column + 2 * target.l2 + 1] = value
        result.append(block.reshape(-1))
    return torch.cat(result)
