"""What a CP2K input must ask for so that its output can be read; nothing here needs CP2K, AiiDA or torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BANDS_FILE = "bands.bs"


def required_input(
    kmesh: Sequence[int],
    *,
    bands: Sequence[Sequence[float]] | None = None,
    added_bands: int = 10,
    threshold: float = 1e-12,
) -> dict[str, Any]:
    """CP2K sections as nested dictionaries (upper-case keys), to be merged into an input:

    - KS and S matrices in real space, one binary file per lattice vector;
    - a k-mesh without symmetry, so that no part of H(R) is folded or left out;
    - the shells of each basis set in the main output, from which the reader takes l and order of the orbitals;
    - coordinates and cell stay in the input file, or beside it: the output has too few digits.

    Positions may lie anywhere: CP2K moves atoms to fractional [-1/2, 1/2) and the reader takes that back.
    With bands the eigenvalues at the given points are written to the file `BANDS_FILE`.

    :param kmesh: Monkhorst-Pack mesh.
    :param bands: fractional k-points, shape (n_kpoints, 3).
    :param added_bands: unoccupied bands of the band structure.
    :param threshold: smaller entries of the matrices are left out, Hartree for KS.
    """
    csr = {"REAL_SPACE": True, "BINARY": True, "THRESHOLD": f"{threshold:.1E}"}
    dft_print: dict[str, Any] = {"KS_CSR_WRITE": dict(csr), "S_CSR_WRITE": dict(csr)}
    if bands is not None:
        points = [f"K{n} {x:.12f} {y:.12f} {z:.12f}" for n, (x, y, z) in enumerate(bands, 1)]
        # A line between two special points with one step has no further points on it.
        lines: list[dict[str, Any]] = [
            {"SPECIAL_POINT": points[n : n + 2], "NPOINTS": 1, "UNITS": "B_VECTOR"} for n in range(0, len(points), 2)
        ]
        if len(points) % 2:
            lines[-1] = {"SPECIAL_POINT": points[-1:], "NPOINTS": 0, "UNITS": "B_VECTOR"}
        dft_print["BAND_STRUCTURE"] = {"FILE_NAME": BANDS_FILE, "ADDED_MOS": added_bands, "KPOINT_SET": lines}
    return {
        "FORCE_EVAL": {
            "METHOD": "QUICKSTEP",
            "DFT": {
                "KPOINTS": {
                    "SCHEME": "MONKHORST-PACK " + " ".join(str(int(n)) for n in kmesh),
                    "FULL_GRID": True,
                    "EPS_GEO": "1.0E-8",
                    "PARALLEL_GROUP_SIZE": -1,
                },
                "PRINT": dft_print,
            },
            "SUBSYS": {"PRINT": {"KINDS": {"BASIS_SET": True}}},
        }
    }
