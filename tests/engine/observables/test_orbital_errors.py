"""Measures of the field: against dense matrices, and by the prediction of the published network where it is at hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg

from aiida_deeph.engine.dft.molecules import dense_blocks
from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.observables.orbital_errors import mean_errors, orbital_errors

SIZES = np.array([4, 1, 1])
ELECTRONS = 4


@pytest.fixture
def molecules() -> tuple[RealSpaceHamiltonian, RealSpaceHamiltonian]:
    """A molecule with known H and S, and one whose H is a little off."""
    rng = np.random.default_rng(3)
    n = int(SIZES.sum())
    H, noise, S = (0.5 * (M + M.T) for M in rng.normal(size=(3, n, n)))
    S = np.eye(n) + 0.1 * S
    structure = Structure(("O", "H", "H"), rng.normal(size=(3, 3)), np.eye(3) * 9, (False,) * 3)
    basis = OrbitalBasis({"O": (0, 1), "H": (0,)})
    label = RealSpaceHamiltonian(
        structure, basis, hamiltonian=dense_blocks(5 * H, SIZES), overlap=dense_blocks(S, SIZES), n_electrons=ELECTRONS
    )
    return replace(label, hamiltonian=dense_blocks(5 * H + 0.05 * noise, SIZES)), label


def test_measures(molecules: tuple[RealSpaceHamiltonian, RealSpaceHamiltonian]) -> None:
    found, label = molecules
    measures = orbital_errors(found, label)
    (h, s), (h0, _) = ([M((0, 0, 0)).toarray() for M in (d.hamiltonian_at, d.overlap_at)] for d in molecules)
    (e, c), (e0, c0) = (scipy.linalg.eigh(matrix, s) for matrix in (h, h0))
    own = scipy.linalg.block_diag(*(np.ones((n, n)) for n in SIZES)) > 0
    n = ELECTRONS // 2
    assert measures["hamiltonian"] == pytest.approx(np.abs(h - h0).mean())
    assert measures["same_atom"] == pytest.approx(np.abs(h - h0)[own].mean())
    assert measures["different_atoms"] == pytest.approx(np.abs(h - h0)[~own].mean())
    assert measures["occupied_levels"] == pytest.approx(np.abs(e - e0)[:n].mean())
    assert measures["homo"] == pytest.approx(abs(e[n - 1] - e0[n - 1]))
    assert measures["lumo"] == pytest.approx(abs(e[n] - e0[n]))
    assert measures["gap"] == pytest.approx(abs(e[n] - e[n - 1] - e0[n] + e0[n - 1]))
    unit = [C[:, :n] / np.linalg.norm(C[:, :n], axis=0) for C in (c, c0)]
    assert measures["orbitals"] == pytest.approx(np.abs((unit[0] * unit[1]).sum(axis=0)).mean())
    assert measures["orbitals_by_overlap"] == pytest.approx(np.abs(np.diag(c[:, :n].T @ s @ c0[:, :n])).mean())
    assert 0.9 < measures["orbitals"] < 1 and 0.9 < measures["orbitals_by_overlap"] < 1


def test_means_are_over_molecules(molecules: tuple[RealSpaceHamiltonian, RealSpaceHamiltonian]) -> None:
    measures = orbital_errors(*molecules)
    means = mean_errors({"a": measures, "b": {**measures, "gap": 3 * measures["gap"]}, "c": {"error": "no S"}})
    assert means["gap_eV"] == pytest.approx(2 * measures["gap"]) and means["n_failed"] == 1 and means["n_members"] == 2
    assert means["hamiltonian_uHartree"] == pytest.approx(1e6 * measures["hamiltonian"] / 27.211386245988)
    assert means["orbitals"] == pytest.approx(measures["orbitals"])


def test_what_is_missing_is_named(molecules: tuple[RealSpaceHamiltonian, RealSpaceHamiltonian]) -> None:
    found, label = molecules
    with pytest.raises(DataError, match="molecule cannot be judged"):
        orbital_errors(found, replace(label, n_electrons=None))
