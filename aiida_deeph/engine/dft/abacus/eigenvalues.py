"""ABACUS's eigenvalues: `BANDS_1.dat`, `istate.info`, and k-points in KPT."""

from __future__ import annotations

import re

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


def parse_states(text: str) -> tuple[Real, Real]:
    """k-points (fractional) and energies of an `istate.info`, shapes (n_k, 3) and (n_spins, n_k, n_bands), eV.

    :raises DataError: the text is not such a file.
    """
    kpoints, energies = [], []
    for part in re.split(r"^BAND\b", text, flags=re.MULTILINE)[1:]:
        header, *lines = part.splitlines()
        k = re.search(r"\(([^()]*)\)\s*$", header)
        try:
            if k is None:
                raise ValueError(header)
            kpoints.append([float(x) for x in k.group(1).split()])
            energies.append([[float(x) for x in line.split()[1::2]] for line in lines if line.strip()])
        except ValueError as error:
            raise DataError("eigenvalues are damaged", where="istate.info", found=error) from None
    try:
        table = np.array(energies).transpose(2, 0, 1)
    except ValueError as error:
        raise DataError("eigenvalues are damaged", where="istate.info", found=error) from None
    return np.array(kpoints), table


def parse_kpoints(text: str) -> Real:
    """k-points of a KPT with a list (`Direct`), fractional, shape (n_k, 3).

    :raises DataError: the text is not such a file.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    try:
        if lines[2][0] != "Direct":
            raise ValueError(lines[2][0])
        return np.array([[float(x) for x in row[:3]] for row in lines[3 : 3 + int(lines[1][0])]])
    except (ValueError, IndexError) as error:
        raise DataError("k-points are damaged", where="KPT", found=error) from None
