"""The DeepH folder: POSCAR, info.json, overlap.h5, hamiltonian.h5 (layout of DeepH-dock)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import with_common_pairs
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic
from aiida_deeph.engine.io.hdf5 import open_dataset, open_h5, read_array
from aiida_deeph.engine.io.info import FolderInfo, read_json_object
from aiida_deeph.engine.io.moments import read_moments, write_moments
from aiida_deeph.engine.io.paths import check_output
from aiida_deeph.engine.io.structure import format_poscar, read_poscar

STRUCTURE_FILE = "POSCAR"
INFO_FILE = "info.json"
OVERLAP_FILE = "overlap.h5"
HAMILTONIAN_FILE = "hamiltonian.h5"
# Entries that are looked at together where the whole matrix is not needed.
PIECE = 10**7
FIELDS = ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries")


def read_deeph(folder: Path, *, hamiltonian_file: str = HAMILTONIAN_FILE) -> RealSpaceHamiltonian:
    """Read a DeepH folder; H and S are None where their file is absent.

    :raises InputError: not a DeepH folder.
    :raises DataError: a file is damaged or does not fit the others.
    """
    folder = Path(folder)
    info = read_folder_info(folder)
    structure = read_deeph_structure(folder)
    where = folder / INFO_FILE
    if info.atoms_quantity not in (None, len(structure)):
        raise DataError(
            "POSCAR and info.json disagree",
            where=where,
            found=f"{info.atoms_quantity} atoms",
            expected=f"{len(structure)} as in POSCAR",
        )

    def matrix(name: str, dtype: np.dtype[Any]) -> BlockSparseMatrix | None:
        path = folder / name
        return read_matrix(path, dtype) if os.path.lexists(path) else None

    try:
        return RealSpaceHamiltonian(
            structure=structure,
            basis=info.basis,
            spin=info.spin,
            hamiltonian=matrix(hamiltonian_file, info.spin.dtype),
            overlap=matrix(OVERLAP_FILE, np.dtype(np.float64)),
            fermi_energy=info.fermi_energy,
            n_electrons=info.occupation,
            metadata=info.metadata,
            moments=read_moments(folder, len(structure)),
        )
    except DataError as error:
        if str(folder) in str(error):
            raise
        raise DataError(f"{error}", where=folder) from None


def read_info(folder: Path) -> dict[str, Any]:
    """`info.json` of a DeepH folder as it stands.

    :raises InputError: not a DeepH folder.
    """
    return read_json_object(Path(folder) / INFO_FILE, "not a DeepH folder", "POSCAR and info.json")


def read_folder_info(folder: Path) -> FolderInfo:
    """`info.json` of a DeepH folder, checked.

    :raises InputError: not a DeepH folder.
    :raises DataError: a field is missing or cannot be meant.
    """
    return FolderInfo.parse(read_info(folder), Path(folder) / INFO_FILE)


def read_deeph_structure(folder: Path) -> Structure:
    """The structure of a DeepH folder, periodic in all directions unless its info.json says otherwise.

    :raises InputError: not a DeepH folder.
    """
    structure = read_poscar(Path(folder) / STRUCTURE_FILE)
    return Structure(structure.symbols, structure.positions, structure.cell, read_folder_info(folder).pbc)


def read_matrix(path: Path, dtype: np.dtype[Any]) -> BlockSparseMatrix:
    """Read one HDF5 file of a DeepH folder.

    :param dtype: of the entries; real entries may be read as complex, never the reverse.
    :raises DataError: the file is truncated, misses a dataset or is inconsistent.
    """
    try:
        with open_h5(path) as file:
            values = {name: read_array(file, name) for name in FIELDS}
    except KeyError:
        raise DataError("HDF5 file misses a dataset", where=path, expected=", ".join(FIELDS)) from None
    entries = values["entries"]
    if entries.dtype.kind not in "fc" or (entries.dtype.kind == "c" and dtype.kind == "f"):
        raise DataError("entries have the wrong type", where=path, found=entries.dtype, expected=dtype)
    try:
        pairs, shapes, boundaries = (values[name] for name in FIELDS[:3])
        matrix = BlockSparseMatrix(pairs, shapes, boundaries, entries.astype(dtype, copy=False))
    except (DataError, ValueError, IndexError, TypeError) as error:
        raise DataError(str(error), where=path) from None
    if not len(matrix):
        raise DataError("matrix without entries", where=path, expected="a block for each atom at least")
    return matrix


def check_matrix(path: Path) -> int:
    """Number of atom pairs of an HDF5 file of a DeepH folder, whose entries are looked at piece by piece.

    :raises DataError: the file is damaged, empty or holds NaN.
    """
    try:
        with open_h5(path) as file:
            pairs, entries = (h5py.Dataset(open_dataset(file, name)) for name in ("atom_pairs", "entries"))
            if entries.ndim != 1 or pairs.ndim != 2 or not pairs.shape[0]:
                raise DataError("matrix without entries", where=path, found=f"{pairs.shape} pairs, {entries.shape}")
            for first in range(0, entries.shape[0], PIECE):
                if not np.isfinite(entries[first : first + PIECE]).all():
                    raise DataError("matrix holds NaN or infinite entries", where=path, remedy="compute it again")
            return int(pairs.shape[0])
    except (KeyError, TypeError):
        raise DataError("HDF5 file misses a dataset", where=path, expected=", ".join(FIELDS)) from None


def write_matrix(path: Path, matrix: BlockSparseMatrix) -> None:
    """Write one HDF5 file of a DeepH folder."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name in FIELDS:
            file[name] = getattr(matrix, name)


def write_deeph(
    folder: Path, data: RealSpaceHamiltonian, *, hamiltonian_file: str = HAMILTONIAN_FILE
) -> NDArray[np.int64]:
    """Write a DeepH folder; info.json comes last, so a folder that has it is complete.

    Atoms are grouped by element, since a POSCAR needs it. H and S get the same atom pairs, since the format needs that:
    pairs that only one of them has are zero in the other.

    :return: order used: atom `order[n]` of the data stands at place n of the folder.
    :raises InputError: the folder holds a matrix that the data lacks: it would belong to another structure.
    """
    folder = Path(folder)
    check_output(folder, folder=True)
    for name, matrix in ((hamiltonian_file, data.hamiltonian), (OVERLAP_FILE, data.overlap)):
        if matrix is None and (folder / name).exists():
            raise InputError(
                "folder holds other data",
                where=folder / name,
                expected="an empty folder",
                remedy="choose another output",
            )
    data, order = data.grouped()
    data = with_common_pairs(data)
    info = {
        "atoms_quantity": len(data.structure),
        "orbits_quantity": int(data.orbitals_per_atom.sum()),
        "orthogonal_basis": False,
        "spinful": data.spin is not SpinMode.NONE,
        "fermi_energy_eV": data.fermi_energy,
        "elements_orbital_map": {symbol: list(ls) for symbol, ls in data.basis.shells.items()},
        "occupation": data.n_electrons,
        "pbc": list(data.structure.pbc),
        "spin_mode": data.spin.value,
        "metadata": dict(data.metadata),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_FILE).unlink(missing_ok=True)
    write_text_atomic(folder / STRUCTURE_FILE, format_poscar(data.structure))
    write_moments(folder, data.moments)
    if data.overlap is not None:
        write_matrix(folder / OVERLAP_FILE, data.overlap)
    if data.hamiltonian is not None:
        write_matrix(folder / hamiltonian_file, data.hamiltonian)
    write_text_atomic(folder / INFO_FILE, json.dumps(info, indent=2) + "\n")
    return order
