"""QHNet: its products, its symmetries (which depend on the parity that is chosen), its ranges, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.wigner import wigner_3j, wigner_d
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.nn.qhnet import products
from aiida_deeph.engine.nn.qhnet.config import QHNetConfig
from aiida_deeph.engine.nn.qhnet.network import QHNet
from aiida_deeph.engine.nn.qhnet.products import (
    EdgeProduct,
    PairProduct,
    components,
    coupling_paths,
    spherical_harmonics,
)
from tests.engine.nn.molecules import ELEMENTS, all_pairs, molecule

SMALL: dict[str, Any] = {"channels": 4, "bottleneck": 3, "n_layers": 3, "first_pair_layer": 1, "all_pairs": True}
ETHANOL = [6, 6, 8, 1, 1, 1, 1, 1, 1]
BASIS = OrbitalBasis({symbol: ELEMENTS[symbol] for symbol in "HCO"})


def network_of(dtype: torch.dtype = torch.float64, *, basis: OrbitalBasis = BASIS, **config: Any) -> QHNet:
    torch.manual_seed(0)
    network = build_network(describe_network(QHNetConfig(**{**SMALL, **config}), basis, SpinMode.NONE, {"H-H": 4.0}))
    assert isinstance(network, QHNet)
    return network.to(dtype)


def ethanol(seed: int = 0) -> Structure:
    """Atoms of ethanol at random places, no two closer than 0.9 Angstrom."""
    rng = np.random.default_rng(seed)
    positions: list[np.ndarray] = []
    while len(positions) < len(ETHANOL):
        new = rng.uniform(0, 4, 3)
        if all(np.linalg.norm(new - old) > 0.9 for old in positions):
            positions.append(new)
    return molecule(np.array(ETHANOL), np.array(positions))


@torch.no_grad()
def dense(network: QHNet, structure: Structure) -> np.ndarray:
    """All of H of a molecule, eV."""
    n = len(structure)
    entries = network(build_model_graph(network, structure, all_pairs(n), dtype=torch.float64)).numpy()
    rows = network.layout.basis.orbitals_per_atom(structure.symbols)
    blocks = np.split(entries, np.cumsum(np.outer(rows, rows).ravel())[:-1])
    return np.block([[blocks[n * i + j].reshape(rows[i], rows[j]) for j in range(n)] for i in range(n)])


def turned(structure: Structure, h: np.ndarray, turn: np.ndarray) -> tuple[Structure, np.ndarray]:
    """A molecule after a rotation or rotatory reflection, and what becomes of its H."""
    sign = round(np.linalg.det(turn))
    d = [matrix[0].numpy() * sign**l for l, matrix in enumerate(wigner_d(torch.from_numpy(sign * turn)[None], 2))]
    u = scipy.linalg.block_diag(*[d[l] for symbol in structure.symbols for l in ELEMENTS[symbol]])
    return Structure(structure.symbols, structure.positions @ turn.T, structure.cell, structure.pbc), u @ h @ u.T


# -- products ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parity", [0, 1, None])
def test_products_are_sums_over_paths(parity: int | None) -> None:
    lmax, n, channels = 3, 5, 2
    rng = torch.Generator().manual_seed(1)
    a, b = (torch.randn(n, (lmax + 1) ** 2, channels, generator=rng, dtype=torch.float64) for _ in range(2))
    first, second = torch.tensor([0, 4, 2, 2]), torch.tensor([1, 1, 3, 0])
    paths = coupling_paths(lmax, lmax, lmax, parity)
    weights = torch.randn(4, len(paths), channels, generator=rng, dtype=torch.float64)
    expected = torch.zeros(4, (lmax + 1) ** 2, channels, dtype=torch.float64)
    for p, path in enumerate(paths):
        table = torch.tensor(path.factor * wigner_3j(path.l1, path.l2, path.l3))
        left, right = a[first, components(path.l1)], b[second, components(path.l2)]
        # e: pair, i, j, k: components, u: channel
        expected[:, components(path.l3)] += torch.einsum("ijk,eiu,eju,eu->eku", table, left, right, weights[:, p])
    product = PairProduct(lmax, parity).double()
    torch.testing.assert_close(product(a, b, weights, first, second), expected)
    if parity == 0:
        edge = EdgeProduct(lmax, lmax).double()
        harmonics = b[second, :, :1].expand(-1, -1, channels)
        wide = product(a, harmonics, weights, first, torch.arange(4))
        sums = torch.zeros_like(a).index_add(0, second, wide)
        found = edge(a, weights, second, first, edge.couplings(harmonics[..., 0]))
        torch.testing.assert_close(found, sums)


def test_gradients_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two pairs at a time: the passes over parts are tested too.
    monkeypatch.setitem(products.NUMBERS_AT_A_TIME, "cpu", 4)
    rng = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64, requires_grad=True)

    first, second = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([1, 1, 0, 1, 2])
    pair = PairProduct(2, None).double()
    arguments = (random(3, 9, 2), random(3, 9, 2), random(5, pair.n_paths, 2))
    assert torch.autograd.gradcheck(lambda a, b, w: pair(a, b, w, first, second), arguments)
    for lmax_in in (0, 2):
        edge = EdgeProduct(lmax_in, 2).double()
        couplings = edge.couplings(spherical_harmonics(torch.randn(5, 3, generator=rng, dtype=torch.float64), 2))
        weights = random(5, edge.n_paths, 2)
        x = random(3, (lmax_in + 1) ** 2, 2)
        assert torch.autograd.gradcheck(lambda x, w, e=edge, c=couplings: e(x, w, first, second, c), (x, weights))


def test_harmonics() -> None:
    vectors = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = spherical_harmonics(vectors, 6)
    rotation = torch.from_numpy(Rotation.random(random_state=3).as_matrix())
    after = spherical_harmonics(2.5 * vectors @ rotation.T, 6)
    for l, d in enumerate(wigner_d(rotation[None], 6)):
        own = values[:, components(l)]
        torch.testing.assert_close(own.square().sum(dim=1), torch.full((20,), 2.0 * l + 1, dtype=torch.float64))
        torch.testing.assert_close(after[:, components(l)], own @ d[0].T)
    along_z = spherical_harmonics(torch.tensor([[0.0, 0, 2]], dtype=torch.float64), 6)[0]
    assert all(along_z[l * l + l] > 0 for l in range(7))


# -- symmetries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [False, True])
def test_mirror_images(ignored: bool) -> None:
    """Rotations are exact; mirror images only where products keep the parity, which the published network does not."""
    network, structure = network_of(ignore_parity=ignored), ethanol()
    h = dense(network, structure)
    rotation = Rotation.random(random_state=3).as_matrix()
    scale = np.abs(h).max()
    np.testing.assert_array_equal(h, h.T)
    for turn, is_exact in ((rotation, True), (-rotation, not ignored)):
        other, expected = turned(structure, h, turn)
        error = np.abs(dense(network, other) - expected).max() / scale
        assert error < 1e-12 if is_exact else error > 1e-3
    assert ("not mirror images" in network.extras()["equivariant_under"]) is ignored


def test_order_of_atoms() -> None:
    network, structure = network_of(), ethanol()
    order = np.random.default_rng(0).permutation(len(structure))
    places = np.cumsum([0, *BASIS.orbitals_per_atom(structure.symbols)])
    orbitals = np.concatenate([np.arange(*places[i : i + 2]) for i in order])
    h = dense(network, structure)
    np.testing.assert_allclose(
        dense(network, structure.permuted(order)), h[np.ix_(orbitals, orbitals)], rtol=0, atol=1e-12 * np.abs(h).max()
    )


def test_symmetric_molecules_have_finite_gradients() -> None:
    """Features that are exactly 0 by symmetry have a norm of 0."""
    co2 = molecule(np.array([8, 6, 8]), np.array([[0.0, 0, -1.2], [0, 0, 0], [0, 0, 1.2]]))
    network = network_of()
    graph = build_model_graph(network, co2, all_pairs(3), dtype=torch.float64)
    network(graph).square().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())


# -- ranges ------------------------------------------------------------------------------------------------------------


def test_far_atoms_do_not_feel_each_other() -> None:
    """Beyond the cutoff no messages pass; the pair's block is what the elements alone give."""
    network = network_of(message_cutoff=5.0)
    first, second = ethanol(0), ethanol(1)
    h = [dense(network, structure) for structure in (first, second)]
    n = len(h[0])
    both = []
    for distance in (20.0, 30.0):
        positions = np.concatenate([first.positions, second.positions + np.array([distance, 0, 0])])
        both.append(dense(network, molecule(np.array(ETHANOL * 2), positions)))
    np.testing.assert_allclose(both[0][:n, :n], h[0], rtol=0, atol=1e-12 * np.abs(h[0]).max())
    np.testing.assert_allclose(both[0][n:, n:], h[1], rtol=0, atol=1e-12 * np.abs(h[1]).max())
    np.testing.assert_allclose(both[1], both[0], rtol=0, atol=1e-12 * np.abs(h[0]).max())


def test_message_ends_smoothly() -> None:
    network = network_of(message_cutoff=3.0)
    near, far = (
        dense(network, molecule(np.array([1, 8]), np.array([[0.0, 0, 0], [0, 0, 3 + d]]))) for d in (-1e-3, 1e-3)
    )
    np.testing.assert_allclose(near, far, rtol=0, atol=1e-9)


def test_one_atom_alone() -> None:
    h = dense(network_of(), molecule(np.array([8]), np.zeros((1, 3))))
    assert h.shape == (14, 14) and np.isfinite(h).all() and np.abs(h).max() > 0


def test_crystal_and_its_double_cell() -> None:
    """Images are pairs like others, also those of an atom with itself."""
    network = network_of(all_pairs=False, message_cutoff=None)
    cell = np.diag([2.6, 2.8, 3.0])
    crystal = Structure(("C", "H"), np.array([[0.0, 0, 0], [1.1, 0.9, 1.3]]), cell)
    double = Structure(
        crystal.symbols * 2, np.concatenate([crystal.positions, crystal.positions + cell[0]]), cell * [[2], [1], [1]]
    )
    levels = []
    for structure in (crystal, double):
        pairs = pairs_within(structure, 4.0)
        rows = BASIS.orbitals_per_atom(structure.symbols)
        with torch.no_grad():
            entries = network(build_model_graph(network, structure, pairs, dtype=torch.float64)).numpy()
        total, start, place = np.zeros((rows.sum(), rows.sum())), 0, np.cumsum([0, *rows])
        for *_, i, j in pairs:
            block = entries[start : start + rows[i] * rows[j]].reshape(rows[i], rows[j])
            total[place[i] : place[i + 1], place[j] : place[j + 1]] += block
            start += block.size
        np.testing.assert_allclose(total, total.T, rtol=0, atol=1e-10)
        levels.append(np.linalg.eigvalsh(total))
    assert all(np.abs(levels[1] - level).min() < 1e-9 * np.abs(levels[0]).max() for level in levels[0])


# -- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "spin", "field"),
    [
        ({}, SpinMode.NONCOLLINEAR, "spin"),
        ({"lmax": 3}, SpinMode.NONE, "network.lmax"),
        ({"first_pair_layer": 3}, SpinMode.NONE, "network.first_pair_layer"),
    ],
)
def test_refuses(config: dict[str, Any], spin: SpinMode, field: str) -> None:
    with pytest.raises(InputError, match=field):
        describe_network(QHNetConfig(**{**SMALL, **config}), BASIS, spin, {"H-H": 4.0})


def test_larger_bases() -> None:
    """Shells beyond 3s2p1d, and f, need features of higher l and no other code."""
    basis = OrbitalBasis({"H": (0, 0, 0, 1, 1), "C": (0, 1, 2, 3), "O": (0, 0, 1, 1, 2, 2)})
    network = network_of(basis=basis, lmax=6)
    structure = ethanol()
    rows = basis.orbitals_per_atom(structure.symbols).sum()
    h = dense(network, structure)
    assert h.shape == (rows, rows) and (h != 0).all()
