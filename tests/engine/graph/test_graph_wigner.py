"""Wigner 3j symbols and rotations into the frames of edges."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aiida_deeph.engine.graph.wigner import (
    component_order,
    edge_wigner,
    frame_rotations,
    wigner_3j,
    wigner_d,
    wigner_size,
)

LMAX = 8


def harmonics(l: int, vectors: np.ndarray) -> np.ndarray:
    """Real spherical harmonics of unit vectors with |Y|^2 = 2 l + 1, from scipy's complex ones."""
    x, y, z = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    from scipy.special import lpmv

    phi, result = np.arctan2(y, x), []
    for m in range(-l, l + 1):
        norm = np.sqrt((2 * l + 1) * np.prod([1.0 / n for n in range(l - abs(m) + 1, l + abs(m) + 1)]))
        legendre = (-1) ** m * lpmv(abs(m), l, z) * norm * (np.sqrt(2) if m else 1)
        result.append(legendre * (np.cos(m * phi) if m >= 0 else np.sin(-m * phi)))
    return np.stack(result, axis=1)


@pytest.mark.parametrize("l", range(LMAX + 1))
def test_rotation_matrices_turn_spherical_harmonics(l: int) -> None:
    rng = np.random.default_rng(l)
    vectors = rng.normal(size=(20, 3))
    rotations = Rotation.random(20, random_state=l).as_matrix()
    d = wigner_d(torch.from_numpy(rotations), LMAX)[l].numpy()
    turned = np.einsum("nij,nj->ni", rotations, vectors)
    assert np.allclose(np.einsum("nij,nj->ni", d, harmonics(l, vectors)), harmonics(l, turned), atol=1e-12)


def test_3j_symbols_are_those_of_e3nn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from e3nn import o3
    for l1 in range(6):
        for l2 in range(6):
            for l3 in range(abs(l1 - l2), min(5, l1 + l2) + 1):
                theirs = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
                assert np.allclose(wigner_3j(l1, l2, l3), theirs, atol=1e-12), (l1, l2, l3)
    with pytest.raises(ValueError, match="no 3j symbol"):
        wigner_3j(1, 1, 3)


def special_directions() -> torch.Tensor:
    """Axes, poles approached from the side, and directions at random."""
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    near = np.array([[1e-9, 0, 1], [1e-9, -1e-12, -1], [1e-160, 0, 2], [0, 1e-5, -3.0]])
    return torch.from_numpy(np.concatenate([axes, near, np.random.default_rng(0).normal(size=(50, 3))]))


def test_frames_put_the_edge_on_the_z_axis() -> None:
    vectors = special_directions()
    rotations = frame_rotations(vectors)
    turned = torch.einsum("nij,nj->ni", rotations, vectors / vectors.norm(dim=1, keepdim=True))
    assert torch.allclose(turned, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-15)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(len(vectors), dtype=torch.float64))
    zero = frame_rotations(torch.zeros(1, 3))
    assert torch.equal(zero[0], torch.eye(3, dtype=torch.float64))


def test_edge_rotations_are_the_general_ones() -> None:
    vectors = torch.cat([special_directions(), torch.zeros(1, 3, dtype=torch.float64)])
    expected = wigner_d(frame_rotations(vectors), LMAX)
    found = edge_wigner(vectors, LMAX, torch.float64, edges_per_chunk=7)
    assert found.shape == (len(vectors), wigner_size(LMAX))
    start = 0
    for l in range(1, LMAX + 1):
        d, order = 2 * l + 1, component_order(l)
        block = found[:, start : start + d * d].view(-1, d, d)
        assert torch.allclose(block, expected[l][:, order][:, :, order], atol=1e-13)
        start += d * d
    assert edge_wigner(vectors[:0], 2, torch.float32).shape == (0, wigner_size(2))


def test_float32_rotations_near_the_pole_lose_nothing() -> None:
    """Built in float64 and rounded once: angles in float32 would be off by 1e-4 there."""
    vectors = torch.tensor([[1e-4, 2e-4, 1.0], [-3e-5, 1e-5, -2.0]], dtype=torch.float64)
    exact = edge_wigner(vectors, 4, torch.float64)
    assert (edge_wigner(vectors, 4, torch.float32).double() - exact).abs().max() < 6e-8
