"""Hamiltonians handed to sisl have the eigenvalues that ours have."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg as la

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.sisl import to_sisl

KPOINTS = [(0.0, 0.0, 0.0), (0.1, 0.2, -0.3)]


@pytest.fixture(autouse=True)
def sisl() -> Any:
    """The package, or a skip; it calls functions of pyparsing by old names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sisl", reason="sisl is not installed")


def crystal(spin: SpinMode, *, real: bool) -> RealSpaceHamiltonian:
    rng = np.random.default_rng(8)
    structure = Structure(("Mo", "S", "S"), rng.uniform(0, 3, (3, 3)), np.diag([3.0, 3.4, 3.9]) + 0.2)
    basis = OrbitalBasis({"Mo": (0, 1, 1), "S": (0, 1)})
    pairs = pairs_within(structure, 4.0)
    counts = basis.orbitals_per_atom(structure.symbols)
    s = BlockSparseMatrix.from_pairs(pairs, counts)
    s = s.with_entries(0.01 * rng.standard_normal(len(s.entries))).hermitian_part()
    on_site = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
    rows, columns = s.entry_positions()
    s.entries[on_site[s.pair_of_entry] & (rows == columns)] = 1.0
    h = BlockSparseMatrix.from_pairs(pairs, counts * spin.multiplicity, dtype=spin.dtype)
    values = rng.standard_normal(len(h.entries)).astype(spin.dtype)
    if spin is not SpinMode.NONE and not real:
        values += 1j * rng.standard_normal(len(values))
    if spin is SpinMode.COLLINEAR:
        rows, columns = h.entry_positions()
        down = [x >= counts[pairs[:, 3 + n]][h.pair_of_entry] for n, x in enumerate((rows, columns))]
        values[down[0] != down[1]] = 0
    return RealSpaceHamiltonian(structure, basis, spin, h.with_entries(values).hermitian_part(), s)


@pytest.mark.parametrize(("spin", "real"), [*((spin, False) for spin in SpinMode), (SpinMode.COLLINEAR, True)])
@pytest.mark.parametrize("k", KPOINTS)
def test_same_eigenvalues(spin: SpinMode, real: bool, k: tuple[float, ...]) -> None:
    data = crystal(spin, real=real)
    theirs = to_sisl(data)
    exact = la.eigvalsh(data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray())
    channels = [{"spin": 0}, {"spin": 1}] if spin is SpinMode.COLLINEAR and real else [{}]
    found = np.sort(np.concatenate([theirs.eigh(k, **channel) for channel in channels]))
    assert found == pytest.approx(exact, abs=1e-10)
    assert theirs.geometry.no == 15


def test_orbitals_have_their_names_and_nothing_is_lost_in_a_file(tmp_path: Path, sisl: Any) -> None:
    data = crystal(SpinMode.NONE, real=True)
    theirs = to_sisl(data)
    orbitals = theirs.geometry.atoms[0].orbitals
    assert [(o.l, o.m, o.zeta) for o in orbitals] == [(0, 0, 1), *((1, m, z) for z in (1, 2) for m in (-1, 0, 1))]
    theirs.write(tmp_path / "h.TSHS")
    again = sisl.get_sile(tmp_path / "h.TSHS").read_hamiltonian()
    assert again.eigh(KPOINTS[1]) == pytest.approx(theirs.eigh(KPOINTS[1]), abs=1e-6)


def test_no_hamiltonian() -> None:
    with pytest.raises(DataError, match="no Hamiltonian"):
        to_sisl(replace(crystal(SpinMode.NONE, real=True), hamiltonian=None))
