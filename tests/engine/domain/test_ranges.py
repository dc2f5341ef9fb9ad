"""Distances that were trained on, and pairs outside of them by name."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.ranges import outside_ranges, trained_ranges
from aiida_deeph.engine.domain.structure import Structure


def test_ranges_end_where_no_distance_is_near() -> None:
    members = [{"C-C": np.array([1.40, 1.45, 2.5])}, {"C-C": np.array([1.53, 2.42]), "C-H": np.array([1.1])}]
    found = trained_ranges(members)
    assert found == {"C-C": [(1.4, 1.53), (2.42, 2.5)], "C-H": [(1.1, 1.1)]}
    assert trained_ranges(members[::-1]) == found


def chain(*places: float) -> Structure:
    positions = np.array([[x, 0.0, 0.0] for x in places])
    return Structure(("C", "C", "H")[: len(places)], positions, 30 * np.eye(3), (False, False, False))


def test_pairs_outside_are_named_the_furthest_first() -> None:
    """Both directions; an atom with itself is no bond."""
    ranges = {"C-C": [[1.4, 1.606], [2.4, 2.6]]}
    structure = chain(0.0, 1.619, 3.0)
    pairs = pairs_within(structure, 5.0)
    found = outside_ranges(ranges, structure, pairs)
    # No distance between carbon and hydrogen was trained on: infinitely far outside.
    assert found["n_pairs"] == 6
    assert found["largest_excess_A"] is None
    assert [row["elements"] for row in found["pairs"]] == ["C-H"] * 4 + ["C-C"] * 2
    assert found["pairs"][-1]["distance_A"] == pytest.approx(1.619)
    assert found["pairs"][-1]["excess_A"] == pytest.approx(0.013)
    assert {tuple(row["pair"][3:]) for row in found["pairs"][-2:]} == {(0, 1), (1, 0)}
    within = chain(0.0, 1.608)
    assert outside_ranges(ranges, within, pairs_within(within, 5.0)) == {
        "n_pairs": 0,
        "largest_excess_A": 0.0,
        "pairs": [],
    }
