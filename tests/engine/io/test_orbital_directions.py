"""Order of orbitals and direction of R, seen in overlaps: <s_i in cell 0 | Y_lm of j in cell R> follows the bond.

Eigenvalues cannot see a wrong sign of R or two orbitals exchanged in both H and S; overlaps can.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy


def harmonics(l: int, direction: np.ndarray) -> np.ndarray:
    """Real spherical harmonics m = -l..l up to a common factor."""
    x, y, z = direction
    if l == 1:
        return np.array([y, z, x])
    root = np.sqrt(3)
    return np.array([root * x * y, root * y * z, z * z - (x * x + y * y) / 2, root * x * z, root / 2 * (x * x - y * y)])


def first(shells: tuple[int, ...], l: int) -> slice:
    """Rows of the first shell of that l."""
    n = shells.index(l)
    begin = sum(2 * k + 1 for k in shells[:n])
    return slice(begin, begin + 2 * l + 1)


def bonds(data: RealSpaceHamiltonian, longest: float) -> list[tuple[list[int], np.ndarray]]:
    pairs = data.overlap.atom_pairs
    vectors = data.structure.pair_vectors(pairs)
    lengths = np.linalg.norm(vectors, axis=1)
    near = np.flatnonzero((lengths > 0) & (lengths < longest))
    return [(pairs[n].tolist(), vectors[n] / lengths[n]) for n in near]


def assert_overlaps_follow_bonds(data: RealSpaceHamiltonian, longest: float, n_bonds: int) -> None:
    found = 0
    for (r1, r2, r3, i, j), direction in bonds(data, longest):
        shells_i, shells_j = (data.basis.shells[data.structure.symbols[atom]] for atom in (i, j))
        block = data.overlap.block((r1, r2, r3), i, j)
        for l in {1, 2} & set(shells_j):
            overlap = block[first(shells_i, 0), first(shells_j, l)].ravel()
            # The centre of the s function lies at -direction from j; both radial functions are positive outside.
            expected = harmonics(l, -direction)
            scale = overlap @ expected / (expected @ expected)
            assert scale > 1e-3
            np.testing.assert_allclose(overlap, scale * expected, atol=2e-5)
            found += 1
    assert found == n_bonds


@pytest.mark.parametrize("name", ["4990", "4993"])
def test_legacy_water(shared: Path, name: str) -> None:
    data = read_legacy(shared / "fixtures/deeph-e3-reference/water_small_e3nn035/dataset" / name)
    # O-H twice in both directions: p of H, and p and d of O.
    assert_overlaps_follow_bonds(data, 1.3, 2 * (1 + 2))


def test_new_bilayer(shared: Path) -> None:
    """Bonds cross the border of the cell: the sign of R matters."""
    data = read_deeph(shared / "fixtures/bilayer-graphene/twisted_28")
    assert any(any(pair[:3]) for pair, _ in bonds(data, 1.6))
    assert_overlaps_follow_bonds(data, 1.6, 28 * 3 * 2)
