"""Structures in files: extended xyz and POSCAR without loss, everything else through ase."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

# Length that a cell vector gets beyond the atoms when a file has none along an open direction, Angstrom.
VACUUM = 20.0


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place at the end, or vanishes if writing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file in one step: readers see the old or the new file, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
