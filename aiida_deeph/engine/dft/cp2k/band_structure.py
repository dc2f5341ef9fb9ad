"""CP2K's band structure file (`.bs`, version 8 and later)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.units import HARTREE_TO_EV

# CODATA 2006, with which CP2K turns its Hartree into the eV of this file.
CP2K_HARTREE_TO_EV = 27.2113838565563

_POINT = re.compile(r"#\s+Point\s+\d+\s+Spin\s+(\d+):\s+(\S+)\s+(\S+)\s+(\S+)")


@dataclass(frozen=True)
class Cp2kBands:
    """Eigenvalues that CP2K itself computed.

    :param kpoints: fractional, in the order of the file, shape (n_kpoints, 3).
    :param energies: eV, ascending, shape (n_spins, n_kpoints, n_bands).
    :param occupations: electrons, shape (n_spins, n_kpoints, n_bands).
    """

    kpoints: NDArray[np.float64]
    energies: NDArray[np.float64]
    occupations: NDArray[np.float64]


def parse_band_structure(text: str) -> Cp2kBands:
    """Parse the text of a `.bs` file; its eV are turned into ours.

    :raises DataError: the text is no band structure, or is cut off.
    """
    points: dict[int, list[list[float]]] = {}
    bands: dict[int, list[list[tuple[float, float]]]] = {}
    current: list[tuple[float, float]] | None = None
    for line in text.splitlines():
        match = _POINT.match(line)
        if match:
            spin = int(match.group(1))
            points.setdefault(spin, []).append([float(match.group(n)) for n in (2, 3, 4)])
            current = []
            bands.setdefault(spin, []).append(current)
        elif current is not None and not line.startswith("#") and line.strip():
            words = line.split()
            try:
                current.append((float(words[1]), float(words[2])))
            except (IndexError, ValueError):
                raise DataError("band structure is damaged", where=".bs file", found=line) from None
    lengths = {len(rows) for rows_of_spin in bands.values() for rows in rows_of_spin}
    if len(lengths) != 1 or 0 in lengths or len({len(p) for p in points.values()}) != 1:
        raise DataError("band structure is damaged", where=".bs file", found=f"{sorted(lengths)} bands per k-point")
    table = np.array([bands[spin] for spin in sorted(bands)])
    return Cp2kBands(np.array(points[min(points)]), table[..., 0] * (HARTREE_TO_EV / CP2K_HARTREE_TO_EV), table[..., 1])
