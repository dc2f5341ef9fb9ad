"""Analytic tight-binding models as RealSpaceHamiltonian."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure

Hoppings = Mapping[tuple[int, int, int, int, int], tuple[float, float]]


def one_orbital(structure: Structure, hoppings: Hoppings, n_electrons: float | None = None) -> RealSpaceHamiltonian:
    """One s orbital per atom; hoppings (R1, R2, R3, i, j) -> (H, S), their reverses are added."""
    both = dict(hoppings) | {(-a, -b, -c, j, i): value for (a, b, c, i, j), value in hoppings.items()}
    pairs = np.array(list(both), dtype=np.int64)
    ones = np.ones(len(structure), dtype=np.int64)
    h, s = (BlockSparseMatrix.from_pairs(pairs, ones, np.array([value[n] for value in both.values()])) for n in (0, 1))
    basis = OrbitalBasis({symbol: (0,) for symbol in structure.elements})
    return RealSpaceHamiltonian(structure, basis, hamiltonian=h, overlap=s, n_electrons=n_electrons)


def graphene(t: float = -2.7, s: float = 0.1, angle: int = 120) -> RealSpaceHamiltonian:
    """Nearest-neighbour p_z model of graphene: E(k) = -/+ t |f(k)| / (1 -/+ s |f(k)|)."""
    a = 2.46
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 15.0]])
    if angle == 60:
        cell[1] = cell[0] + cell[1]
    bond = a / np.sqrt(3)
    positions = np.array([[0, 0, 7.5], [0, bond, 7.5]])
    structure = Structure(("C", "C"), positions, cell, (True, True, False))
    pairs = pairs_within(structure, bond * 1.01)
    vectors = structure.pair_vectors(pairs)
    values = {
        tuple(pair): (0.0, 1.0) if np.linalg.norm(vector) < 0.1 else (t, s)
        for pair, vector in zip(pairs.tolist(), vectors, strict=True)
    }
    return one_orbital(structure, values, n_electrons=2)


def ssh_chain(n_atoms: int, t1: float, t2: float, *, wall: bool = False) -> RealSpaceHamiltonian:
    """Su-Schrieffer-Heeger ring along the first axis; with `wall` an odd ring whose bond order changes phase once."""
    assert n_atoms % 2 == (1 if wall else 0)
    positions = np.zeros((n_atoms, 3))
    positions[:, 0] = 1.25 * np.arange(n_atoms)
    cell = np.diag([1.25 * n_atoms, 12.0, 12.0])
    bonds = {}
    for n in range(n_atoms):
        last = n == n_atoms - 1
        bonds[(int(last), 0, 0, n, (n + 1) % n_atoms)] = (t1 if n % 2 == 0 else t2, 0.0)
        bonds[(0, 0, 0, n, n)] = (0.0, 1.0)
    return one_orbital(Structure(("C",) * n_atoms, positions, cell, (True, False, False)), bonds, n_electrons=n_atoms)


def random_crystal(
    seed: int, spin: SpinMode = SpinMode.NONE, n_atoms: int = 5, cutoff: float = 4.0, stretch: float = 1.0
) -> RealSpaceHamiltonian:
    """Random Hermitian H and positive definite S with s and p shells on two elements."""
    rng = np.random.default_rng(seed)
    structure = Structure(
        ("Mo", *("S",) * (n_atoms - 1)),
        rng.uniform(0, 4, (n_atoms, 3)) * [stretch, 1, 1],
        np.diag([4.0 * stretch, 4.4, 4.9]) + rng.uniform(0, 0.5, (3, 3)),
    )
    basis = OrbitalBasis({"Mo": (0, 1, 1), "S": (0, 1)})
    pairs = pairs_within(structure, cutoff)
    counts = basis.orbitals_per_atom(structure.symbols)
    decay = np.exp(-np.linalg.norm(structure.pair_vectors(pairs), axis=1))
    s = BlockSparseMatrix.from_pairs(pairs, counts)
    h = BlockSparseMatrix.from_pairs(pairs, counts * spin.multiplicity, dtype=spin.dtype)
    s = s.with_entries(0.05 * rng.standard_normal(len(s.entries)) * decay[s.pair_of_entry]).hermitian_part()
    local = (s.atom_pairs[:, :3] == 0).all(axis=1) & (s.atom_pairs[:, 3] == s.atom_pairs[:, 4])
    rows, columns = s.entry_positions()
    s.entries[local[s.pair_of_entry] & (rows == columns)] = 1.0
    values = rng.standard_normal(len(h.entries)).astype(spin.dtype)
    if spin is not SpinMode.NONE:
        values += 1j * rng.standard_normal(len(values))
    if spin is SpinMode.COLLINEAR:
        rows, columns = h.entry_positions()
        up = [counts[h.atom_pairs[:, 3 + n]][h.pair_of_entry] for n in (0, 1)]
        values[(rows >= up[0]) != (columns >= up[1])] = 0
    h = h.with_entries(values * decay[h.pair_of_entry]).hermitian_part()
    return RealSpaceHamiltonian(structure, basis, spin, h, s, n_electrons=20.0)


@pytest.fixture(scope="session")
def models() -> Any:
    """The models above, and `replace` for variations of them."""
    return SimpleNamespace(
        one_orbital=one_orbital, graphene=graphene, ssh_chain=ssh_chain, random_crystal=random_crystal, replace=replace
    )


@pytest.fixture
def folder(tmp_path: Any) -> Callable[..., str]:
    """Write a Hamiltonian as a DeepH folder and give its path."""
    from aiida_deeph.engine.io.deeph import write_deeph

    def write(data: RealSpaceHamiltonian, name: str = "deeph") -> str:
        write_deeph(tmp_path / name, data)
        return str(tmp_path / name)

    return write
