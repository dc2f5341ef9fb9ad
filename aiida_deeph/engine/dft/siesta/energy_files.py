"""SIESTA's eigenvalues: `.bands` and `.EIG` with its k-points `.KP`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import DataError


@dataclass(frozen=True)
class SiestaEigenvalues:
    """Eigenvalues that SIESTA itself computed.

    :param fermi_energy: eV.
    :param energies: eV, ascending, shape (n_spins, n_kpoints, n_bands); two spins if collinear.
    :param kpoints: of `BandPoints`, Cartesian with five decimals, 1 / Bohr, shape (n_kpoints, 3); None otherwise.
    """

    fermi_energy: float
    energies: NDArray[np.float64]
    kpoints: NDArray[np.float64] | None = None


def parse_bands(text: str) -> SiestaEigenvalues:
    """Parse a `.bands` of lines (`BandLines`) or points (`BandPoints`); energies have four decimals.

    :raises DataError: the text is no `.bands` file, or is cut off.
    """
    lines = text.splitlines()
    try:
        fermi = float(lines[0])
        # Lines have a range of their length before that of the energies.
        header = next(n for n in (2, 3) if len(lines[n].split()) == 3 and "." not in lines[n])
        n_bands, n_spins, n_kpoints = (int(word) for word in lines[header].split())
        words = iter(" ".join(lines[header + 1 :]).split())
        n_coordinates = 3 if header == 2 else 1
        values = np.array([_take(words, n_coordinates + n_bands * n_spins) for _ in range(n_kpoints)])
        energies = values[:, n_coordinates:].reshape(n_kpoints, n_spins, n_bands).transpose(1, 0, 2)
        return SiestaEigenvalues(fermi, energies, values[:, :3] if n_coordinates == 3 else None)
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise DataError("band energies are damaged", where=".bands file", found=error or "its end") from None


def read_fermi_energy(path: Path) -> float | None:
    """Fermi level on the first line of a `.EIG` or `.bands`, eV; None if there is no such file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return float(stream.readline())
    except (OSError, ValueError):
        return None


def _take(words: Iterator[str], count: int) -> list[float]:
    return [float(next(words)) for _ in range(count)]
