"""Pairs of atoms against all images within reach."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aiida_deeph.engine.domain.neighbours import pair_cutoffs, pair_key, pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError


def all_pairs(structure: Structure, cutoff: float) -> list[list[int]]:
    """The slow truth: every image of every atom."""
    reach = [range(-7, 8) if periodic else range(1) for periodic in structure.pbc]
    found = []
    for i, j in itertools.product(range(len(structure)), repeat=2):
        for R in itertools.product(*reach):
            vector = structure.positions[j] + np.array(R) @ structure.cell - structure.positions[i]
            if np.linalg.norm(vector) <= cutoff:
                found.append([*R, i, j])
    return found


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("spread", [1.0, 3.0], ids=["inside", "unwrapped"])
@pytest.mark.parametrize("cutoff", [0.0, 1.1, 4.0])
def test_against_brute_force(pbc: tuple, spread: float, cutoff: float) -> None:
    rng = np.random.default_rng(3)
    cell = np.array([[2.5, 0.0, 0.3], [-1.2, 2.2, 0.0], [0.4, 1.5, 3.5]])
    positions = (spread * rng.random((4, 3)) - spread / 3) @ cell
    structure = Structure(("C", "H", "C", "O"), positions, cell, pbc)
    assert pairs_within(structure, cutoff).tolist() == all_pairs(structure, cutoff)


def test_cutoff_per_element_pair() -> None:
    rng = np.random.default_rng(1)
    structure = Structure(("C", "H", "C", "H"), rng.random((4, 3)) * 4, 4 * np.eye(3))
    limits = {"C-C": 3.0, "C-H": 2.0}
    expected = [
        pair
        for pair in all_pairs(structure, 3.0)
        if pair == [0, 0, 0, pair[3], pair[3]]
        or np.linalg.norm(structure.pair_vectors(np.array([pair])))
        <= limits.get(pair_key(structure.symbols[pair[3]], structure.symbols[pair[4]]), -1)
    ]
    pairs = pairs_within(structure, limits)
    assert pairs.tolist() == expected
    assert len(pairs) > 8, "the test has to see pairs between atoms"


def test_pairs_at_the_very_cutoff_are_complete() -> None:
    """Every shell of a crystal lies at one distance: rounding must neither split it nor lose a partner."""
    a = 3.567
    cell = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    structure = Structure(("C", "C"), [[0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3]) + a / 4], cell)
    pairs = pairs_within(structure, a / np.sqrt(2))
    assert np.bincount(pairs[:, 3]).tolist() == [1 + 4 + 12] * 2
    reverse = {(-r1, -r2, -r3, j, i) for r1, r2, r3, i, j in pairs.tolist()}
    assert reverse == set(map(tuple, pairs.tolist()))


def test_pair_cutoffs_give_the_pairs_back() -> None:
    rng = np.random.default_rng(2)
    structure = Structure(("C", "H", "O"), rng.random((3, 3)) * 3, 3 * np.eye(3), (True, True, False))
    pairs = pairs_within(structure, {"C-C": 4.0, "C-H": 2.5, "H-H": 3.2, "O-O": 0.0})
    cutoffs = pair_cutoffs(structure, pairs)
    assert list(cutoffs) == ["C-C", "C-H", "H-H", "O-O"]
    assert cutoffs["O-O"] == 0
    np.testing.assert_array_equal(pairs_within(structure, cutoffs), pairs)


def test_pair_key_has_no_direction() -> None:
    assert pair_key("H", "C") == pair_key("C", "H") == "C-H"


@pytest.mark.parametrize("cutoff", [-1.0, float("nan"), {"C-C": float("inf")}])
def test_wrong_cutoff(cutoff) -> None:
    with pytest.raises(InputError, match="cutoff is wrong"):
        pairs_within(Structure(("C",), np.zeros((1, 3)), np.eye(3)), cutoff)
