"""The DeepH folder: POSCAR, info.json, overlap.h5, hamiltonian.h5 (layout of DeepH-dock)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import with_common_pairs
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic
from aiida_deeph.engine.io.structure import format_poscar, read_poscar

STRUCTURE_FILE = "POSCAR"
INFO_FILE = "info.json"
OVERLAP_FILE = "overlap.h5"
HAMILTONIAN_FILE = "hamiltonian.h5"
FIELDS = ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries")


def read_deeph(folder: Path, *, hamiltonian_file: str = HAMILTONIAN_FILE) -> RealSpaceHamiltonian:
    """Read a DeepH folder; H and S are None where their file is absent.

    :raises InputError: not a DeepH folder.
    :raises DataError: a file is damaged or does not fit the others.
    """
    folder = Path(folder)
    info = read_info(folder)
    structure = read_deeph_structure(folder)
    where = folder / INFO_FILE
    try:
        basis = OrbitalBasis({symbol: tuple(ls) for symbol, ls in info["elements_orbital_map"].items()})
        spinful = bool(info["spinful"])
        spin = SpinMode(info.get("spin_mode", "noncollinear" if spinful else "none"))
        fermi, occupation = (
            None if (x := info.get(key)) is None else float(x) for key in ("fermi_energy_eV", "occupation")
        )
        metadata = dict(info.get("metadata") or {})
        n_atoms = int(info.get("atoms_quantity", len(structure)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "info.json has a missing or wrong field", where=where, found=f"{type(error).__name__} {error}"
        ) from None
    if spinful != (spin is not SpinMode.NONE):
        raise DataError("info.json contradicts itself", where=where, found=f"spinful {spinful}, spin_mode {spin.value}")
    if n_atoms != len(structure):
        raise DataError(
            "POSCAR and info.json disagree",
            where=where,
            found=f"{n_atoms} atoms",
            expected=f"{len(structure)} as in POSCAR",
        )

    def matrix(name: str, dtype: np.dtype[Any]) -> BlockSparseMatrix | None:
        path = folder / name
        return read_matrix(path, dtype) if path.is_file() else None

    try:
        return RealSpaceHamiltonian(
            structure=structure,
            basis=basis,
            spin=spin,
            hamiltonian=matrix(hamiltonian_file, spin.dtype),
            overlap=matrix(OVERLAP_FILE, np.dtype(np.float64)),
            fermi_energy=fermi,
            n_electrons=occupation,
            metadata=metadata,
        )
    except DataError as error:
        if str(folder) in str(error):
            raise
        raise DataError(f"{error}", where=folder) from None


def read_info(folder: Path) -> dict[str, Any]:
    """`info.json` of a DeepH folder.

    :raises InputError: not a DeepH folder.
    """
    path = Path(folder) / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError("not a DeepH folder", where=folder, found=error, expected="POSCAR and info.json") from None
    if not isinstance(info, dict):
        raise InputError("not a DeepH folder", where=path, found=type(info).__name__, expected="a JSON object")
    return info


def read_deeph_structure(folder: Path) -> Structure:
    """The structure of a DeepH folder, periodic in all directions unless its info.json says otherwise.

    :raises InputError: not a DeepH folder.
    """
    structure = read_poscar(Path(folder) / STRUCTURE_FILE)
    pbc = read_info(folder).get("pbc", (True, True, True))
    return Structure(structure.symbols, structure.positions, structure.cell, tuple(pbc))


def read_matrix(path: Path, dtype: np.dtype[Any]) -> BlockSparseMatrix:
    """Read one HDF5 file of a DeepH folder.

    :param dtype: of the entries; real entries may be read as complex, never the reverse.
    :raises DataError: the file is truncated, misses a dataset or is inconsistent.
    """
    try:
        with h5py.File(path, "r") as file:
            values = {name: file[name][...] for name in FIELDS}
    except (KeyError, TypeError):
        raise DataError("HDF5 file misses a dataset", where=path, expected=", ".join(FIELDS)) from None
    except OSError as error:
        raise DataError(
            "HDF5 file cannot be read",
            where=path,
            found=str(error),
            remedy="it is truncated or no HDF5: copy or compute it again",
        ) from None
    entries = values["entries"]
    if entries.dtype.kind not in "fc" or (entries.dtype.kind == "c" and dtype.kind == "f"):
        raise DataError("entries have the wrong type", where=path, found=entries.dtype, expected=dtype)
    try:
        return BlockSparseMatrix(*(values[name] for name in FIELDS[:3]), entries.astype(dtype, copy=False))
    except (DataError, ValueError, IndexError, TypeError) as error:
        raise DataError(str(error), where=path) from None


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
    if data.overlap is not None:
        write_matrix(folder / OVERLAP_FILE, data.overlap)
    if data.hamiltonian is not None:
        write_matrix(folder / hamiltonian_file, data.hamiltonian)
    write_text_atomic(folder / INFO_FILE, json.dumps(info, indent=2) + "\n")
    return order
