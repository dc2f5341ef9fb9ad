"""CP2K's main output: convergence, energies, geometry, basis, lattice vectors of the matrices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.cp2k.kinds import PrintedKind, printed_kinds
from aiida_deeph.engine.dft.cp2k.settings import printed_settings
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.units import HARTREE_TO_EV

# Files beyond this are not looked at when the main output is searched for, bytes.
LARGEST_OUTPUT = 200_000_000

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"


@dataclass(frozen=True)
class PrintedGeometry:
    """The geometry that CP2K ran, which it prints from PRINT_LEVEL MEDIUM on.

    :param symbols: element of each atom.
    :param kinds: number of the kind of each atom.
    :param charges: of the nuclei or cores, shape (n_atoms,); zero of ghosts.
    :param positions: Angstrom, six decimals, before they are wrapped, shape (n_atoms, 3).
    :param vectors: of the lattice in rows, Angstrom, three decimals.
    :param lengths: of the lattice vectors, Angstrom, six decimals.
    :param angles: between b and c, a and c, a and b, degrees, six decimals.
    """

    symbols: tuple[str, ...]
    kinds: tuple[int, ...]
    charges: tuple[float, ...]
    positions: NDArray[np.float64]
    vectors: NDArray[np.float64]
    lengths: NDArray[np.float64]
    angles: NDArray[np.float64]
    pbc: tuple[bool, bool, bool]


@dataclass(frozen=True)
class MainOutput:
    """What the main output of one run says.

    :param input_file: name of the input file, relative to the run's folder.
    :param geometry: None at PRINT_LEVEL LOW.
    :param kinds: number of each kind -> what is printed of it.
    :param settings: functional, k-mesh, cutoffs and smearing, as far as they are printed.
    :param n_spins: 1, or 2 for an unrestricted calculation; None at PRINT_LEVEL LOW.
    :param electrons: numbers that are printed, one for each spin; the last SCF's last.
    :param energy: eV.
    :param fermi_energy: eV; None if it is not printed (no smearing).
    :param spin_moments: of the atoms by Mulliken, Bohr magnetons; empty where they are not printed.
    :param cells: `KS` or `S` -> number of a matrix file -> R.
    """

    path: Path
    version: str
    project: str
    input_file: str
    converged: bool
    n_cycles: int
    geometry: PrintedGeometry | None
    kinds: Mapping[int, PrintedKind]
    settings: Mapping[str, Any]
    n_spins: int | None
    electrons: tuple[float, ...]
    energy: float | None
    fermi_energy: float | None
    spin_moments: tuple[float, ...]
    cells: Mapping[str, Mapping[int, tuple[int, int, int]]]


def find_main_output(directory: Path) -> Path:
    """The file in a run's folder that lists the lattice vectors of the matrices.

    :raises InputError: there is none.
    """
    names = sorted(directory.iterdir(), key=lambda p: (p.name != "aiida.out", p.suffix not in (".out", ".log"), p.name))
    seen = None
    for path in names:
        if not path.is_file() or path.suffix in (".csr", ".kp", ".wfn") or path.stat().st_size > LARGEST_OUTPUT:
            continue
        content = path.read_bytes()
        if b"KS CSR write|" in content:
            return path
        if b"CP2K| version string" in content:
            seen = path
    raise InputError(
        "CP2K output without real-space matrices" if seen else "no CP2K run here",
        where=seen or directory,
        expected="the table after `KS CSR write|` in the main output",
        remedy="add the sections that required_input lists (KS_CSR_WRITE and S_CSR_WRITE with REAL_SPACE)",
    )


def parse_main_output(path: Path) -> MainOutput:
    """Parse the last run in a main output (CP2K appends to an output file that exists).

    :raises InputError: the basis or the matrices were not printed.
    :raises DataError: the output is incomplete.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    text = text[max(text.rfind("PROGRAM STARTED AT"), 0) :]

    def find(pattern: str, required: bool = True) -> str | None:
        matches = re.findall(pattern, text)
        if not matches and required:
            raise DataError("CP2K output is incomplete", where=path, expected=pattern, remedy="run CP2K again")
        return matches[-1] if matches else None

    if "PROGRAM ENDED AT" not in text:
        raise DataError("CP2K output is incomplete", where=path, expected="`PROGRAM ENDED AT`", remedy="run CP2K again")
    electrons = tuple(float(n) for n in re.findall(r"Number of electrons:\s+(\d+)", text))
    if not electrons:
        raise DataError("CP2K output is incomplete", where=path, expected="numbers of electrons")
    n_spins = find(r"DFT\| Number of spin states\s+(\d)", required=False)
    energy = find(rf"ENERGY\| Total FORCE_EVAL \( QS \) energy \[.*?\]:?\s+({_NUMBER})", required=False)
    fermi = find(rf"Fermi energy:\s+({_NUMBER})", required=False)
    steps = find(r"SCF run converged in\s+(\d+) steps", required=False)
    return MainOutput(
        path=path,
        version=(find(r"CP2K\| version string:\s+(.*\S)") or "").replace("CP2K version ", ""),
        project=find(r"GLOBAL\| Project name\s+(\S+)") or "",
        input_file=find(r"CP2K\| Input file name\s+(\S+)") or "",
        converged=steps is not None and "SCF run NOT converged" not in text,
        n_cycles=int(steps or 0),
        geometry=_geometry(text, path),
        kinds=printed_kinds(text, path),
        settings=printed_settings(text),
        n_spins=None if n_spins is None else int(n_spins),
        electrons=electrons,
        energy=float(energy) * HARTREE_TO_EV if energy else None,
        fermi_energy=float(fermi) * HARTREE_TO_EV if fermi else None,
        spin_moments=_spin_moments(text),
        cells={kind: _cells(text, kind, path) for kind in ("KS", "S")},
    )


def _geometry(text: str, path: Path) -> PrintedGeometry | None:
    """Cell and table of the atoms.

    :raises DataError: only one of them is there.
    """
    begin = text.rfind("MODULE QUICKSTEP")
    table = text[begin : text.find("SCF PARAMETERS", begin)] if begin >= 0 else ""
    x = rf"\s+({_NUMBER})"
    atoms = re.findall(rf"^\s+\d+\s+(\d+)\s+([A-Z][a-z]?)\s+\d+{4 * x}\s+\S+$", table, re.MULTILINE)
    rows = re.findall(rf"^ CELL\| Vector [abc] \[angstrom\]:{3 * x}\s+\|[abc]\| ={x}", text, re.MULTILINE)[-3:]
    angles = re.findall(rf"^ CELL\| Angle \([abc],[abc]\), \w+ \s*\[degree\]:{x}", text, re.MULTILINE)[-3:]
    periodic = re.findall(r"^ CELL\| Periodicity\s+(\w+)$", text, re.MULTILINE)
    if not atoms and not rows:
        return None
    if not atoms or len(rows) != 3 or len(angles) != 3 or not periodic:
        raise DataError("CP2K output is incomplete", where=path, expected="atomic coordinates and the cell")
    vectors = np.array(rows, dtype=np.float64)
    return PrintedGeometry(
        symbols=tuple(atom[1] for atom in atoms),
        kinds=tuple(int(atom[0]) for atom in atoms),
        charges=tuple(float(atom[5]) for atom in atoms),
        positions=np.array([atom[2:5] for atom in atoms], dtype=np.float64),
        vectors=vectors[:, :3],
        lengths=vectors[:, 3],
        angles=np.array(angles, dtype=np.float64),
        pbc=("X" in periodic[-1], "Y" in periodic[-1], "Z" in periodic[-1]),
    )


def _spin_moments(text: str) -> tuple[float, ...]:
    """Last column of the last table of Mulliken populations of two spins."""
    table = text[text.rfind("Atomic population (alpha,beta) Net charge  Spin moment") :].split("# Total charge")[0]
    rows = re.findall(rf"^\s+\d+\s+[A-Z][a-z]?\s+\d+(?:\s+{_NUMBER}){{3}}\s+({_NUMBER})$", table, re.MULTILINE)
    return tuple(float(row) for row in rows) if table.startswith("Atomic") else ()


def _cells(text: str, kind: str, path: Path) -> dict[int, tuple[int, int, int]]:
    """R of each matrix file: its number is the place in the table, which has stars from 1000 on."""
    header = rf"\n +{kind} CSR write\|\s*(\d+) periodic images\n\s+Number\s+X\s+Y\s+Z\n"
    match = next(iter([*re.finditer(header, text)][::-1]), None)
    if match is None:
        raise InputError(
            f"{kind} matrix was not written in real space",
            where=path,
            expected=f"the table after `{kind} CSR write|`",
            remedy=f"add {kind}_CSR_WRITE with REAL_SPACE, as required_input does",
        )
    count = int(match.group(1))
    rows = [line.split() for line in text[match.end() : match.end() + 80 * count].splitlines()[:count]]
    try:
        cells = {n: (int(x), int(y), int(z)) for n, (_, x, y, z) in enumerate(rows, start=1)}
        wrong = [row for n, row in enumerate(rows, start=1) if row[0] not in (str(n), "***")]
        vectors = set(cells.values())
        closed = vectors == {(-x, -y, -z) for x, y, z in vectors}
        if wrong or len(vectors) != count or not closed or (0, 0, 0) not in vectors:
            raise ValueError(wrong[:1] or f"{len(vectors)} different vectors")
    except ValueError as error:
        expected = f"{count} vectors, each with its opposite"
        raise DataError("table of lattice vectors is damaged", where=path, found=error, expected=expected) from None
    return cells
