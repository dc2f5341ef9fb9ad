"""Structures from structure files and from DeepH folders, new and legacy, alike."""

from __future__ import annotations

from pathlib import Path

import ase.io
from ase import Atoms

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.structure import from_ase


def read_structure(path: Path) -> Structure:
    """Read a structure file that ase knows (its last frame), or the structure of a DeepH folder, new or legacy.

    :raises InputError: the file is missing or no structure.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "element.dat").is_file():
            from aiida_deeph.engine.io.deeph_legacy import read_legacy_structure

            return read_legacy_structure(path)
        from aiida_deeph.engine.io.deeph import read_deeph_structure

        return read_deeph_structure(path)
    try:
        atoms = ase.io.read(path)
    except Exception as error:  # every format of ase has its own exceptions
        raise InputError(
            "structure cannot be read",
            where=path,
            found=f"{type(error).__name__} {error}",
            expected="a structure file that ase reads, e.g. extended xyz, cif or POSCAR, or a DeepH folder",
        ) from None
    if not isinstance(atoms, Atoms) or not len(atoms):
        raise InputError("structure file holds no atoms", where=path)
    return from_ase(atoms)
