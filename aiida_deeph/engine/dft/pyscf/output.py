"""The files that a PySCF run leaves: `pyscf.h5` (matrices) and `results.json` (numbers)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.pyscf.code import MATRICES_FILE
from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.files import atomic_path
from aiida_deeph.engine.io.hdf5 import open_dataset, open_h5, read_array

FORMAT_VERSION = 1
# Datasets of H(k): all of it or that of spin up, and that of spin down.
SPINS = ("hamiltonian", "hamiltonian_down")


@dataclass(frozen=True)
class Matrices:
    """What a run has computed, PySCF's order of orbitals.

    :param shells: element -> l of each shell.
    :param kpoints: fractional, shape (n_kpoints, 3).
    :param hamiltonian: H(k) in eV of each spin (one, or two if collinear), shape (n_kpoints, n_orbitals, n_orbitals).
    :param overlap: S(k), the same shape.
    """

    shells: Mapping[str, list[int]]
    kpoints: NDArray[np.float64]
    hamiltonian: Sequence[NDArray[np.complex128]]
    overlap: NDArray[np.complex128]


def shells_of(cell: Any) -> dict[str, list[int]]:
    """l of each shell of each element, in the order of PySCF's orbitals."""
    shells: dict[str, list[int]] = {}
    for atom in range(cell.natm):
        symbol = cell.atom_symbol(atom)
        if symbol not in shells:
            shells[symbol] = [
                int(cell.bas_angular(b)) for b in cell.atom_shell_ids(atom) for _ in range(cell.bas_nctr(b))
            ]
    return shells


@dataclass(frozen=True)
class PyscfOutput:
    """What `pyscf.h5` holds.

    :param shells: element -> l of each shell, in PySCF's order of shells.
    :param kpoints: fractional, shape (n_kpoints, 3).
    :param hamiltonian: H(k) in eV, PySCF's order of orbitals, shape (n_spins, n_kpoints, n_orbitals, n_orbitals).
    :param overlap: S(k), shape (n_kpoints, n_orbitals, n_orbitals).
    :param results: the content of `results.json`.
    """

    structure: Structure
    shells: Mapping[str, tuple[int, ...]]
    kpoints: NDArray[np.float64]
    hamiltonian: NDArray[np.complex128]
    overlap: NDArray[np.complex128]
    results: Mapping[str, Any]

    @property
    def orbitals_per_atom(self) -> NDArray[np.int64]:
        """Shape (n_atoms,)."""
        return OrbitalBasis(self.shells).orbitals_per_atom(self.structure.symbols)

    @classmethod
    def of(cls, structure: Structure, matrices: Matrices, results: Mapping[str, Any]) -> PyscfOutput:
        """What a run holds in memory."""
        shells = {symbol: tuple(ls) for symbol, ls in matrices.shells.items()}
        return cls(structure, shells, matrices.kpoints, np.stack(matrices.hamiltonian), matrices.overlap, results)


def spin_rows(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the orbitals of spin up and of spin down where each atom has those up, then those down.

    :param sizes: orbitals of each atom, shape (n_atoms,).
    """
    up = np.arange(sizes.sum()) + np.repeat(np.cumsum(sizes) - sizes, sizes)
    return up, up + np.repeat(sizes, sizes)


def write_matrices(directory: Path, structure: Structure, matrices: Matrices, results: Mapping[str, Any]) -> Path:
    """Write `pyscf.h5` in one step; H(k) of the two spins of collinear data as `hamiltonian` and `hamiltonian_down`."""
    path = directory / MATRICES_FILE
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["results"] = json.dumps(dict(results))
        file.attrs["shells"] = json.dumps(dict(matrices.shells))
        file["symbols"] = np.array(structure.symbols, dtype="S4")
        file["positions"], file["cell"], file["pbc"] = structure.positions, structure.cell, np.array(structure.pbc)
        file["kpoints"], file["overlap"] = matrices.kpoints, matrices.overlap
        for name, hamiltonian in zip(SPINS, matrices.hamiltonian, strict=False):
            file[name] = hamiltonian
            file[name].attrs["unit"] = "eV"
    return path


def read_matrices(directory: Path) -> PyscfOutput:
    """Read `pyscf.h5`.

    :raises InputError: the file is missing or of a newer format.
    :raises DataError: the file is damaged.
    """
    path = directory / MATRICES_FILE
    if not path.is_file():
        raise InputError(
            "no PySCF run here", where=directory, expected=f"{MATRICES_FILE} as `deeph-engine pyscf` leaves it"
        )
    try:
        with open_h5(path) as file:
            version = int(file.attrs["format_version"])
            if version > FORMAT_VERSION:
                raise InputError(
                    "PySCF run of a newer format",
                    where=path,
                    found=version,
                    expected=f"at most {FORMAT_VERSION}",
                    remedy="update aiida-deeph",
                )
            spins = [name for name in SPINS if name in file]
            names = ("positions", "cell", "kpoints", "overlap", *(spins or SPINS[:1]))
            arrays = {name: read_array(file, name) for name in names}
            symbols, pbc = (np.asarray(h5py.Dataset(open_dataset(file, name))[...]) for name in ("symbols", "pbc"))
            shells, results = (json.loads(file.attrs[name]) for name in ("shells", "results"))
        output = PyscfOutput(
            Structure(
                tuple(symbol.decode() for symbol in symbols),
                arrays["positions"].astype(np.float64),
                arrays["cell"].astype(np.float64),
                tuple(pbc.astype(bool).tolist()),
            ),
            {symbol: tuple(int(l) for l in ls) for symbol, ls in shells.items()},
            arrays["kpoints"].astype(np.float64),
            np.stack([arrays[name] for name in spins]).astype(np.complex128),
            arrays["overlap"].astype(np.complex128),
            dict(results),
        )
        kmesh = [int(n) for n in results["settings"]["kmesh"]]
        shape = (len(output.kpoints), *2 * (int(results["n_orbitals"]),))
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError("PySCF output is damaged", where=path, found=error, remedy="run PySCF again") from None
    wrong = len(kmesh) != 3 or min(kmesh) < 1 or output.kpoints.shape != (int(np.prod(kmesh)), 3)
    if wrong or output.hamiltonian.shape[1:] != shape or output.overlap.shape != shape:
        raise DataError("PySCF output is damaged", where=path, found=output.hamiltonian.shape, expected=shape)
    return output
