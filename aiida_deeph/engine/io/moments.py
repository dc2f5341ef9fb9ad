"""`moments.json` beside info.json: the nominal and the converged spin moment of each atom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.moments import Moments, as_vectors
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.info import read_json_object

MOMENTS_FILE = "moments.json"
UNITS = "mu_B"


def read_moments(folder: Path, n_atoms: int) -> Moments | None:
    """Moments of a DeepH folder in the order of its atoms; None if it has none.

    :raises DataError: units, numbers or their count are wrong.
    """
    path = Path(folder) / MOMENTS_FILE
    if not path.exists():
        return None
    try:
        values = read_json_object(path, "moments cannot be read", f'{{"units": "{UNITS}", "nominal": [...]}}')
    except InputError as error:
        raise DataError(str(error)) from None
    if values.get("units") != UNITS:
        raise DataError("moments in unknown units", where=path, found=values.get("units"), expected=UNITS)
    found = {
        name: None if values.get(name) is None else as_vectors(values[name], f"{path}, {name}")
        for name in ("nominal", "converged")
    }
    for name, vectors in found.items():
        if vectors is not None and len(vectors) != n_atoms:
            raise DataError(
                "moments of another number of atoms", where=f"{path}, {name}", found=len(vectors), expected=n_atoms
            )
    return Moments(**found) if any(vectors is not None for vectors in found.values()) else None


def write_moments(folder: Path, moments: Moments | None) -> None:
    """Write the file in one step, or remove one that stands there from before."""
    path = Path(folder) / MOMENTS_FILE
    if moments is None:
        path.unlink(missing_ok=True)
        return
    values = {"units": UNITS, "nominal": _plain(moments.nominal), "converged": _plain(moments.converged)}
    write_text_atomic(path, json.dumps(values) + "\n")


def _plain(vectors: NDArray[np.float64] | None) -> Any:
    """Numbers where all lie along z, else vectors."""
    if vectors is None:
        return None
    return (vectors if vectors[:, :2].any() else vectors[:, 2]).tolist()
