"""What a run of SIESTA says of its settings, to be compared with those of other runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.orbitals.ion import load_ion

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_PSEUDO = re.compile(r"^Reading pseudopotential information (?:in \w+ form )?(?:in PSML )?from:?\s+(\S+)", re.MULTILINE)
_MESH = re.compile(r"^siesta: k-grid:((?:\s+-?\d+){3})\s+-?\d+\.\d+\s*$", re.MULTILINE)


def printed_settings(text: str) -> dict[str, Any]:
    """Functional, cutoff, k-mesh, smearing, pseudopotentials and size of the basis as the output tells them."""

    def last(pattern: str) -> str | None:
        found = re.findall(pattern, text, re.MULTILINE | re.IGNORECASE)
        return str(found[-1]).strip() if found else None

    rows = [[int(n) for n in row.split()] for row in _MESH.findall(text)[-3:]]
    diagonal = len(rows) == 3 and all(row[m] == 0 for n, row in enumerate(rows) for m in range(3) if m != n)
    cutoff = last(rf"^redata: Mesh Cutoff\s*=\s*({_NUMBER})\s*Ry")
    temperature = last(rf"^redata: Electronic Temperature\s*=\s*({_NUMBER})\s*K")
    values: dict[str, Any] = {
        "functional": last(r"^xc_check: (?!Exchange-correlation functional)(\S.*)$"),
        "mesh_cutoff_Ry": None if cutoff is None else float(cutoff),
        "temperature_K": None if temperature is None else round(float(temperature), 1),
        "k_grid": [rows[n][n] for n in range(3)] if diagonal else None,
        "k_grid_rows": rows if rows and not diagonal else None,
        "spin_configuration": last(r"^redata: Spin configuration\s*=\s*(\S+)"),
        "basis_size": last(r"^\s*PAO\.?BasisSize\s+(\S+)"),
        "pseudopotentials": {Path(name).stem: name for name in _PSEUDO.findall(text)} or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def digests_of_orbitals(elements: Iterable[str], directory: Path) -> dict[str, Any]:
    """Element -> digest of the orbitals that the run left, rounded to the digits of files; none if they are gone."""
    found = {}
    for symbol in sorted(elements):
        try:
            shells, _ = load_ion(symbol, directory, None)
        except DeepHError:
            continue
        digest = sha256()
        for shell in shells:
            digest.update(f"{shell.l} {len(shell.r)}".encode())
            digest.update(np.round(shell.values, 6).tobytes())
        found[symbol] = digest.hexdigest()[:16]
    return {"basis_sha256": found} if found else {}
