"""RealSpaceHamiltonian and Structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError

K = (0.21, -0.37, 0.1)


def test_overlap_is_doubled_spin_major(make_hamiltonian) -> None:
    data = make_hamiltonian(SpinMode.NONCOLLINEAR)
    spatial = replace(data, spin=SpinMode.NONE, hamiltonian=None).overlap_at(K).toarray()
    full = data.overlap_at(K).toarray()
    expected = np.zeros_like(full)
    first = np.concatenate([[0], np.cumsum(data.orbitals_per_atom)])
    for i in range(5):
        for j in range(5):
            block = spatial[first[i] : first[i + 1], first[j] : first[j + 1]]
            rows, columns = slice(2 * first[i], 2 * first[i + 1]), slice(2 * first[j], 2 * first[j + 1])
            expected[rows, columns] = np.kron(np.eye(2), block)
    np.testing.assert_allclose(full, expected, atol=1e-15)


def test_missing_matrices_are_named(make_hamiltonian) -> None:
    data = make_hamiltonian()
    with pytest.raises(DataError, match="no Hamiltonian"):
        replace(data, hamiltonian=None).hamiltonian_at(K)
    with pytest.raises(DataError, match="no overlap"):
        replace(data, overlap=None).overlap_at(K)


@pytest.mark.parametrize("spin", list(SpinMode))
def test_permuting_atoms_keeps_the_spectrum(make_hamiltonian, spin: SpinMode) -> None:
    data = make_hamiltonian(spin)
    grouped, order = data.grouped()
    assert grouped.structure.symbols == ("C", "C", "H", "H", "Mo")
    assert order.tolist() == [0, 2, 1, 4, 3]
    np.testing.assert_array_equal(grouped.structure.positions, data.structure.positions[order])
    np.testing.assert_array_equal(grouped.hamiltonian.block((0, 0, 0), 1, 4), data.hamiltonian.block((0, 0, 0), 2, 3))
    for name in ("hamiltonian_at", "overlap_at"):
        energies = [np.linalg.eigvalsh(getattr(one, name)(K).toarray()) for one in (data, grouped)]
        np.testing.assert_allclose(*energies, atol=1e-12)


def test_block_shapes_must_fit_the_basis(make_hamiltonian) -> None:
    data = make_hamiltonian()
    with pytest.raises(DataError, match="block shape does not fit the basis; in hamiltonian"):
        replace(data, basis=OrbitalBasis({**data.basis.shells, "H": (0,)}))
    with pytest.raises(DataError, match="atom index outside the structure"):
        replace(data, structure=data.structure.permuted(np.arange(4)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((2, 3))}, "wrong shapes"),
        ({"cell": np.ones((3, 3))}, "cell has no volume"),
        ({"positions": np.full((1, 3), np.nan)}, "NaN"),
    ],
)
def test_wrong_structures(changes: dict, message: str) -> None:
    values = {"symbols": ("C",), "positions": np.zeros((1, 3)), "cell": np.eye(3)}
    with pytest.raises(InputError, match=message):
        Structure(**{**values, **changes})


def test_pair_vectors_point_from_i_to_j_in_cell_r() -> None:
    structure = Structure(("C", "H"), [[0, 0, 0], [1.0, 2.0, 3.0]], np.diag([10.0, 20.0, 30.0]))
    vectors = structure.pair_vectors(np.array([[0, 0, 0, 0, 1], [1, -1, 0, 1, 0]]))
    np.testing.assert_allclose(vectors, [[1, 2, 3], [9, -22, -3]])
