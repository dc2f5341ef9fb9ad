"""FHI-aims's `rs_indices.out` (which elements are stored) and its matrices, as text or HDF5."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.hdf5 import open_h5, read_array

# What stands in place of a cell behind the last one.
NO_CELL = 999999999
_HEADER = re.compile(
    r"\s*n_hamiltonian_matrix_size:\s*(\d+)\s+n_cells_in_hamiltonian:\s*(\d+)\s+n_basis:\s*(\d+)\s+cell_index\s"
)
_TITLES = re.compile(r"index_hamiltonian\([12],:,:\)|column_index_hamiltonian|cell_index")


@dataclass(frozen=True)
class RsIndices:
    """The elements that the files hold, in their order: <phi_row in cell R | M | phi_column in cell 0>, column <= row.

    :param n_values: numbers in each file of a matrix; what no element refers to is padding.
    :param cells: lattice vectors R, shape (n_cells, 3).
    :param cell: index of R of each element, shape (n_elements,).
    :param rows: shape (n_elements,).
    :param columns: shape (n_elements,).
    :param places: of the elements in the files, shape (n_elements,).
    """

    path: Path
    n_values: int
    n_basis: int
    cells: NDArray[np.int64]
    cell: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    places: NDArray[np.int64]


def read_indices(path: Path) -> RsIndices:
    """Read a `rs_indices.out`.

    :raises InputError: not such a file.
    :raises DataError: it cannot be read, is cut off or damaged.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise DataError("indices cannot be read", where=path, found=error) from None
    header = _HEADER.match(text)
    if header is None:
        raise InputError(
            "not the indices of FHI-aims's matrices", where=path, expected="n_hamiltonian_matrix_size, n_basis, .."
        )
    n_values, n_cells, n_basis = (int(word) for word in header.groups())
    numbers = _numbers(_TITLES.sub(" ", text[header.end() :]), np.int64, path)
    sizes = [3 * n_cells, n_cells * n_basis, n_cells * n_basis, n_values]
    if len(numbers) != sum(sizes):
        raise DataError(
            "indices are cut off or damaged", where=path, found=len(numbers), expected=f"{sum(sizes)} numbers"
        )
    cells, first, last, columns = np.split(numbers, np.cumsum(sizes)[:-1])
    cells, first, last = cells.reshape(-1, 3), first.reshape(n_cells, -1), last.reshape(n_cells, -1)
    kept = cells[:, 0] != NO_CELL
    cells, first, last = cells[kept], first[kept].ravel(), last[kept].ravel()
    # Rows without elements go from 0 to -1.
    counts = np.where(first > 0, last - first + 1, 0)
    if (counts < 0).any() or not 0 < counts.sum() <= n_values:
        raise DataError("indices are damaged", where=path, found=f"{counts.sum()} elements", expected=f"{n_values}")
    cell, rows = np.divmod(np.repeat(np.arange(len(counts)), counts), n_basis)
    places = np.arange(counts.sum()) + np.repeat(first - 1 - (np.cumsum(counts) - counts), counts)
    if places.min() < 0 or places.max() >= n_values:
        raise DataError("indices are damaged", where=path, found="ranges of elements beyond the end")
    columns = columns[places] - 1
    if columns.min() < 0 or (columns > rows).any():
        raise DataError("indices are damaged", where=path, found="columns above the diagonal", expected="one triangle")
    return RsIndices(path, n_values, n_basis, cells, cell, rows, columns, places)


def read_values(paths: Sequence[Path], indices: RsIndices) -> list[NDArray[np.float64]]:
    """The elements of several matrices, Hartree or 1, in the order of `indices`.

    :raises DataError: a file cannot be read, is cut off or damaged.
    """
    values = [_read_matrix(path) for path in paths]
    for path, numbers in zip(paths, values, strict=True):
        # Some releases leave the padding at the end out, in all files of a run.
        known = len(numbers) in (indices.n_values, indices.n_values - 1) and len(numbers) == len(values[0])
        if not known or not np.isfinite(numbers).all():
            raise DataError(
                "matrix is cut off or of another run",
                where=path,
                found=f"{len(numbers)} numbers" if np.isfinite(numbers).all() else "NaN or infinity",
                expected=f"{indices.n_values} numbers, as many as in {paths[0].name}",
            )
    return [numbers[indices.places] for numbers in values]


def _read_matrix(path: Path) -> NDArray[np.float64]:
    try:
        if path.suffix == ".h5":
            with open_h5(path) as file:
                values = read_array(file, "sparse_matrix").astype(np.float64).ravel()
        else:
            values = _numbers(path.read_text(encoding="ascii"), np.float64, path)
    except (OSError, KeyError, ValueError) as error:
        raise DataError("matrix cannot be read", where=path, found=error) from None
    return values


def _numbers(text: str, dtype: type, path: Path) -> NDArray[Any]:
    """Numbers between white space.

    :raises DataError: something else stands there.
    """
    with warnings.catch_warnings():
        # So numpy says that it stopped before the end.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=dtype, sep=" ")
        except (DeprecationWarning, ValueError):
            raise DataError("file cannot be read", where=path, expected="numbers alone") from None
