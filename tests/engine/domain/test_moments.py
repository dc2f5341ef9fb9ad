"""Moments of atoms, the gate on them, and the two channels of a collinear magnet side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.channels import basis_of_kinds, kinds_of, merged, separated
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy, write_legacy
from aiida_deeph.engine.io.moments import MOMENTS_FILE
from tests.engine.training.toy import toy_magnet


def test_channels_and_back() -> None:
    data = toy_magnet(1)
    channels = separated(data)
    assert channels.structure.symbols == ("C_up", "C_down", "H", "H", "C_down", "C_up", "H", "H")
    assert channels.spin is SpinMode.NONE and channels.basis.elements == ("H", "C_down", "C_up")
    H, both = data.hamiltonian, channels.hamiltonian
    np.testing.assert_array_equal(both.block((0, 0, 0), 0, 1), H.block((0, 0, 0), 0, 1)[:4, :4].real)
    np.testing.assert_array_equal(both.block((0, 0, 0), 5, 5), H.block((0, 0, 0), 1, 1)[4:, 4:].real)
    again = merged(both, 4).aligned_to(H.atom_pairs, data.rows_per_atom)
    np.testing.assert_array_equal(again.entries, H.entries)


def test_kinds_of_both_channels() -> None:
    data = toy_magnet(0)
    assert kinds_of(data.structure, data.moments) == {"C_up", "C_down", "H"}
    assert kinds_of(data.structure, None) == {"C", "H"}
    basis = basis_of_kinds(data.basis, ["C_up", "H", "C_down"])
    assert dict(basis.shells) == {"H": (0,), "C_down": (0, 1), "C_up": (0, 1)}


def test_what_is_no_collinear_magnet_is_refused() -> None:
    data = toy_magnet(0)
    with pytest.raises(InputError, match="moments of a collinear magnet are needed"):
        separated(replace(data, moments=None))
    with pytest.raises(InputError, match="not along z"):
        separated(replace(data, moments=Moments(np.ones((4, 3)))))
    coupled = data.hamiltonian.with_entries(data.hamiltonian.entries.copy())
    coupled.block((0, 0, 0), 0, 0)[0, 4] = 0.1
    with pytest.raises(DataError, match="joins its spins"):
        separated(replace(data, hamiltonian=coupled))


@pytest.mark.parametrize(
    ("moments", "order"),
    [
        ([0.0, 0.01], "nonmagnetic"),
        ([2.0, 1.0, 0.0], "ferromagnetic"),
        ([-2.0, 2.0], "antiferromagnetic"),
        ([2.0, -1.0], "ferrimagnetic"),
        ([[2.0, 0, 0], [0, 2.0, 0]], "noncollinear"),
        ([[2.0, 0, 0], [-2.0, 0, 0]], "antiferromagnetic"),
    ],
)
def test_order(moments: list, order: str) -> None:
    assert Moments(moments).order == order
    assert Moments(converged=moments).order == order


@pytest.mark.parametrize(
    ("nominal", "converged", "passed"),
    [
        ([2.0, -2.0, 0.0], [1.8, -2.1, 0.3], True),
        ([2.0, -2.0], [1.8, 1.7], False),
        ([2.0, 2.0], [1.8, 0.01], False),
        ([[2.0, 0, 0]], [[0.0, 2.0, 0]], False),
    ],
)
def test_a_state_that_moved_is_seen(nominal: list, converged: list, passed: bool) -> None:
    (gate,) = Moments(nominal, converged).state_kept()
    assert gate.passed is passed
    assert ("moved to another magnetic state" in str(gate)) is not passed


def test_nothing_to_compare() -> None:
    assert Moments([1.0]).state_kept() == Moments(converged=[1.0]).state_kept() == []
    assert Moments([0.0], [0.0]).state_kept() == []


def test_wrong_moments_are_refused() -> None:
    with pytest.raises(DataError, match="moments are not understood"):
        Moments([[1.0, 2.0]])
    with pytest.raises(DataError, match="1 converged, 2 nominal"):
        Moments([1.0, 1.0], [1.0])
    with pytest.raises(DataError, match="moments of another number of atoms"):
        replace(toy_magnet(0), moments=Moments([1.0]))


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize(("write", "read"), [(write_deeph, read_deeph), (write_legacy, read_legacy)])
def test_moments_lie_in_the_folder(write, read, vectors: bool, tmp_path: Path) -> None:
    data = toy_magnet(1)
    order = np.array([2, 1, 3, 0])  # a POSCAR groups them again
    if vectors:
        data = replace(data, moments=Moments(np.arange(12.0).reshape(4, 3)))
    data = data.permuted(order)
    write(tmp_path / "a", data)
    found = read(tmp_path / "a")
    place = [int(np.argmin(np.abs(found.structure.positions - p).sum(axis=1))) for p in data.structure.positions]
    np.testing.assert_array_equal(found.moments.nominal[place], data.moments.nominal)
    if not vectors:
        np.testing.assert_array_equal(found.moments.converged[place], data.moments.converged)
        assert '"units": "mu_B", "nominal": [0.0, ' in (tmp_path / "a" / MOMENTS_FILE).read_text()
    write(tmp_path / "a", replace(data, moments=None))
    assert read(tmp_path / "a").moments is None, "those of another structure do not stay"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "moments cannot be read"),
        ('{"nominal": [1, 1, 0, 0]}', "moments in unknown units"),
        ('{"units": "mu_B", "nominal": [1, 1]}', "moments of another number of atoms"),
        ('{"units": "mu_B", "converged": [1, 1, 0, "x"]}', "moments are not understood"),
        ('{"units": "mu_B", "nominal": [1, 1, 0, NaN]}', "moments are not understood"),
    ],
)
def test_damaged_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    write_deeph(tmp_path / "a", toy_magnet(0))
    (tmp_path / "a" / MOMENTS_FILE).write_text(content)
    with pytest.raises(DataError, match=message):
        read_deeph(tmp_path / "a")


def test_basis_keeps_its_order() -> None:
    basis = OrbitalBasis({"O": (0, 1), "Fe": (0, 1, 2)})
    assert basis_of_kinds(basis, {"Fe_up", "Fe_down", "O", "Fe"}).elements == ("O", "Fe", "Fe_down", "Fe_up")
