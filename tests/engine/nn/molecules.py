"""Molecules for the tests of QHNet, from the fixtures of its reference code among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.convention import LIBCINT
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_cutoffs
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention
from aiida_deeph.engine.io.dataset import DatasetManifest, Member, file_hashes, member_uuid, write_manifest
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.units import HARTREE_TO_EV

LIGHT, HEAVY = (0, 0, 1), (0, 0, 0, 1, 1, 2)
ELEMENTS = {"H": LIGHT, "C": HEAVY, "N": HEAVY, "O": HEAVY, "F": HEAVY}
"""def2-SVP."""


def molecule(numbers: NDArray[Any], positions: NDArray[np.float64]) -> Structure:
    """A molecule; the cell means nothing. :param positions: Angstrom."""
    return Structure(tuple(chemical_symbols[z] for z in numbers), positions, np.eye(3) * 20, pbc=(False,) * 3)


def all_pairs(n: int) -> NDArray[np.int64]:
    """Every ordered pair of n atoms, each with itself too, shape (n^2, 5)."""
    i, j = np.divmod(np.arange(n * n), n)
    return np.stack([0 * i, 0 * i, 0 * i, i, j], axis=1)


def matrix(structure: Structure, dense: NDArray[np.float64]) -> BlockSparseMatrix:
    """A matrix of a molecule from all its elements."""
    basis = basis_of(structure)
    rows = basis.orbitals_per_atom(structure.symbols)
    first = np.concatenate([[0], np.cumsum(rows)])
    cuts = [slice(*first[i : i + 2]) for i in range(len(rows))]
    entries = np.concatenate([dense[a, b].ravel() for a in cuts for b in cuts])
    return BlockSparseMatrix.from_pairs(all_pairs(len(rows)), rows, entries)


def basis_of(structure: Structure) -> OrbitalBasis:
    """def2-SVP of its elements."""
    return OrbitalBasis({symbol: ELEMENTS[symbol] for symbol in structure.elements})


def labelled(file: Path, index: int) -> RealSpaceHamiltonian:
    """A molecule of a data file of the fixtures with H and S by PySCF, in our conventions."""
    data = np.load(file)
    structure = molecule(data["atomic_numbers"], data["positions_angstrom"][index])
    return from_convention(
        RealSpaceHamiltonian(
            structure,
            basis_of(structure),
            hamiltonian=matrix(structure, data["fock_hartree"][index] * HARTREE_TO_EV),
            overlap=matrix(structure, data["overlap"][index]),
            n_electrons=float(sum(atomic_numbers[symbol] for symbol in structure.symbols)),
            metadata={"code": "pyscf"},
        ),
        LIBCINT,
    )


def write_dataset(folder: Path, file: Path, indices: list[int]) -> Path:
    """A dataset folder of molecules of a data file, in the order given."""
    members: list[Member] = []
    cutoffs: dict[str, float] = {}
    for index in indices:
        data = labelled(file, index)
        path = folder / "members" / f"m{index}"
        write_deeph(path, data)
        assert data.hamiltonian is not None
        for key, value in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(value, cutoffs.get(key, 0.0))
        members.append(
            Member(
                name=f"m{index}",
                uuid=member_uuid(data.structure, data.basis),
                path=f"members/m{index}",
                sha256=file_hashes(path),
                n_atoms=len(data.structure),
                n_pairs=len(data.hamiltonian),
                fermi_energy=None,
            )
        )
    manifest = DatasetManifest(
        members=tuple(members),
        basis=dict(data.basis.shells),
        spin=data.spin,
        pair_cutoffs=cutoffs,
        gauge="as_computed",
        source={"codes": ["pyscf"]},
    )
    write_manifest(folder, manifest)
    return folder
