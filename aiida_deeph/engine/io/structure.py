"""Structures in files: extended xyz and POSCAR without loss, everything else through ase."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic

# Length that a cell vector gets beyond the atoms when a file has none along an open direction, Angstrom.
VACUUM = 20.0


def from_ase(atoms: Atoms) -> Structure:
    """A structure from ase; cell vectors that are missing along open directions are filled in.

    :raises InputError: a periodic direction without cell vector.
    """
    cell, pbc = np.array(atoms.cell), np.array(atoms.pbc)
    missing = np.linalg.norm(cell, axis=1) < 1e-8
    if (missing & pbc).any():
        raise InputError(
            "periodic direction without cell vector", found=cell.tolist(), expected="a cell vector for each pbc"
        )
    if missing.any():
        cell = complete_cell(cell)
        cell[missing] *= np.ptp(atoms.positions @ cell[missing].T, axis=0)[:, None] + VACUUM
    return Structure(tuple(atoms.get_chemical_symbols()), atoms.positions, cell, tuple(pbc))


def to_ase(structure: Structure) -> Atoms:
    """The structure for ase."""
    return Atoms(structure.symbols, positions=structure.positions, cell=structure.cell, pbc=structure.pbc)


def write_structure(path: Path, structure: Structure) -> None:
    """Write extended xyz (suffix `.xyz` or `.extxyz`) or POSCAR, both without loss, or what ase makes of the suffix."""
    path = Path(path)
    if path.suffix in (".xyz", ".extxyz"):
        lattice = " ".join(_digits(x) for x in structure.cell.ravel())
        pbc = " ".join("T" if p else "F" for p in structure.pbc)
        lines = [str(len(structure)), f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="{pbc}"']
        lines += [
            " ".join([symbol, *map(_digits, position)])
            for symbol, position in zip(structure.symbols, structure.positions, strict=True)
        ]
        write_text_atomic(path, "\n".join(lines) + "\n")
    elif path.name == "POSCAR" or path.suffix in (".poscar", ".vasp"):
        write_text_atomic(path, format_poscar(structure))
    else:
        with atomic_path(path) as temporary:
            ase.io.write(temporary, to_ase(structure))


def format_poscar(structure: Structure, title: str = "DeepH") -> str:
    """Text of a POSCAR with Cartesian positions; runs of equal symbols share a column."""
    runs: list[tuple[str, int]] = []
    for symbol in structure.symbols:
        if runs and runs[-1][0] == symbol:
            runs[-1] = (symbol, runs[-1][1] + 1)
        else:
            runs.append((symbol, 1))
    lines = [title, "1.0"]
    lines += [" ".join(map(_digits, row)) for row in structure.cell]
    lines += [" ".join(symbol for symbol, _ in runs), " ".join(str(count) for _, count in runs), "Cartesian"]
    lines += [" ".join(map(_digits, row)) for row in structure.positions]
    return "\n".join(lines) + "\n"


def read_poscar(path: Path) -> Structure:
    """Read a POSCAR whatever its name.

    :raises InputError: the file is missing or no POSCAR.
    """
    try:
        atoms = ase.io.read(path, format="vasp")
    except Exception as error:  # every format of ase has its own exceptions
        raise InputError("POSCAR cannot be read", where=path, found=f"{type(error).__name__} {error}") from None
    return from_ase(atoms)


def _digits(value: float) -> str:
    """Shortest positional text that gives back the very same float."""
    return np.format_float_positional(value, unique=True, trim="0")
