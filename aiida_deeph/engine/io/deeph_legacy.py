"""The folder of the DeepH-E3 era: text files and one HDF5 dataset per atom pair.

Atoms are counted from 1, lattice vectors and atoms stand in columns, orbitals are in an order of their own: here alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.convention import DEEPH_LEGACY
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import from_convention, to_convention
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic
from aiida_deeph.engine.io.hdf5 import COMPRESSION, open_dataset, open_h5, read_array
from aiida_deeph.engine.io.info import FolderInfo, read_json_object
from aiida_deeph.engine.io.moments import read_moments, write_moments
from aiida_deeph.engine.io.paths import check_output, require_plain_file
from aiida_deeph.engine.system import track

HAMILTONIAN_FILE = "hamiltonians.h5"
PREDICTED_FILE = "hamiltonians_pred.h5"
OVERLAP_FILE = "overlaps.h5"
ELEMENT_FILE = "element.dat"
# What the format has no place for stands under this key of info.json, so that nothing is lost on the way back.
EXTRA = "aiida_deeph"
TABLES = (ELEMENT_FILE, "lat.dat", "site_positions.dat")


def read_legacy(folder: Path, *, hamiltonian_file: str = HAMILTONIAN_FILE) -> RealSpaceHamiltonian:
    """Read a legacy folder, atoms in its own order; H and S are None where their file is absent.

    Without `hamiltonians.h5` H is that of `hamiltonians_pred.h5`, which DeepH writes as its prediction.

    :raises InputError: not a legacy folder.
    :raises DataError: a file is damaged or does not fit the others.
    """
    folder = Path(folder)
    structure = read_legacy_structure(folder)
    info, ordered = _read_info(folder)
    basis = _read_basis(folder, structure)
    data = RealSpaceHamiltonian(
        structure=structure,
        basis=info.basis if ordered else basis,
        spin=info.spin,
        fermi_energy=info.fermi_energy,
        n_electrons=info.occupation,
        metadata=info.metadata,
        moments=read_moments(folder, len(structure)),
    )

    def matrix(name: str, rows_per_atom: NDArray[np.int64], dtype: np.dtype[Any]) -> BlockSparseMatrix | None:
        path = folder / name
        return _read_matrix(path, rows_per_atom, dtype) if os.path.lexists(path) else None

    if hamiltonian_file == HAMILTONIAN_FILE and not (folder / hamiltonian_file).exists():
        hamiltonian_file = PREDICTED_FILE
    hamiltonian = matrix(hamiltonian_file, data.rows_per_atom, data.spin.dtype)
    overlap = matrix(OVERLAP_FILE, data.orbitals_per_atom, np.dtype(np.float64))
    return from_convention(replace(data, hamiltonian=hamiltonian, overlap=overlap), DEEPH_LEGACY)


def read_legacy_structure(folder: Path) -> Structure:
    """The structure of a legacy folder, periodic in all directions unless we wrote otherwise.

    :raises InputError: not a legacy folder.
    """
    folder = Path(folder)
    try:
        for name in TABLES:
            require_plain_file(folder / name)
        numbers = np.loadtxt(folder / ELEMENT_FILE, ndmin=1).astype(int)
        cell = np.loadtxt(folder / "lat.dat", ndmin=2).T
        positions = np.loadtxt(folder / "site_positions.dat", ndmin=2).T
        if not len(numbers) or not ((numbers > 0) & (numbers < len(chemical_symbols))).all():
            raise ValueError(f"atomic numbers {sorted(set(numbers.tolist()))[:5]}")
        symbols = tuple(chemical_symbols[n] for n in numbers)
    except (DataError, OSError, ValueError, IndexError) as error:
        raise InputError(
            "not a legacy DeepH folder",
            where=folder,
            found=error,
            expected="element.dat, lat.dat, site_positions.dat, orbital_types.dat, info.json",
        ) from None
    return Structure(symbols, positions, cell, _read_info(folder)[0].pbc)


def write_legacy(folder: Path, data: RealSpaceHamiltonian, *, hamiltonian_file: str = HAMILTONIAN_FILE) -> None:
    """Write a legacy folder, atoms in the order of the data."""
    folder = Path(folder)
    check_output(folder, folder=True)
    structure, basis = data.structure, data.basis
    info = {
        "nsites": len(structure),
        "norbits": int(data.orbitals_per_atom.sum()),
        "isorthogonal": False,
        "isspinful": data.spin is not SpinMode.NONE,
        "fermi_level": 0.0 if data.fermi_energy is None else data.fermi_energy,
        EXTRA: {
            "fermi_energy_eV": data.fermi_energy,
            "occupation": data.n_electrons,
            "spin_mode": data.spin.value,
            "pbc": list(structure.pbc),
            "elements_orbital_map": {symbol: list(ls) for symbol, ls in basis.shells.items()},
            "metadata": dict(data.metadata),
        },
    }
    reciprocal = 2 * np.pi * np.linalg.inv(structure.cell)
    write_text_atomic(folder / "lat.dat", _table(structure.cell.T))
    write_text_atomic(folder / "rlat.dat", _table(reciprocal))
    write_text_atomic(folder / "site_positions.dat", _table(structure.positions.T))
    write_text_atomic(folder / ELEMENT_FILE, "".join(f"{atomic_numbers[s]}\n" for s in structure.symbols))
    shells = {symbol: "  ".join(map(str, basis.shells_of(symbol))) + "\n" for symbol in structure.elements}
    write_moments(folder, data.moments)
    write_text_atomic(folder / "orbital_types.dat", "".join(shells[symbol] for symbol in structure.symbols))
    data = to_convention(data, DEEPH_LEGACY)
    if data.overlap is not None:
        _write_matrix(folder / OVERLAP_FILE, data.overlap)
    if data.hamiltonian is not None:
        _write_matrix(folder / hamiltonian_file, data.hamiltonian)
    write_text_atomic(folder / "info.json", json.dumps(info, indent=2) + "\n")


def _read_info(folder: Path) -> tuple[FolderInfo, bool]:
    """`info.json` in the words of the new format, and whether it tells the order of the elements' basis itself.

    :raises InputError: not a legacy folder.
    :raises DataError: a field cannot be meant.
    """
    path = folder / "info.json"
    info = read_json_object(path, "not a legacy DeepH folder", "info.json")
    extra = info.get(EXTRA, {})
    if not isinstance(extra, dict):
        raise DataError("info.json has a missing or wrong field", where=f"{path}, {EXTRA}", expected="a JSON object")
    values = {
        "spinful": bool(info.get("isspinful", False)),
        "orthogonal_basis": bool(info.get("isorthogonal", False)),
        "fermi_energy_eV": info.get("fermi_level"),
        "elements_orbital_map": {"from orbital_types.dat": []},
        **extra,
    }
    return FolderInfo.parse(values, path), "elements_orbital_map" in extra


def _read_basis(folder: Path, structure: Structure) -> OrbitalBasis:
    """One line of shells per atom -> one basis per element."""
    path = folder / "orbital_types.dat"
    try:
        require_plain_file(path)
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        shells = [tuple(int(word) for word in line) for line in lines]
    except (DataError, OSError, ValueError) as error:
        raise InputError("orbital types cannot be read", where=path, found=error) from None
    if len(shells) != len(structure):
        raise DataError("orbital types do not fit", where=path, found=f"{len(shells)} lines", expected=len(structure))
    basis = OrbitalBasis({})
    for symbol, ls in dict.fromkeys(zip(structure.symbols, shells, strict=True)):
        basis = basis.union(OrbitalBasis({symbol: ls}))
    return basis


def _read_matrix(path: Path, rows_per_atom: NDArray[np.int64], dtype: np.dtype[Any]) -> BlockSparseMatrix:
    """One dataset `[R1, R2, R3, i, j]` per pair, pairs in the order of the file."""
    with open_h5(path) as file:
        names = list(file)
        pairs = _pairs_of(names, path)
        if not len(pairs):
            raise DataError("matrix without entries", where=path, expected="a block for each atom at least")
        if not (pairs[:, 3:].min() >= 0 and pairs[:, 3:].max() < len(rows_per_atom)):
            raise DataError("atom index outside the structure", where=path, expected=f"1 to {len(rows_per_atom)}")
        declared = int(rows_per_atom[pairs[:, 3]] @ rows_per_atom[pairs[:, 4]])
        if declared > COMPRESSION * file.id.get_filesize():
            raise DataError("blocks do not fit the basis and spin", where=path, found=f"{declared} entries declared")
        matrix = BlockSparseMatrix.from_pairs(pairs, rows_per_atom, dtype=dtype)
        shapes, boundaries = matrix.chunk_shapes.tolist(), matrix.chunk_boundaries.tolist()
        kind = h5py.h5t.py_create(dtype, logical=True)
        for row, name in enumerate(track(names, f"Reading {path.name}")):
            try:
                dataset = open_dataset(file, name)
            except KeyError:
                raise DataError("block cannot be read", where=f"{path} {name}", expected="a dataset") from None
            if list(dataset.shape) != shapes[row] or (dtype.kind == "f" and dataset.dtype.kind != "f"):
                raise DataError(
                    "block does not fit the basis and spin",
                    where=f"{path} {name}",
                    found=f"{dataset.shape} {dataset.dtype}",
                    expected=f"{tuple(shapes[row])} {dtype}",
                )
            block = matrix.entries[boundaries[row] : boundaries[row + 1]].reshape(shapes[row])
            # HDF5 itself converts single to double, but not real to complex.
            if dataset.dtype.kind == dtype.kind:
                dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, block, kind)
            else:
                block[...] = read_array(file, name)
    return matrix


def _pairs_of(names: list[str], path: Path) -> NDArray[np.int64]:
    """Atom pairs of the dataset names, atoms counted from 0, shape (n_pairs, 5)."""
    try:
        pairs: NDArray[np.int64] = np.array(json.loads(f"[{','.join(names)}]"), dtype=np.int64).reshape(len(names), 5)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise DataError("dataset name is no atom pair", where=path, expected="names like [0, 0, 0, 1, 1]") from None
    pairs -= np.array([0, 0, 0, 1, 1])
    return pairs


def _write_matrix(path: Path, matrix: BlockSparseMatrix) -> None:
    """Pairs keep their order in the file, so that a round trip gives the very same arrays."""
    names = (matrix.atom_pairs + np.array([0, 0, 0, 1, 1])).tolist()
    shapes, boundaries = matrix.chunk_shapes.tolist(), matrix.chunk_boundaries.tolist()
    kind = h5py.h5t.py_create(matrix.entries.dtype, logical=True)
    spaces = {tuple(shape): h5py.h5s.create_simple(tuple(shape)) for shape in np.unique(matrix.chunk_shapes, axis=0)}
    with atomic_path(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        for row, name in enumerate(track(names, f"Writing {path.name}")):
            block = matrix.entries[boundaries[row] : boundaries[row + 1]].reshape(shapes[row])
            dataset = h5py.h5d.create(file.id, str(name).encode(), kind, spaces[tuple(shapes[row])])
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, block)


def _table(rows: NDArray[np.float64]) -> str:
    return "".join(" ".join(repr(float(x)) for x in row) + "\n" for row in rows)
