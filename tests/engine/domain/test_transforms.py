"""Orbital order and signs against named orbitals, spin layouts, zero of energy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.convention import E3NN
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import (
    from_convention,
    gauge_of,
    orbital_map,
    reorder,
    shifted,
    to_convention,
    with_common_pairs,
    without_gauge,
)
from aiida_deeph.engine.errors import InputError

# Orbitals of a p and a d shell in each code's order, as its manual or its overlaps show them.
ORBITALS = {
    "e3nn": ("y z x", "xy yz z2 xz x2-y2"),
    "cp2k": ("y z x", "xy yz z2 xz x2-y2"),
    "pyscf": ("x y z", "xy yz z2 xz x2-y2"),
    "openmx": ("x y z", "z2 x2-y2 xy xz yz"),
    "abacus": ("z -x -y", "z2 -xz -yz x2-y2 xy"),
    "siesta": ("-y z -x", "xy -yz z2 -xz x2-y2"),
    "aims": ("y z -x", "xy yz z2 -xz x2-y2"),
    "qe": ("y z x", "xy yz z2 xz x2-y2"),
    "qh9": ("x y z", "xy yz z2 xz x2-y2"),
    "md17": ("z x y", "z2 xz yz x2-y2 xy"),
}
CONVENTIONS = {"e3nn": E3NN, **{code: record.convention for code, record in records().items()}}
POINT = np.array([0.3, -0.5, 0.8])


def value(orbital: str) -> float:
    """A real harmonic at a point without symmetry."""
    x, y, z = POINT
    sign, name = (-1, orbital[1:]) if orbital.startswith("-") else (1, orbital)
    root = np.sqrt(3)
    harmonics = {
        **{"x": x, "y": y, "z": z, "xy": root * x * y, "yz": root * y * z, "xz": root * x * z},
        **{"z2": z * z - (x * x + y * y) / 2, "x2-y2": root / 2 * (x * x - y * y)},
    }
    return sign * harmonics[name]


def one_atom(vector: np.ndarray, shells: tuple[int, ...]) -> RealSpaceHamiltonian:
    """H = v v^T on one atom, so that every entry tells which two orbitals it belongs to."""
    entries = np.outer(vector, vector).ravel()
    H = BlockSparseMatrix.from_pairs(np.zeros((1, 5), dtype=int), np.array([len(vector)]), entries)
    structure = Structure(("C",), np.zeros((1, 3)), 9 * np.eye(3))
    return RealSpaceHamiltonian(structure, OrbitalBasis({"C": shells}), hamiltonian=H)


def test_every_convention_is_tested() -> None:
    assert set(ORBITALS) == set(CONVENTIONS)


@pytest.mark.parametrize("code", sorted(ORBITALS))
def test_order_and_signs(code: str) -> None:
    p, d = (np.array([value(orbital) for orbital in shell.split()]) for shell in ORBITALS[code])
    ours_p, ours_d = (np.array([value(orbital) for orbital in shell.split()]) for shell in ORBITALS["e3nn"])
    native = one_atom(np.concatenate([[0.7], p, d, 2 * p]), (0, 1, 2, 1))
    ours = one_atom(np.concatenate([[0.7], ours_p, ours_d, 2 * ours_p]), (0, 1, 2, 1))
    np.testing.assert_allclose(from_convention(native, CONVENTIONS[code]).hamiltonian.entries, ours.hamiltonian.entries)
    np.testing.assert_allclose(to_convention(ours, CONVENTIONS[code]).hamiltonian.entries, native.hamiltonian.entries)


def test_openmx_tables_of_the_format() -> None:
    openmx = CONVENTIONS["openmx"]
    assert [openmx.permutation(l) for l in range(4)] == [(0,), (1, 2, 0), (2, 4, 0, 3, 1), (6, 4, 2, 0, 1, 3, 5)]
    assert CONVENTIONS["siesta"].signs(3) == (-1, 1, -1, 1, -1, 1, -1)


@pytest.mark.parametrize("spin", list(SpinMode))
@pytest.mark.parametrize("code", sorted(CONVENTIONS))
def test_there_and_back(make_hamiltonian, code: str, spin: SpinMode) -> None:
    data = make_hamiltonian(spin)
    native = to_convention(data, CONVENTIONS[code])
    back = from_convention(native, CONVENTIONS[code])
    np.testing.assert_array_equal(back.hamiltonian.entries, data.hamiltonian.entries)
    np.testing.assert_array_equal(back.overlap.entries, data.overlap.entries)
    k = (0.1, 0.2, 0.3)
    energies = [np.linalg.eigvalsh(one.hamiltonian_at(k).toarray()) for one in (data, native)]
    np.testing.assert_allclose(*energies, atol=1e-12)


def test_reorder_of_every_block(make_hamiltonian) -> None:
    """Against a loop over pairs with permutation matrices, spin blocks included."""
    data = make_hamiltonian(SpinMode.NONCOLLINEAR)
    rng = np.random.default_rng(0)
    orders = {l: tuple(rng.permutation(2 * l + 1).tolist()) for l in range(4)}
    signs = {l: tuple(rng.choice([-1, 1], 2 * l + 1).tolist()) for l in range(4)}

    def operator(symbol: str) -> np.ndarray:
        parts = [np.diag(signs[l]) @ np.eye(2 * l + 1)[list(orders[l])] for l in data.basis.shells[symbol]]
        n = data.basis.n_orbitals(symbol)
        full, first = np.zeros((n, n)), 0
        for part in parts:
            full[first : first + len(part), first : first + len(part)] = part
            first += len(part)
        return full

    result = reorder(data, orders, signs)
    symbols = data.structure.symbols
    for r1, r2, r3, i, j in data.hamiltonian.atom_pairs.tolist():
        a, b = operator(symbols[i]), operator(symbols[j])
        expected = np.kron(np.eye(2), a) @ data.hamiltonian.block((r1, r2, r3), i, j) @ np.kron(np.eye(2), b).T
        np.testing.assert_allclose(result.hamiltonian.block((r1, r2, r3), i, j), expected)
    for r1, r2, r3, i, j in data.overlap.atom_pairs.tolist():
        expected = operator(symbols[i]) @ data.overlap.block((r1, r2, r3), i, j) @ operator(symbols[j]).T
        np.testing.assert_allclose(result.overlap.block((r1, r2, r3), i, j), expected)


@pytest.mark.parametrize("table", [{}, {0: (0,), 1: (0, 1, 1), 2: (0,), 3: (0,)}])
def test_wrong_tables(make_hamiltonian, table: dict) -> None:
    with pytest.raises(InputError, match="orbital table is wrong; in l = "):
        reorder(make_hamiltonian(), table, {l: (1,) * (2 * l + 1) for l in range(4)})


def test_common_pairs(make_hamiltonian) -> None:
    data = make_hamiltonian()
    lacking = replace(data, hamiltonian=data.hamiltonian.selected(slice(3, None)))
    common = with_common_pairs(lacking)
    np.testing.assert_array_equal(common.hamiltonian.atom_pairs, common.overlap.atom_pairs)
    k = (0.3, 0.1, 0.0)
    for name in ("hamiltonian_at", "overlap_at"):
        difference = abs(getattr(common, name)(k) - getattr(lacking, name)(k))
        assert difference.max() < 1e-14
    assert with_common_pairs(common) is common


@pytest.mark.parametrize("spin", list(SpinMode))
def test_zero_of_energy(make_hamiltonian, spin: SpinMode) -> None:
    data = make_hamiltonian(spin)
    k = (0.1, -0.2, 0.0)
    overlap = data.overlap_with_spin.to_csr(k, data.rows_per_atom)
    assert abs(overlap - data.overlap_at(k)).max() < 1e-15
    moved = shifted(data, 3.5)
    assert abs(moved.hamiltonian_at(k) - data.hamiltonian_at(k) - 3.5 * data.overlap_at(k)).max() < 1e-12
    assert moved.fermi_energy == data.fermi_energy + 3.5
    assert gauge_of(moved) == pytest.approx(gauge_of(data) + 3.5)
    removed, mu = without_gauge(moved)
    assert gauge_of(removed) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(removed.hamiltonian.entries, without_gauge(data)[0].hamiltonian.entries, atol=1e-12)
    np.testing.assert_allclose(shifted(removed, mu).hamiltonian.entries, moved.hamiltonian.entries, atol=1e-12)


@pytest.mark.parametrize("code", sorted(CONVENTIONS))
def test_map_of_orbitals_is_what_from_convention_does(code):
    vector = np.arange(1.0, 17.0 + 5)
    data = one_atom(vector, (0, 1, 3, 2, 2))
    index, factor = orbital_map(data.basis, data.structure.symbols, CONVENTIONS[code])
    moved = np.empty(len(vector))
    moved[index] = factor * vector
    known = from_convention(data, CONVENTIONS[code]).hamiltonian.entries
    assert np.array_equal(np.outer(moved, moved).ravel(), known)
    # Of several atoms each by itself.
    both, _ = orbital_map(data.basis, ("C", "C"), CONVENTIONS[code])
    assert np.array_equal(both, np.concatenate([index, index + len(vector)]))
