"""Structures in files: extended xyz and POSCAR without loss, everything else through ase."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import complete_cell
from numpy.typing import NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError, raise_if_machine_failed
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic

# Length that a cell vector gets beyond the atoms when a file has none along an open direction, Angstrom.
VACUUM = 20.0


def looks_like_poscar(path: Path) -> bool:
    """Whether a file's name says that it is a POSCAR."""
    return "POSCAR" in path.name or "CONTCAR" in path.name or path.suffix in (".poscar", ".vasp")


def check_count(path: Path) -> None:
    """Refuse a file that declares more atoms than it has lines, before anybody makes room for them.

    :raises InputError: it does.
    """
    with path.open("rb") as file:
        head = [file.readline(1000).split() for _ in range(7)]
        counts = next((words for words in (head[5], head[6]) if words and all(map(bytes.isdigit, words))), [])
        if not looks_like_poscar(path):  # xyz alone begins with a number of atoms
            counts = head[0] if len(head[0]) == 1 and head[0][0].isdigit() else []
        declared = sum(map(int, counts))
        if declared < 1000:
            return
        file.seek(0)
        lines = sum(1 for _ in file)
    if declared > lines:
        raise InputError("structure is incomplete", where=path, found=f"{lines} lines", expected=f"{declared} atoms")


def check_molfile(path: Path) -> None:
    """Refuse an sdf or mol file that says more than its atoms, of which a structure would lose what is left.

    :raises InputError: several molecules, a drawing in the plane, a charge, or the extended format.
    """
    if path.suffix.lower() not in (".sdf", ".mol"):
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    charges = [line.split()[4::2] for line in lines if line.startswith("M  CHG")]
    charge = sum(int(value) for words in charges for value in words if value.lstrip("+-").isdigit())
    rest = "".join(lines).partition("$$$$")[2].strip()
    refused = {
        "molecule of the extended format V3000": "V2000" if "V3000" in "".join(lines[3:4]) else "",
        "several structures in one file": "one" if rest else "",
        "molecule drawn in the plane": "atoms in space" if "".join(lines[1:2])[20:22] == "2D" else "",
        "charged molecule": "a neutral one" if charge else "",
    }
    remedies = {"charged molecule": "write it as xyz, and give the charge in the parameters of the label"}
    for message, expected in refused.items():
        if expected:
            raise InputError(message, where=path, expected=expected, remedy=remedies.get(message))


def check_definite(atoms: Atoms, where: object) -> None:
    """Refuse sites that are shared or partly empty, and what is no element.

    :raises InputError: naming the first of them.
    """
    occupancies = atoms.info.get("occupancy") or {}
    partial = [site for site in occupancies.values() if len(site) != 1 or abs(sum(site.values()) - 1) > 1e-6]
    if partial:
        raise InputError(
            "site without a definite element",
            where=where,
            found=", ".join(f"{symbol} {share:g}" for symbol, share in partial[0].items()),
            expected="one element with occupancy 1",
            remedy="choose an ordered supercell, e.g. one with atoms drawn at random",
        )
    if 0 in atoms.numbers:
        raise InputError("atom without element", where=where, found="X", expected="element symbols")


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
        cell = complete_cell(cell)  # type: ignore[no-untyped-call]
        cell[missing] *= np.ptp(atoms.positions @ cell[missing].T, axis=0)[:, None] + VACUUM
    symbols = tuple(chemical_symbols[number] for number in atoms.numbers)
    return Structure(symbols, atoms.positions, cell, tuple(pbc))


def molecule_cell(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """A box around a molecule, with vacuum: nothing is computed from it.

    :param positions: Angstrom, shape (n_atoms, 3).
    """
    return np.diag(np.ptp(positions, axis=0) + VACUUM)


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
        check_count(path)
        atoms = ase.io.read(path, index=-1, format="vasp")
    except InputError:
        raise
    except Exception as error:  # every format of ase has its own exceptions
        raise_if_machine_failed(error)
        raise InputError("POSCAR cannot be read", where=path, found=f"{type(error).__name__} {error}") from None
    assert isinstance(atoms, Atoms)
    return from_ase(atoms)


def _digits(value: float) -> str:
    """Shortest positional text that gives back the very same float."""
    return np.format_float_positional(value, unique=True, trim="0")
