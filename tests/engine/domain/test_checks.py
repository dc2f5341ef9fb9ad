"""Each gate passes sound data and sees the fault that it is made for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from aiida_deeph.engine.domain import checks
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.checks import Limits, run_gates, smallest_eigenvalue
from aiida_deeph.engine.domain.cutoff import within_cutoff
from aiida_deeph.engine.domain.gate import failures


def failed(data, **limits) -> set[str]:
    return {gate.name for gate in failures(run_gates(data, Limits(**limits)))}


@pytest.mark.parametrize("spin", list(SpinMode))
def test_sound_data_pass(make_hamiltonian, spin: SpinMode) -> None:
    gates = run_gates(make_hamiltonian(spin))
    assert not failures(gates)
    assert len(gates) == 19
    json.dumps([gate.as_dict() for gate in gates], allow_nan=False)


def test_hermiticity(make_hamiltonian) -> None:
    data = make_hamiltonian()
    row = int(np.flatnonzero(data.hamiltonian.atom_pairs[:, 3] != data.hamiltonian.atom_pairs[:, 4])[0])
    data.hamiltonian.entries[data.hamiltonian.chunk_boundaries[row]] += 2e-3
    assert failed(data) == {"H Hermitian"}
    assert failed(data, max_hermiticity_error=1e-2) == set()
    gate = next(gate for gate in run_gates(data) if gate.name == "H Hermitian")
    assert gate.value == pytest.approx(2e-3, rel=1e-6)


def test_not_a_number(make_hamiltonian) -> None:
    data = make_hamiltonian()
    data.hamiltonian.entries[5] = np.nan
    assert failed(data) == {"H finite"}


def test_open_pairs(make_hamiltonian) -> None:
    data = make_hamiltonian()
    off_site = int(np.flatnonzero(data.overlap.atom_pairs[:, 3] != data.overlap.atom_pairs[:, 4])[0])
    lonely = data.overlap.selected(np.arange(len(data.overlap)) != off_site)
    assert failed(replace(data, overlap=lonely)) == {"S pairs closed"}


def test_pair_twice(make_hamiltonian) -> None:
    data = make_hamiltonian()
    rows = np.append(np.arange(len(data.hamiltonian)), 0)
    assert failed(replace(data, hamiltonian=data.hamiltonian.selected(rows))) == {"H pairs unique"}


def test_missing_on_site_block(make_hamiltonian) -> None:
    data = make_hamiltonian()
    pairs = data.hamiltonian.atom_pairs
    keep = ~((pairs[:, 3] == 2) & (pairs[:, 4] == 2) & ~pairs[:, :3].any(axis=1))
    result = failed(replace(data, hamiltonian=data.hamiltonian.selected(keep)))
    assert result == {"H on-site blocks", "S pairs within H pairs"}


def test_overlap_beyond_hamiltonian(make_hamiltonian) -> None:
    """The reverse, H beyond S, is usual and passes (it is so in the sound data)."""
    data = make_hamiltonian()
    near = np.linalg.norm(data.structure.pair_vectors(data.hamiltonian.atom_pairs), axis=1) < 1.5
    assert failed(replace(data, hamiltonian=data.hamiltonian.selected(near))) == {"S pairs within H pairs"}


def test_overlap_that_is_not_positive(make_hamiltonian) -> None:
    data = make_hamiltonian()
    data.overlap.block((0, 0, 0), 3, 3)[0, 0] = -0.1
    assert failed(data) == {"S(k) smallest eigenvalue"}
    gate = run_gates(data)[-1]
    expected = min(np.linalg.eigvalsh(data.overlap_at(k).toarray())[0] for k in checks.K_POINTS)
    assert gate.value == pytest.approx(expected, abs=1e-12)


def test_unconverged_run(make_hamiltonian) -> None:
    assert failed(replace(make_hamiltonian(), metadata={"converged": False})) == {"SCF converged"}


def test_second_basis_of_an_element(make_hamiltonian) -> None:
    data = make_hamiltonian()
    assert checks.one_basis(OrbitalBasis({"C": (0, 1, 2), "O": (0,)}), data).passed
    gate = checks.one_basis(OrbitalBasis({"C": (0, 1)}), data)
    assert not gate.passed and "C: [0, 1, 2], before [0, 1]" in str(gate)


def test_cutoff_tells_what_it_drops(make_hamiltonian) -> None:
    data = make_hamiltonian()
    distances = np.linalg.norm(data.structure.pair_vectors(data.hamiltonian.atom_pairs), axis=1)
    cut, gate = within_cutoff(data, 3.0, max_dropped=1e-2)
    assert len(cut.hamiltonian) == (distances <= 3.0).sum() < len(data.hamiltonian)
    assert gate.value == data.hamiltonian.norms()[distances > 3.0].max()
    assert (gate.passed, gate.severity) == (False, "warning")
    assert within_cutoff(data, 3.0, max_dropped=10)[1].passed
    assert failed(cut) == set(), "a cutoff keeps both directions"


@pytest.mark.parametrize("lowest", [-0.3, 2e-5, 0.2])
def test_sparse_eigenvalue(monkeypatch, lowest: float) -> None:
    """Lattice of overlapping sites with one extreme mode: sparse estimates against the dense truth."""
    n = 400
    matrix = sp.diags([0.3, 1.0, 0.3], [-1, 0, 1], shape=(n, n)).tolil()
    matrix[:2, :] = matrix[:, :2] = 0
    matrix[0, 0] = matrix[1, 1] = (1 + lowest) / 2
    matrix[0, 1] = matrix[1, 0] = (1 - lowest) / 2
    matrix = matrix.tocsr()
    dense = np.linalg.eigvalsh(matrix.toarray())[0]
    assert dense == pytest.approx(lowest)
    monkeypatch.setattr(checks, "DENSE_LIMIT", 10)
    assert smallest_eigenvalue(matrix) == pytest.approx(dense, abs=1e-8)
    monkeypatch.setattr(checks, "FACTOR_LIMIT", 10)
    assert smallest_eigenvalue(matrix) >= dense - 1e-9
    if lowest < 0:
        assert smallest_eigenvalue(matrix) < 0, "a clearly negative eigenvalue is seen without factorisation"
