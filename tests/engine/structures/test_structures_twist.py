"""Commensurate bilayers: sizes, angles and bonds that are known."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.deeph import read_deeph_structure
from aiida_deeph.engine.structures.coincidence import commensurate, direction, norm
from aiida_deeph.engine.structures.layers import heights, honeycomb, layers_of, stacked
from aiida_deeph.engine.structures.twist import TwistConfig, twisted, twisted_layers

GRAPHENE = honeycomb("graphene")
BOND = 2.46 / np.sqrt(3)


def bilayer_graphene(**settings: float) -> tuple[Structure, float]:
    structure, common = twisted_layers(GRAPHENE, GRAPHENE, TwistConfig(distance=3.35, **settings))
    return structure, common.angle


def neighbour_counts(structure: Structure, reach: float) -> set[int]:
    pairs = pairs_within(structure, reach)
    return set((np.bincount(pairs[:, 3], minlength=len(structure)) - 1).tolist())


@pytest.mark.parametrize(("m", "n_atoms", "angle"), [(1, 28, 21.787), (5, 364, 6.009), (9, 1084, 3.481)])
def test_usual_cells(m: int, n_atoms: int, angle: float) -> None:
    structure, twist = bilayer_graphene(m=m)
    assert len(structure) == n_atoms
    assert twist == pytest.approx(angle, abs=5e-4)
    # Every atom keeps its three neighbours at the bond length of graphene, and no other is nearer than the next shell.
    assert neighbour_counts(structure, BOND + 0.01) == {3}
    assert neighbour_counts(structure, BOND - 0.01) == {0}
    assert np.ptp(structure.positions[:, 2]) == pytest.approx(3.35)
    np.testing.assert_allclose(structure.positions[:, 2].mean(), 10.0)


def test_magic_angle_in_seconds() -> None:
    start = time.process_time()
    structure, twist = bilayer_graphene(angle=1.08)
    assert len(structure) == 11_164
    assert twist == pytest.approx(1.0845, abs=1e-4)
    assert time.process_time() - start < 10
    assert neighbour_counts(structure, BOND + 0.01) == {3}


@pytest.mark.parametrize(("m", "r"), [(1, 1), (3, 2), (1, 3), (2, 3), (4, 9), (7, 5)])
def test_angle_of_m_and_r(m: int, r: int) -> None:
    cosine = (3 * m**2 + 3 * m * r + r**2 / 2) / (3 * m**2 + 3 * m * r + r**2)
    found = commensurate(m, r)
    assert np.cos(np.radians(found.angle)) == pytest.approx(cosine)
    n_cells = 3 * m**2 + 3 * m * r + r**2
    assert found.n_cells == (n_cells // 3 if r % 3 == 0 else n_cells,) * 2


def test_the_upper_layer_is_the_one_that_is_turned() -> None:
    structure, twist = bilayer_graphene(m=2)
    directions = []
    for layer in layers_of(structure):
        part = structure.permuted(layer)
        pairs = pairs_within(part, BOND + 0.01)
        bonds = part.pair_vectors(pairs[pairs[:, 3] != pairs[:, 4]])
        directions.append(np.degrees(np.arctan2(bonds[:, 1], bonds[:, 0]))[0] % 60)
    assert (directions[1] - directions[0]) % 60 == pytest.approx(twist)


def test_stacking_at_the_axis_is_kept() -> None:
    upper = Structure(GRAPHENE.symbols, GRAPHENE.positions - GRAPHENE.positions[1], GRAPHENE.cell, GRAPHENE.pbc)
    bernal = stacked(GRAPHENE.cell, GRAPHENE, upper, 3.4)
    structure, common = twisted(bernal, TwistConfig(m=3))
    assert len(structure) == 148 and common.strain == 0
    low, high = (structure.permuted(layer) for layer in layers_of(structure))
    assert heights(high).min() - heights(low).max() == pytest.approx(3.4)
    # On the axis, at the cell's corner, a first atom of the lower layer has a second one of the upper above it.
    corner = [np.flatnonzero(np.linalg.norm(one.positions[:, :2], axis=1) < 1e-9) for one in (low, high)]
    assert [len(found) for found in corner] == [1, 1]
    assert corner[0][0] % 2 == 0 and corner[1][0] % 2 == 1


def test_dft_fixture_is_the_same_bilayer(shared: Path) -> None:
    """The 28-atom cell that was labelled by DFT, made by another program: the same distances between all atoms."""
    reference = read_deeph_structure(shared / "fixtures/bilayer-graphene/twisted_28")
    structure, _ = bilayer_graphene(m=1)

    def distances(one: Structure) -> np.ndarray:
        return np.sort(np.linalg.norm(one.pair_vectors(pairs_within(one, 6.0)), axis=1))

    np.testing.assert_allclose(distances(structure), distances(reference), atol=1e-6)


def test_different_layers() -> None:
    boron_nitride = honeycomb("BN")
    config = TwistConfig(angle=2.0, distance=3.3, max_strain=0.005)
    structure, common = twisted_layers(GRAPHENE, boron_nitride, config)
    assert common.angle == pytest.approx(2.0, abs=0.02)
    assert 0 < abs(common.strain) <= 0.005
    counts = {symbol: structure.symbols.count(symbol) for symbol in structure.elements}
    assert counts == {"C": 2 * norm(common.lower), "B": norm(common.upper), "N": norm(common.upper)}
    ratio = 2.46 * np.sqrt(norm(common.lower)) / (2.504 * np.sqrt(norm(common.upper)))
    assert ratio - 1 == pytest.approx(common.strain)
    assert direction(common.lower) - direction(common.upper) == pytest.approx(common.angle)
    upper = structure.permuted(layers_of(structure)[1])
    assert neighbour_counts(upper, 2.504 / np.sqrt(3) * (1 + common.strain) + 0.01) == {3}


def test_layers_with_thickness_and_a_twist_beyond_thirty_degrees() -> None:
    layer = honeycomb("MoS2")
    structure, common = twisted_layers(layer, layer, TwistConfig(angle=38.2, distance=2.9))
    assert len(structure) == 6 * 7
    assert common.angle == pytest.approx(38.213, abs=1e-3)
    low, high = layers_of(structure)
    assert len(low) == len(high) == 21
    assert heights(structure)[high].min() - heights(structure)[low].max() == pytest.approx(2.9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"angle": 0.3}, "no common cell.*at most 20000 atoms"),
        ({"angle": 1.08, "max_atoms": 1000}, "off with"),
        ({"angle": 1.08, "tolerance": 1e-6}, "no common cell"),
        ({"m": 2, "r": 2}, "coprime"),
    ],
)
def test_no_common_cell(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bilayer_graphene(**settings)


def test_what_is_no_hexagonal_bilayer_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 layer\(s\).*expected two"):
        twisted(GRAPHENE, TwistConfig(m=1))
    square = Structure(("C",), np.zeros((1, 3)), np.diag([3.0, 3.0, 20.0]), (True, True, False))
    with pytest.raises(InputError, match="not hexagonal"):
        twisted_layers(square, square, TwistConfig(m=1, distance=3.0))
    with pytest.raises(InputError, match="for equal layers"):
        twisted_layers(GRAPHENE, honeycomb("MoS2"), TwistConfig(m=1, distance=3.0))
    with pytest.raises(InputError, match=r"unknown layer.*graphene"):
        honeycomb("phosphorene")


def test_a_layer_across_the_periodic_boundary_is_one() -> None:
    thick = honeycomb("MoS2", vacuum=12.0)
    positions = thick.positions - [0, 0, 0.5 + thick.positions[:, 2].min()]
    structure = Structure(thick.symbols, positions, thick.cell, (True, True, True))
    assert [sorted(layer) for layer in layers_of(structure)] == [[0, 1, 2]]
