"""What a run of ABACUS says of its settings, to be compared with those of other runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiida_deeph.engine.dft.abacus.output import AbacusOutput
from aiida_deeph.engine.dft.abacus.stru import Stru
from aiida_deeph.engine.io.files import file_sha256


def find_beside(name: str, directory: Path, output: Path) -> Path | None:
    """A file of the run by the last part of its name: what lies elsewhere is none of its folder."""
    folders = [directory, output, output.parent]
    return next((folder / Path(name).name for folder in folders if (folder / Path(name).name).is_file()), None)


def settings_of_run(
    log: AbacusOutput, words: Mapping[str, str], stru: Stru, directory: Path, output: Path
) -> dict[str, Any]:
    """Functional, cutoff, k-mesh, smearing, orbitals and pseudopotentials.

    :param words: of INPUT.
    :param output: folder of the log.
    """
    orbitals = {label: find_beside(name, directory, output) for label, name in _of_types(stru, stru.orbital_files)}
    digests = {label: file_sha256(path)[:16] for label, path in orbitals.items() if path is not None}
    functional = words.get("dft_functional", "default")
    if functional == "default" and log.functionals:
        functional = "+".join(sorted(set(log.functionals)))
    values: dict[str, Any] = {
        "xc": functional,
        "energy_cutoff_Ry": words.get("ecutwfc"),
        "spin_orbit": words.get("lspinorb", "0"),
        "smearing": " ".join([words.get("smearing_method", "gaussian"), words.get("smearing_sigma", "0.015")]),
        "k_grid": _k_grid(words, directory, output),
        "k_spacing": words.get("kspacing"),
        "orbitals": dict(_of_types(stru, stru.orbital_files)),
        "basis_sha256": digests or None,
        "pseudopotentials": dict(_of_types(stru, log.pseudopotentials)) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _of_types(stru: Stru, names: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(stru.labels, (Path(name).name for name in names), strict=False))


def _k_grid(words: Mapping[str, str], directory: Path, output: Path) -> list[int] | None:
    """The mesh of KPT; None of a list of points."""
    path = find_beside(words.get("kpoint_file", "KPT"), directory, output)
    text = "" if path is None else path.read_text(encoding="utf-8", errors="replace")[:1000]
    mesh = re.search(r"K_POINTS\s+0\s+(?:gamma|mp)\w*\s+(\d+)\s+(\d+)\s+(\d+)", text, re.IGNORECASE)
    return None if mesh is None else [int(n) for n in mesh.groups()]
