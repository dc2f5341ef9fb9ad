"""ABACUS's eigenvalues: `BANDS_1.dat`, `istate.info`, and k-points in KPT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError

Real = NDArray[np.float64]


def parse_bands(text: str) -> Real:
    """Energies of a `BANDS_n.dat` (`eigs1.txt` later): k-point, length of the path, energies; shape (n_k, n_bands), eV.

    :raises DataError: the text is not such a file.
    """
    try:
        rows = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
        table = np.array(rows)
        if table.ndim != 2 or table.shape[1] < 3 or not np.array_equal(table[:, 0], np.arange(1, len(table) + 1)):
            raise ValueError(f"table of shape {table.shape}")
    except ValueError as error:
        raise DataError("band energies are damaged", where="BANDS file", found=error) from None
    return table[:, 2:]
