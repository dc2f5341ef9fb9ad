"""CP2K's main output: convergence, energies, basis, lattice vectors of the matrices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.units import HARTREE_TO_EV

# Files beyond this are not looked at when the main output is searched for, bytes.
LARGEST_OUTPUT = 200_000_000

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"


@dataclass(frozen=True)
class MainOutput:
    """What the main output of one run says.

    :param input_file: name of the input file, relative to the run's folder.
    :param symbols: element of each atom.
    :param kinds: number of the kind of each atom.
    :param shells: number of a kind -> l of each shell in CP2K's order.
    :param n_spins: 1, or 2 for an unrestricted calculation.
    :param energy: eV.
    :param fermi_energy: eV; None if it is not printed (no smearing).
    :param cells: `KS` or `S` -> number of a matrix file -> R.
    """

    path: Path
    version: str
    project: str
    input_file: str
    converged: bool
    n_cycles: int
    symbols: tuple[str, ...]
    kinds: tuple[int, ...]
    shells: Mapping[int, tuple[int, ...]]
    n_spins: int
    n_electrons: float
    energy: float | None
    fermi_energy: float | None
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

    electrons = [float(n) for n in re.findall(r"Number of electrons:\s+(\d+)", text)]
    n_spins = int(find(r"DFT\| Number of spin states\s+(\d)") or 1)
    energy = find(rf"ENERGY\| Total FORCE_EVAL \( QS \) energy \[.*?\]:?\s+({_NUMBER})", required=False)
    fermi = find(rf"Fermi energy:\s+({_NUMBER})", required=False)
    steps = find(r"SCF run converged in\s+(\d+) steps", required=False)
    atoms = re.findall(
        r"^\s+\d+\s+(\d+)\s+([A-Z][a-z]?)\s+\d+\s+\S+\s+\S+\s+\S+\s+\S+\s+\S+$", _coordinates(text), re.MULTILINE
    )
    if not atoms or not electrons:
        raise DataError("CP2K output is incomplete", where=path, expected="atomic coordinates and numbers of electrons")
    return MainOutput(
        path=path,
        version=(find(r"CP2K\| version string:\s+(.*\S)") or "").replace("CP2K version ", ""),
        project=find(r"GLOBAL\| Project name\s+(\S+)") or "",
        input_file=find(r"CP2K\| Input file name\s+(\S+)") or "",
        converged=steps is not None and "SCF run NOT converged" not in text,
        n_cycles=int(steps or 0),
        symbols=tuple(symbol for _, symbol in atoms),
        kinds=tuple(int(kind) for kind, _ in atoms),
        shells=_shells(text, path),
        n_spins=n_spins,
        n_electrons=sum(electrons[-n_spins:]),
        energy=float(energy) * HARTREE_TO_EV if energy else None,
        fermi_energy=float(fermi) * HARTREE_TO_EV if fermi else None,
        cells={kind: _cells(text, kind, path) for kind in ("KS", "S")},
    )


def _coordinates(text: str) -> str:
    begin = text.rfind("MODULE QUICKSTEP")
    end = text.find("SCF PARAMETERS", begin)
    return text[begin:end] if begin >= 0 else ""


def _shells(text: str, path: Path) -> dict[int, tuple[int, ...]]:
    """l of each shell from the tables `Set Shell n l Exponent Coefficient` of the basis sets."""
    begin = text.find("BASIS SET INFORMATION (Unnormalised")
    end = text.find("ATOMIC KIND INFORMATION", begin)
    if begin < 0:
        raise InputError(
            "shells of the basis are unknown",
            where=path,
            expected="`BASIS SET INFORMATION`",
            remedy="set FORCE_EVAL / SUBSYS / PRINT / KINDS / BASIS_SET, as required_input does",
        )
    shells: dict[int, tuple[int, ...]] = {}
    for kind in re.split(r"\n\s+(?=\d+\. Atomic kind:)", text[begin:end])[1:]:
        number = int(kind.split(".")[0])
        # Only the orbital basis counts; auxiliary sets of the same kind come after it.
        table = re.split(r"GTO basis set information for", kind)[1:2]
        found = re.findall(rf"^\s+\d+\s+\d+\s+\d+\s+(\d+)\s+{_NUMBER}\s+{_NUMBER}$", "".join(table), re.MULTILINE)
        if not found:
            raise DataError("basis table is damaged", where=path, found=f"kind {number}", expected="its shells")
        shells[number] = tuple(int(l) for l in found)
    return shells


def _cells(text: str, kind: str, path: Path) -> dict[int, tuple[int, int, int]]:
    header = rf"\n +{kind} CSR write\|\s+(\d+) periodic images\n\s+Number\s+X\s+Y\s+Z\n"
    match = next(iter([*re.finditer(header, text)][::-1]), None)
    if match is None:
        raise InputError(
            f"{kind} matrix was not written in real space",
            where=path,
            expected=f"the table after `{kind} CSR write|`",
            remedy=f"add {kind}_CSR_WRITE with REAL_SPACE, as required_input does",
        )
    lines = text[match.end() :].splitlines()[: int(match.group(1))]
    try:
        rows = [tuple(int(word) for word in line.split()) for line in lines]
        return {n: (x, y, z) for n, x, y, z in rows}
    except ValueError:
        raise DataError("table of lattice vectors is damaged", where=path, found=lines[-1:]) from None
