"""What bands and densities of states share: reading the folder, describing it, writing the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida_deeph import __version__
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError


def read_folder(folder: str) -> RealSpaceHamiltonian:
    """Read H(R) and S(R) of a DeepH folder, new or legacy.

    :raises InputError: there is no such folder.
    :raises DataError: H or S is missing or damaged.
    """
    from aiida_deeph.engine.io.folders import read_deeph_folder

    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            "DeepH folder not found",
            where=path,
            remedy="give a folder with POSCAR, info.json, hamiltonian.h5, overlap.h5",
        )
    data = read_deeph_folder(path)
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian", where=path, expected="hamiltonian.h5", remedy="predict or convert one first")
    if data.overlap is None:
        raise DataError(
            "no overlap", where=path, expected="overlap.h5", remedy="compute it with `deeph-engine overlap`"
        )
    return data


def electrons_of(data: RealSpaceHamiltonian, given: float | None) -> float | None:
    """Valence electrons in the cell: those given, else those that the data record."""
    return given if given is not None else data.n_electrons


def describe(data: RealSpaceHamiltonian, folder: str) -> dict[str, Any]:
    """What a result says about the system it belongs to."""
    return {
        "engine_version": __version__,
        "folder": folder,
        "n_atoms": len(data.structure),
        "n_orbitals": int(data.orbitals_per_atom.sum()),
        "spin": data.spin.value,
        "cell": data.structure.cell.tolist(),
        "dft_fermi_level": data.fermi_energy,
    }


def write_json(path: Path, values: dict[str, Any]) -> Path:
    """Write a file that is complete or not there at all.

    :raises InputError: the place cannot be written.
    """
    from aiida_deeph.engine.io.files import write_text_atomic

    try:
        write_text_atomic(path, json.dumps(values, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError("result cannot be written", where=path, found=error.strerror) from None
    return path
