"""What a CP2K input must hold so that H(R) and S(R) can be read, and the bands that come back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.errors import DataError


def required_sections() -> dict[str, Any]:
    """Sections that write the real-space matrices, one binary file per lattice vector."""
    csr = {"_": "ON", "REAL_SPACE": True, "BINARY": True, "THRESHOLD": "1.0E-12"}
    return {
        "GLOBAL": {"RUN_TYPE": "ENERGY", "PRINT_LEVEL": "MEDIUM"},
        "FORCE_EVAL": {"METHOD": "QUICKSTEP", "DFT": {"PRINT": {"KS_CSR_WRITE": dict(csr), "S_CSR_WRITE": dict(csr)}}},
    }


def kpoints_section(mesh: Sequence[int]) -> dict[str, Any]:
    """The whole Gamma-centred mesh, not its irreducible part: H(R) is summed over all of it."""
    return {
        "SCHEME": "GAMMA " + " ".join(str(n) for n in mesh),
        "FULL_GRID": True,
        "SYMMETRY": False,
        "EPS_GEO": "1.0E-8",
        "PARALLEL_GROUP_SIZE": -1,
    }


def bands_section(kpoints: ArrayLike) -> dict[str, Any]:
    """Bands at single k-points (fractional, shape (n_k, 3)), printed to the main output."""
    points = [f"{k[0]:.12f} {k[1]:.12f} {k[2]:.12f}" for k in np.asarray(kpoints)]
    sets = [{"UNITS": "B_VECTOR", "SPECIAL_POINT": point, "NPOINTS": 0} for point in points]
    return {"_": "ON", "FILE_NAME": "__STD_OUT__", "KPOINT_SET": sets}


POINT = re.compile(r"#\s+Point\s+\d+\s+Spin\s+(\d+):\s+(\S+)\s+(\S+)\s+(\S+)")


def read_bands(text: str, kpoints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eigenvalues in the main output, eV, shape (n_spin, n_k, n_bands).

    :param kpoints: the points asked for, shape (n_k, 3); each is found by its coordinates.
    :raises DataError: a point is missing.
    """
    found: dict[tuple[int, ...], list[float]] = {}
    current: list[float] | None = None
    for line in text.splitlines():
        match = POINT.search(line)
        if match:
            spin, *k = match.groups()
            current = found.setdefault((int(spin), *(round(1e6 * float(x)) for x in k)), [])
            current.clear()
        elif current is not None:
            row = line.split()
            if len(row) == 3 and row[0].isdigit():
                current.append(float(row[1]))
            elif not line.lstrip().startswith("#"):
                current = None
    spins = sorted({key[0] for key in found})
    result = []
    for spin in spins:
        for n, k in enumerate(kpoints):
            energies = found.get((spin, *(round(1e6 * x) for x in k)))
            if not energies:
                raise DataError(
                    "bands are incomplete",
                    where="CP2K output",
                    found=f"no k-point {n}: {k.tolist()}",
                    expected="all points",
                )
            result.append(energies)
    if not result:
        raise DataError("no bands", where="CP2K output", expected="BAND_STRUCTURE printed to __STD_OUT__")
    return np.array(result).reshape(len(spins), len(kpoints), -1)
