"""Fermi level, band edges, comparison of bands."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_deeph.engine.domain.kpoints import gamma_mesh, mesh_for_spacing
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.observables.compare_bands import compare_bands
from aiida_deeph.engine.observables.fermi import fermi_level, n_occupied_bands

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("mesh", [(4, 3, 2), (1, 1, 1), (5, 1, 6)])
def test_half_mesh_integrates_like_the_whole(mesh: tuple[int, int, int]) -> None:
    whole, half = gamma_mesh(mesh, time_reversal=False), gamma_mesh(mesh)
    assert len(whole[0]) == np.prod(mesh)
    assert len(half[0]) <= len(whole[0]) // 2 + 4
    values = [weights @ np.cos(2 * np.pi * (k @ [[1], [1], [1]]))[:, 0] ** 2 for k, weights in (whole, half)]
    assert values[0] == pytest.approx(values[1], abs=1e-14)


def test_mesh_follows_the_cell() -> None:
    cell = np.diag([2.0, 10.0, 20.0])
    assert mesh_for_spacing(cell, (True, True, False), 0.5) == (7, 2, 1)


def test_insulator_has_its_level_in_the_middle() -> None:
    e = np.array([[[-3.0, -1.0, 2.0], [-2.5, -0.5, 1.5]]])
    found = fermi_level(e, [0.5, 0.5], 4, 2)
    assert (found.level, found.insulator, found.gap) == (0.5, True, 2.0)
    assert (found.valence_maximum, found.conduction_minimum) == (-0.5, 1.5)


def test_spins_with_different_numbers_of_electrons() -> None:
    e = np.array([[[-3.0, -1.0, 3.0], [-3.0, -1.1, 3.0]], [[-1.5, 2.0, 4.0], [-1.4, 2.1, 4.0]]])
    found = fermi_level(e, [0.5, 0.5], 3, 1)
    assert found.insulator
    assert found.level == pytest.approx((-1.0 + 2.0) / 2)


def test_half_filled_level_holds_the_fermi_level() -> None:
    found = fermi_level([[[-2.0, 0.1, 2.0]]], [1.0], 3, 2)
    assert not found.insulator
    assert found.gap == 0
    assert found.level == pytest.approx(0.1, abs=1e-9)


def test_metal_matches_the_constant_density_of_states() -> None:
    # One band E = k on a dense grid in [0, 1): n electrons of 2 fill it up to n / 2.
    e = (np.arange(2000) + 0.5).reshape(1, 2000, 1) / 2000
    found = fermi_level(np.concatenate([e, e + 0.3], axis=2), np.full(2000, 1 / 2000), 2.0, 2, smearing=0.01)
    assert found.level == pytest.approx((1.0 + 0.3) / 2, abs=1e-6)


def test_points_of_a_path_close_the_gap_of_a_mesh() -> None:
    e = np.array([[[-1.0, 1.0], [0.2, 0.2004]]])
    assert fermi_level(e[:, :1], [1.0], 2, 2).insulator
    assert not fermi_level(e, [1.0, 0.0], 2, 2).insulator


@pytest.mark.parametrize("n_electrons", [0, 7])
def test_impossible_filling_is_refused(n_electrons: float) -> None:
    with pytest.raises(InputError, match="do not fit"):
        fermi_level([[[0.0, 1.0, 2.0]]], [1.0], n_electrons, 2)


def test_whole_bands() -> None:
    assert n_occupied_bands(8, 2) == 4
    assert n_occupied_bands(7, 2) is None


def test_a_shift_alone_is_no_deviation() -> None:
    e = RNG.standard_normal((1, 6, 8))
    for alignment in ("mean_occupied", "valence_maximum"):
        found = compare_bands(e + 3.0, e, 3, alignment=alignment)
        assert found.shift == pytest.approx(-3.0)
        assert found.maximum < 1e-12
        assert found.gap_difference == pytest.approx(0.0, abs=1e-12)
    assert compare_bands(e + 3.0, e, 3, alignment="none").mean == pytest.approx(3.0)


def test_deviation_of_known_size() -> None:
    e = np.sort(RNG.standard_normal((1, 5, 6)), axis=2)
    other = e.copy()
    other[0, :, 2] += 0.01  # top valence band of 3: alignment moves everything by -0.01 / 3
    other[0, :, 3] += 0.5  # lowest conduction band
    other[0, :, 4:] += 7.0  # not looked at
    found = compare_bands(np.sort(other, axis=2), e, 3)
    assert found.shift == pytest.approx(-0.01 / 3)
    assert found.occupied_maximum == pytest.approx(0.02 / 3)
    assert found.occupied_mean == pytest.approx((2 * 0.01 / 3 + 0.02 / 3) / 3)
    assert found.conduction_maximum == pytest.approx(0.5 - 0.01 / 3)
    assert found.mean == pytest.approx((3 * found.occupied_mean + found.conduction_mean) / 4)
    assert found.gap_difference == pytest.approx(0.49, abs=1e-12)
    assert found.as_dict()["n_occupied"] == [3]
    top = e[0, :, 2].max()
    window = compare_bands(np.sort(other, axis=2), e, 3, window=(e.min() - top - 1, 0.0))
    inside = e <= top
    deviations = np.abs(np.sort(other, axis=2) - e - 0.01 / 3)[inside]
    assert (window.n_window, window.window_mean) == (inside.sum(), pytest.approx(deviations.mean()))
    assert window.window_maximum == pytest.approx(deviations.max())
    assert compare_bands(e, e, 3, window=(90, 91)).window_mean is None


def test_bands_that_do_not_belong_together() -> None:
    e = RNG.standard_normal((1, 5, 6))
    with pytest.raises(InputError, match="cannot be compared"):
        compare_bands(e, e[:, :4], 3)
    with pytest.raises(InputError, match="n_occupied"):
        compare_bands(e, e, 7)
    assert compare_bands(e, e, 6).conduction_mean is None
