"""CP2K's real-space matrices: one Fortran file per lattice vector."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.errors import DataError

# One unformatted Fortran record per entry: length, row, column (counted from 1), value, length.
RECORD = np.dtype([("begin", "<i4"), ("row", "<i4"), ("column", "<i4"), ("value", "<f8"), ("end", "<i4")])
RECORD_LENGTH = 16


def find_matrix_files(directory: Path, project: str, kind: str, spin: int) -> dict[int, Path]:
    """Files `PROJECT-KIND_SPIN_s_R_n-1_0.csr` of a run by their number n.

    :param kind: `KS` or `S`.
    :param spin: 1 or 2.
    :raises DataError: two files for one lattice vector.
    """
    pattern = re.compile(rf"{re.escape(project)}-{kind}_SPIN_{spin}_R_(\d+)-.*\.csr")
    files: dict[int, Path] = {}
    for path in sorted(directory.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        number = int(match.group(1))
        if number in files:
            raise DataError(
                "two files for one lattice vector",
                where=directory,
                found=f"{files[number].name} and {path.name}",
                remedy="use RUN_TYPE ENERGY in an empty directory",
            )
        files[number] = path
    return files


def read_matrix(
    files: Mapping[int, Path], cells: Mapping[int, Sequence[int]], orbitals_per_atom: NDArray[np.int64]
) -> BlockSparseMatrix:
    """M_ij(R) = <phi_i in cell 0 | M | phi_j in cell R> in CP2K's own units and order of orbitals.

    :param files: number of a lattice vector -> its file.
    :param cells: number of a lattice vector -> R.
    :param orbitals_per_atom: shape (n_atoms,).
    :raises DataError: a file is missing, damaged or of other dimensions.
    """
    missing = sorted(set(cells) - set(files))
    if missing or not cells:
        raise DataError(
            "matrix files are missing",
            where="CP2K run",
            found=f"{len(files)} files, none for lattice vector number {missing[0] if missing else '?'}",
            expected=f"{len(cells)} files",
            remedy="keep the .csr files of the run",
        )
    n_orbitals, n_atoms = int(orbitals_per_atom.sum()), len(orbitals_per_atom)
    atom_of = np.repeat(np.arange(n_atoms), orbitals_per_atom)
    first = np.concatenate([[0], np.cumsum(orbitals_per_atom)])
    numbers = sorted(cells)
    _check_counts({tuple(cells[n]): files[n] for n in numbers})
    keys, rows, columns, values = [], [], [], []
    for place, number in enumerate(numbers):
        row, column, value = _read_records(files[number], n_orbitals)
        i, j = atom_of[row], atom_of[column]
        keys.append((place * n_atoms + i) * n_atoms + j)
        rows.append(row - first[i])
        columns.append(column - first[j])
        values.append(value)
    pair, of_entry = np.unique(np.concatenate(keys), return_inverse=True)
    place, atoms = np.divmod(pair, n_atoms * n_atoms)
    lattice = np.array([cells[n] for n in numbers], dtype=np.int64).reshape(-1, 3)
    atom_pairs = np.concatenate([lattice[place], np.stack(np.divmod(atoms, n_atoms), axis=1)], axis=1)
    matrix = BlockSparseMatrix.from_pairs(atom_pairs, orbitals_per_atom)
    width = matrix.chunk_shapes[of_entry, 1]
    matrix.entries[matrix.chunk_boundaries[of_entry] + np.concatenate(rows) * width + np.concatenate(columns)] = (
        np.concatenate(values)
    )
    return matrix


def _check_counts(files: Mapping[tuple[int, ...], Path]) -> None:
    """R = 0 has elements, and R and -R have as many: M_ij(R) = M_ji(-R).

    :raises DataError: otherwise, as on a full disk, or with one triangle alone.
    """
    sizes = {R: path.stat().st_size for R, path in files.items()}
    home = (0, 0, 0)
    if not sizes.get(home):
        raise DataError(
            "matrix is empty",
            where=files.get(home, "CP2K run"),
            expected="elements of R = 0",
            remedy="look for a full disk, and run CP2K again",
        )
    for R, size in sizes.items():
        other = sizes.get((-R[0], -R[1], -R[2]))
        if size != other:
            raise DataError(
                "matrix is incomplete",
                where=files[R],
                found=f"{size // RECORD.itemsize} elements, {(other or 0) // RECORD.itemsize} of -R",
                expected="as many",
                remedy="set UPPER_TRIANGULAR off in KS_CSR_WRITE and S_CSR_WRITE, or look for a full disk, and run "
                "CP2K again",
            )


def _read_records(path: Path, n_orbitals: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows and columns counted from 0, and values."""
    size = path.stat().st_size
    records = np.fromfile(path, dtype=RECORD)
    if size % RECORD.itemsize or not ((records["begin"] == RECORD_LENGTH) & (records["end"] == RECORD_LENGTH)).all():
        raise DataError(
            "matrix file is damaged",
            where=path,
            found=f"{size} bytes",
            expected="records of 24 bytes",
            remedy="set REAL_SPACE and BINARY in KS_CSR_WRITE and S_CSR_WRITE, or run CP2K again",
        )
    row, column = records["row"].astype(np.int64) - 1, records["column"].astype(np.int64) - 1
    if len(records) and (min(row.min(), column.min()) < 0 or max(row.max(), column.max()) >= n_orbitals):
        raise DataError(
            "matrix does not fit the basis",
            where=path,
            found=int(max(row.max(), column.max())) + 1,
            expected=n_orbitals,
        )
    values = records["value"].astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("matrix has numbers that are none", where=path, found="NaN or infinity")
    return row, column, values
