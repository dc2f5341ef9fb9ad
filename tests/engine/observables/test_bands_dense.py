"""Assembly of H(k), dense eigenvalues, ill-conditioned overlaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg as la

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense

K = (0.13, -0.27, 0.41)


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
@pytest.mark.parametrize("k", [K, (0, 0, 0), (0.5, 0, -0.5)])
def test_assembly_equals_the_definition(models: Any, spin: SpinMode, k: tuple[float, ...]) -> None:
    data = models.random_crystal(1, spin)
    h, s = bloch_matrices(data).at(k)
    assert abs(h - data.hamiltonian_at(k)).max() < 1e-13
    assert abs(s - data.overlap_at(k)).max() < 1e-13
    assert np.isrealobj(h.data) == (spin is SpinMode.NONE and k != K)
    assert h.has_canonical_format


def test_overlap_with_other_pairs_than_h(models: Any) -> None:
    data = models.random_crystal(2)
    far = np.linalg.norm(data.structure.pair_vectors(data.overlap.atom_pairs), axis=1) > 3.0
    data = models.replace(data, overlap=data.overlap.selected(~far).sorted())
    h, s = bloch_matrices(data).at(K)
    assert abs(h - data.hamiltonian_at(K)).max() < 1e-13
    assert abs(s - data.overlap_at(K)).max() < 1e-13


def test_collinear_channels_together_are_the_whole(models: Any) -> None:
    data = models.random_crystal(3, SpinMode.COLLINEAR)
    matrices = bloch_matrices(data)
    assert matrices.n_channels == 2
    separate = np.concatenate([solve_dense(*matrices.at(K, channel)).energies for channel in (0, 1)])
    whole = la.eigvalsh(data.hamiltonian_at(K).toarray(), data.overlap_at(K).toarray())
    assert np.abs(np.sort(separate) - whole).max() < 1e-12


def test_collinear_data_that_mix_spins_are_refused(models: Any) -> None:
    data = models.replace(models.random_crystal(3, SpinMode.NONCOLLINEAR), spin=SpinMode.COLLINEAR)
    with pytest.raises(DataError, match="mixes spins"):
        bloch_matrices(data)


def test_bands_of_graphene_are_analytic(models: Any) -> None:
    t, s = -2.7, 0.1
    matrices = bloch_matrices(models.graphene(t, s))
    for k in ([0, 0, 0], [1 / 3, 1 / 3, 0], [0.5, 0, 0], [0.12, 0.3, 0]):
        f = abs(1 + np.exp(2j * np.pi * k[1]) + np.exp(2j * np.pi * (k[0] + k[1])))
        expected = sorted([t * f / (1 + s * f), -t * f / (1 - s * f)])
        found = solve_dense(*matrices.at(k))
        assert found.energies == pytest.approx(expected, abs=1e-12)
        assert found.smallest_overlap == pytest.approx(1 - s * f, rel=1e-3)


def test_vectors_solve_the_problem(models: Any) -> None:
    h, s = bloch_matrices(models.random_crystal(4, SpinMode.NONCOLLINEAR)).at(K)
    found = solve_dense(h, s, vectors=True)
    c = found.vectors
    assert np.abs(h @ c - (s @ c) * found.energies).max() < 1e-11
    assert np.abs(c.conj().T @ (s @ c) - np.eye(h.shape[0])).max() < 1e-11


def nearly_dependent(models: Any, epsilon: float) -> tuple[Any, Any, np.ndarray]:
    """A well-behaved problem with one orbital more, epsilon away from a copy of the first."""
    h, s = (m.toarray() for m in bloch_matrices(models.random_crystal(5)).at(K))
    s = s + 0.3 * np.eye(len(s))
    exact = la.eigvalsh(h, s)
    n = len(h)
    rng = np.random.default_rng(0)
    extra = np.zeros((n + 1, n + 1), dtype=complex)
    embed = np.zeros((n + 1, n + 1), dtype=complex)
    embed[:n, :n], embed[n, n] = s, 1.0
    extra[:n, :n], extra[n, n] = h, 50.0
    extra[n, :n] = 0.1 * rng.standard_normal(n)
    extra[:n, n] = extra[n, :n].conj()
    # New last orbital = first orbital + epsilon * an orthogonal one.
    change = np.eye(n + 1, dtype=complex)
    change[0, n], change[n, n] = 1.0, epsilon
    return change.conj().T @ extra @ change, change.conj().T @ embed @ change, exact


def test_null_space_is_projected_out(models: Any) -> None:
    from scipy.sparse import csr_matrix

    h, s, exact = nearly_dependent(models, 1e-5)
    noisy = h + 1e-7 * np.diag(np.arange(len(h)) % 3 - 1.0)
    found = solve_dense(csr_matrix(noisy), csr_matrix(s), overlap_threshold=1e-6)
    assert found.n_dropped == 1
    assert 0 < found.smallest_overlap < 1e-9
    assert np.abs(found.energies - exact).max() < 1e-4


def test_state_in_the_null_space_is_recognised(models: Any) -> None:
    from scipy.sparse import csr_matrix

    h, s, exact = nearly_dependent(models, 3e-3)
    wrong = h.copy()
    wrong[-1, -1] -= 1e-3  # an error of 1 meV turns the state at 50 eV into one some 100 eV lower
    good, ghost = (solve_dense(csr_matrix(m), csr_matrix(s)) for m in (h, wrong))
    assert good.null_weights[:-1].max() < 0.5 < good.null_weights[-1]
    assert ghost.energies[0] < exact[0] - 10
    assert ghost.null_weights[0] > 0.5 > ghost.null_weights[1:].max()


def test_indefinite_overlap_is_refused(models: Any) -> None:
    h, s = bloch_matrices(models.random_crystal(6)).at(K)
    s.setdiag(s.diagonal() - 0.9)
    with pytest.raises(DataError, match=r"not positive definite.*k = here"):
        solve_dense(h, s, where="k = here")


@pytest.mark.parametrize("change", ["missing", "hermiticity", "nan"])
def test_bad_matrices_are_refused(models: Any, change: str) -> None:
    data = models.random_crystal(7)
    if change == "missing":
        data = models.replace(data, overlap=None)
        expected = "no overlap"
    else:
        entries = data.hamiltonian.entries.copy()
        entries[1] += 3e-6 if change == "hermiticity" else np.nan
        data = models.replace(data, hamiltonian=data.hamiltonian.with_entries(entries))
        expected = "not Hermitian" if change == "hermiticity" else "NaN"
    with pytest.raises(DataError, match=expected):
        bloch_matrices(data, "folder")
