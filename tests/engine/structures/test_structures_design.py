"""Cells drawn around a parent: reproducible, within their limits, refused when they cannot be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.structures.changes import rattled, repeated, shortest_distance
from aiida_deeph.engine.structures.design import DesignConfig, draw
from aiida_deeph.engine.structures.layers import honeycomb, layers_of, stacked

LAYER = honeycomb("graphene")
BILAYER = stacked(LAYER.cell, LAYER, LAYER, 3.35)
WIDE = (3, 3, 1)


def design(*steps: dict, n: int = 3, **settings) -> DesignConfig:
    return DesignConfig(n=n, design=steps, **settings)


STEPS = [
    {"kind": "slide", "spread": 0.1},
    {"kind": "strain", "size": 0.02},
    {"kind": "displace", "amplitude": 0.08},
    {"kind": "rattle", "amplitude": 0.2},
    {"kind": "vacancy", "number": 2, "separation": 2.0},
    {"kind": "substitute", "by": "N", "element": "C"},
]


@pytest.mark.parametrize("steps", [[step] for step in STEPS] + [STEPS[:4]], ids=lambda steps: steps[-1]["kind"])
def test_the_same_seed_gives_the_same_cells(steps: list[dict]) -> None:
    config = design(*steps, supercell=WIDE)
    first, again = (draw(BILAYER, config, 1) for _ in range(2))
    assert first.symbols == again.symbols
    np.testing.assert_array_equal(first.positions, again.positions)
    np.testing.assert_array_equal(first.cell, again.cell)
    other = draw(BILAYER, design(*steps, supercell=WIDE, seed=7), 1)
    following = draw(BILAYER, config, 2)
    for different in (other, following):
        same = different.symbols == first.symbols and np.allclose(different.positions, first.positions, atol=1e-6)
        assert not same


def test_each_step_has_its_own_stream() -> None:
    slide, displace = STEPS[0], STEPS[2]
    alone = draw(BILAYER, design(slide), 0)
    both = draw(BILAYER, design(slide, displace), 0)
    assert 0 < np.abs(both.positions - alone.positions).max() <= 0.08


def test_slide_moves_whole_layers_over_all_of_the_cell() -> None:
    start = repeated(BILAYER, (2, 2, 1))
    shifts = []
    for index in range(200):
        cell = draw(BILAYER, design({"kind": "slide", "spread": 0.3}, n=200, supercell=(2, 2, 1)), index)
        low, high = layers_of(cell)
        moves = cell.positions - start.positions
        np.testing.assert_array_equal(moves[low], 0)
        assert np.ptp(moves[high], axis=0).max() < 1e-12
        shifts.append(moves[high[0]])
    lifts = np.array(shifts)[:, 2]
    assert 0.25 < np.abs(lifts).max() <= 0.3
    fractional = np.array(shifts)[:, :2] @ np.linalg.inv(BILAYER.cell[:2, :2]) % 1
    counts, *_ = np.histogram2d(*fractional.T, bins=2)
    assert counts.min() > 30  # 50 expected in each quarter


def test_single_layer_cannot_slide() -> None:
    with pytest.raises(InputError, match="nothing to slide"):
        draw(LAYER, design({"kind": "slide"}), 0)


def test_rattle_keeps_atoms_apart() -> None:
    start = repeated(LAYER, WIDE)
    rng = np.random.default_rng(1)
    cells = [rattled(start, 0.25, 1.1, rng) for _ in range(20)]
    distances = [shortest_distance(cell) for cell in cells]
    assert min(distances) >= 1.1
    moves = np.stack([cell.positions - start.positions for cell in cells])
    assert moves.std() == pytest.approx(0.25, rel=0.1)
    # Without the limit, atoms come nearer: the limit is what keeps them apart.
    free = start.positions + 0.25 * np.random.default_rng(1).normal(size=start.positions.shape)
    assert shortest_distance(Structure(start.symbols, free, start.cell, start.pbc)) < 1.1


def test_rattle_that_cannot_be_is_an_error() -> None:
    with pytest.raises(InputError, match=r"atoms stay too close.*nearer than 2 Angstrom"):
        rattled(LAYER, 0.05, 2.0, np.random.default_rng(1))


def test_shortest_distance() -> None:
    assert shortest_distance(LAYER) == pytest.approx(2.46 / np.sqrt(3))
    chain = Structure(("H",), np.zeros((1, 3)), np.diag([7.5, 20, 20]), (True, False, False))
    assert shortest_distance(chain) == pytest.approx(7.5)
    atom = Structure(("H",), np.zeros((1, 3)), np.eye(3) * 9, (False, False, False))
    assert shortest_distance(atom) == np.inf


def test_strain_of_a_layer() -> None:
    for shape, isotropic in (("biaxial", True), ("any", False)):
        cell = draw(LAYER, design({"kind": "strain", "size": 0.05, "shape": shape}), 0)
        assert cell.cell[2].tolist() == LAYER.cell[2].tolist()
        factor = np.linalg.solve(LAYER.cell, cell.cell)
        assert 1e-3 < np.abs(factor - np.eye(3)).max() <= 0.05
        assert np.allclose(factor[0, 0] - factor[1, 1], 0) == isotropic
        np.testing.assert_allclose(factor, factor.T, atol=1e-12)


def test_defects() -> None:
    steps = {"kind": "vacancy", "number": 2, "separation": 3.0}, {"kind": "substitute", "by": "B", "number": 3}
    config = design(*steps, supercell=(4, 4, 1), n=10)
    assert config.new_elements == {"B"}
    full = repeated(LAYER, (4, 4, 1))
    places = set()
    for index in range(10):
        cell = draw(LAYER, config, index)
        assert Counter(cell.symbols) == {"C": 27, "B": 3}
        missing = [n for n, place in enumerate(full.positions) if np.abs(cell.positions - place).sum(1).min() > 1e-9]
        pair = Structure(("C",) * 2, full.positions[missing], full.cell, full.pbc)
        assert shortest_distance(pair) > 3.0
        places.add(tuple(missing))
    assert len(places) > 5


def test_defects_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="not so many atoms; in N; found 0; expected 1"):
        draw(LAYER, design({"kind": "vacancy", "element": "N"}), 0)
    with pytest.raises(InputError, match="no sites far enough apart"):
        draw(LAYER, design({"kind": "vacancy", "number": 2, "separation": 2.0}), 0)
    with pytest.raises(InputError, match="no atom is left"):
        draw(LAYER, design({"kind": "vacancy", "number": 2}), 0)


@pytest.mark.parametrize(
    "values",
    [
        {"n": 2, "amplitude": 0.1, "design": [{"kind": "slide"}]},
        {"n": 2, "design": [{"kind": "melt"}]},
        {"n": 2, "design": [{"kind": "slide", "amplitude": 0.1}]},
        {"n": 2, "design": [{"kind": "substitute", "by": "Xy"}]},
        {"n": 2, "supercell": [0, 1, 1]},
    ],
)
def test_wrong_designs_are_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        DesignConfig.model_validate(values)


def test_a_single_step_needs_no_list() -> None:
    one = DesignConfig.model_validate({"n": 1, "design": {"kind": "slide"}})
    assert one == design({"kind": "slide"}, n=1)
