"""Matrices belong to the positions that they come with: each gate sees the fault that it is made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.domain.axial import generators, signs_of_odd
from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.cutoff import (
    band_cost,
    bands_with_cutoff,
    measured_cutoffs,
    sample_points,
    within_cutoff,
)
from aiida_deeph.engine.domain.decay import as_curves, decay_curves, deviation, thinned
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.geometry import geometry_gates
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.harmonics import solid_harmonic_gradients, solid_harmonics
from aiida_deeph.engine.preprocess.agreement import Agreement
from aiida_deeph.engine.preprocess.source import read_gated, read_source
from tests.engine.chain import gaussian_chain

BOHR = 0.529177
FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def graphene() -> RealSpaceHamiltonian:
    """OpenMX, two atoms."""
    return read_source("openmx", FIXTURES / "openmx/graphene.tar.xz")


def failed(data: RealSpaceHamiltonian) -> set[str]:
    return {gate.name for gate in failures(geometry_gates(data))}


def placed(data: RealSpaceHamiltonian, positions: np.ndarray, scale: float = 1.0) -> RealSpaceHamiltonian:
    s = data.structure
    return replace(data, structure=Structure(s.symbols, scale * positions, scale * s.cell, s.pbc))


def noise(data: RealSpaceHamiltonian, size: float) -> np.ndarray:
    return data.structure.positions + size * np.random.default_rng(0).normal(size=data.structure.positions.shape)


def test_sound_data_pass(graphene: RealSpaceHamiltonian) -> None:
    assert failed(graphene) == failed(gaussian_chain()) == set()
    assert len(geometry_gates(graphene)) == 6


def test_matrices_of_other_positions_are_seen(graphene: RealSpaceHamiltonian) -> None:
    assert failed(placed(graphene, noise(graphene, 0.05))) == {"S by distance"}
    chain = gaussian_chain(n_atoms=12)
    assert failed(placed(chain, noise(chain, 0.05))) == {"S by distance"}
    other = gaussian_chain(n_atoms=12, seed=1).structure
    assert failed(placed(chain, other.positions)) == {"S by distance"}


MOS2 = "openmx/mos2.tar.xz"


@pytest.fixture(scope="module")
def mos2() -> RealSpaceHamiltonian:
    """OpenMX, Mo between two S that are mirror images of each other."""
    return read_source("openmx", FIXTURES / MOS2)


def test_exchange_of_atoms_at_the_same_distances_is_seen(mos2: RealSpaceHamiltonian) -> None:
    assert failed(mos2) == set()
    exchanged = mos2.structure.positions[[0, 2, 1]]
    assert failed(placed(mos2, exchanged)) == {"S about the bonds"}


@pytest.mark.parametrize("run", [MOS2, "openmx/bi_soc.tar.xz", "openmx/fe_collinear.tar.xz"])
def test_structures_that_were_turned_or_mirrored_are_seen(run: str) -> None:
    data = read_source("openmx", FIXTURES / run)
    s = data.structure
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    for change in (turn, np.diag([-1.0, 1, 1])):
        moved = replace(data, structure=Structure(s.symbols, s.positions @ change, s.cell @ change, s.pbc))
        assert "S about the bonds" in failed(moved)


def test_generators_are_those_of_the_harmonics() -> None:
    """(e x r).grad Y = L Y for the solid harmonics of every other module."""
    points = np.random.default_rng(0).normal(size=(60, 3))
    Y, gradients = solid_harmonics(points, 4), solid_harmonic_gradients(points, 4)
    for axis, L in enumerate(generators((0, 1, 2, 3, 4))):
        turned = np.einsum("axn,nx->an", gradients, np.cross(np.eye(3)[axis], points))
        fitted = np.linalg.lstsq(Y.T, turned.T, rcond=None)[0].T
        np.testing.assert_allclose(fitted, L, atol=1e-12)


def test_inversion_is_told_by_the_sign_of_odd_orbitals(mos2: RealSpaceHamiltonian) -> None:
    s = mos2.structure
    inverted = replace(mos2, structure=Structure(s.symbols, -s.positions, -s.cell, s.pbc))
    assert failed(inverted) == set()  # no S of one structure can tell
    before, after = signs_of_odd(mos2), signs_of_odd(inverted)
    assert set(before) == {"Mo-S", "S-Mo", "S-S"} and after == {key: -sign for key, sign in before.items()}
    agreement = Agreement()
    agreement.learn(mos2)
    gates = {gate.name: gate for gate in agreement.gates(inverted, (), True)}
    assert not gates["signs of orbitals as in the other members"].passed
    assert all(gate.passed for gate in agreement.gates(mos2, (), True))


def test_permuted_atoms_are_seen(graphene: RealSpaceHamiltonian) -> None:
    assert "S by distance" in failed(placed(graphene, graphene.structure.positions[::-1]))
    chain = gaussian_chain(n_atoms=12)
    assert failed(placed(chain, chain.structure.positions[[3, 1, 2, 0, *range(4, 12)]])) == {"S by distance"}


def test_lengths_in_bohr_are_seen(graphene: RealSpaceHamiltonian) -> None:
    assert "bonds fit S" in failed(placed(graphene, graphene.structure.positions, 1 / BOHR))
    chain = gaussian_chain(n_atoms=12, cutoff=9.0)
    assert "bonds fit S" in failed(placed(chain, chain.structure.positions, 1 / BOHR))


def test_two_atoms_on_one_spot_are_seen() -> None:
    chain = gaussian_chain()
    positions = chain.structure.positions.copy()
    positions[3] = positions[2] + [0.01, 0, 0]
    assert "atoms apart" in failed(placed(chain, positions))


def test_huge_coordinates_are_refused() -> None:
    with pytest.raises(InputError, match="structure is too large"):
        Structure(("H",), [[1e9, 0, 0]], np.eye(3))


def test_h_in_hartree_is_seen_by_its_size(graphene: RealSpaceHamiltonian) -> None:
    assert failed(replace(graphene, hamiltonian=graphene.hamiltonian * (1 / 27.2114))) == {"magnitude of H"}
    assert failed(replace(graphene, hamiltonian=graphene.hamiltonian * 0.0)) == {"magnitude of H"}


@pytest.mark.parametrize("name", ["openmx/graphene", "openmx/mos2", "cp2k/bn_chain", "qe/polyacetylene"])
def test_a_threshold_of_the_code_that_leaves_out_pairs_is_seen(name: str) -> None:
    data = read_source(name.split("/")[0], FIXTURES / f"{name}.tar.xz")
    assert failed(data) == set()
    kept = data.overlap.norms() > 1e-2
    assert "S falls off" in failed(replace(data, overlap=data.overlap.selected(kept)))


def test_half_of_the_matrices_is_seen() -> None:
    """As `UPPER_TRIANGULAR` writes them, read by a reader that fills the rest with zeros."""
    data = gaussian_chain()
    lower = data.overlap.atom_pairs[:, 3] > data.overlap.atom_pairs[:, 4]
    for matrix in (data.hamiltonian, data.overlap):
        matrix.entries[np.repeat(lower, np.diff(matrix.chunk_boundaries))] = 0.0
    assert {"H Hermitian", "S Hermitian"} <= {gate.name for gate in failures(run_gates(data))}


def test_s_is_held_against_integrals_where_the_run_leaves_its_orbitals(tmp_path: Path) -> None:
    import shutil
    import tarfile

    with tarfile.open(FIXTURES / "siesta/graphene.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "graphene"
    shutil.copy(run / "variants/v0.HSX", run / "graphene.HSX")
    (gate,) = read_gated("siesta", run)[1]
    assert gate.name == "S as integrals" and gate.passed and gate.value < 1e-5
    orbitals = run / "C.ion.xml"
    orbitals.write_text(orbitals.read_text().replace('l="1"', 'l="0"', 1))
    assert all(not gate.passed or gate.value < 1e-5 for gate in read_gated("siesta", run)[1])


def test_a_curve_survives_the_manifest() -> None:
    curves = decay_curves(gaussian_chain())
    again = dict(as_curves(thinned(curves)))
    assert deviation(curves["H-H"], again["H-H"])[0] < 1e-3
    assert deviation(decay_curves(gaussian_chain(width=0.9, seed=1))["H-H"], again["H-H"])[0] > 0.01


def test_what_a_cutoff_costs_in_bands_is_measured_and_auto_keeps_it_small() -> None:
    data = gaussian_chain(cutoff=12.0, width=0.5)
    short = within_cutoff(data, 3.0, 1e-2)[0]
    assert band_cost(data, short) > 0.05
    for limit in (0.05, 0.005, 0.0005):
        cutoffs = measured_cutoffs(data, limit)
        cut = within_cutoff(data, cutoffs, np.inf)[0]
        assert band_cost(data, cut) <= limit and len(cut.hamiltonian) < len(data.hamiltonian)
    assert measured_cutoffs(data, 0.0005)["H-H"] >= measured_cutoffs(data, 0.05)["H-H"]


def test_what_a_cutoff_costs_is_looked_for_where_it_is_largest() -> None:
    """Small cells in points that fill the zone: bands, and a positive S, may be lost at any of them."""
    assert len(sample_points(26)) == 48 and len(sample_points(1000)) == 3
    assert {(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.5, 0.5, 0.0)} <= {tuple(k) for k in sample_points(26).tolist()}
    data = gaussian_chain(n_atoms=2, cutoff=12.0, amplitude=0.0)
    cut, _ = within_cutoff(data, 4.5, np.inf)
    cost = band_cost(data, cut)
    assert cost is not None
    for k in np.linspace(0, 0.5, 21):
        try:
            after = np.linalg.eigvalsh(cut.overlap_at((k, 0, 0)).toarray()).min()
        except np.linalg.LinAlgError:
            after = -1.0
        assert after > 0 or np.isinf(cost)


def test_a_cutoff_without_bands_is_an_error_and_one_that_moves_them_a_warning() -> None:
    data = gaussian_chain(n_atoms=4, cutoff=12.0)
    gates = {
        cutoff: bands_with_cutoff(data, within_cutoff(data, cutoff, np.inf)[0], 1e-3) for cutoff in (1.5, 6.0, 12.0)
    }
    assert gates[12.0].passed and not gates[1.5].passed
    for gate in gates.values():
        assert gate.severity == ("error" if np.isinf(gate.value) else "warning")
    assert np.isinf(gates[1.5].value) and "not positive definite" in gates[1.5].detail
