"""ABACUS's `running_*.log`: what a run says of itself, complete or cut off."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.abacus.code import RECORD
from aiida_deeph.engine.errors import DataError, InputError

SCF_LOG = "running_scf.log"
LOGS = (SCF_LOG, "running_get_S.log", "running_get_s.log")

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[Ee][-+]?\d+)?"
_VERSION = re.compile(r"^\s*(?:WELCOME TO\s+)?ABACUS\s+v?(\d[\w.]*)", re.MULTILINE)
_CONVERGED = re.compile(r"charge density convergence is achieved|#SCF IS CONVERGED#")
_NOT_CONVERGED = re.compile(r"convergence has (?:not|NOT) been achieved|#SCF IS NOT CONVERGED#", re.IGNORECASE)
_ENERGY = re.compile(rf"^\s*E_(\S+)\s+({_NUMBER})\s+({_NUMBER})\s*$", re.MULTILINE)
# A residual stands in front of the energies of its step.
_RESIDUAL = re.compile(rf"^\s*(?:Density error is|#?DRHO\S*\s*(?:IS|=)?)\s*({_NUMBER})", re.MULTILINE | re.IGNORECASE)
_MOMENT = re.compile(rf"^\s*total magnetism \(Bohr mag/cell\)\s*=?((?:\s+{_NUMBER})+)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class AbacusOutput:
    """Of one run; energies in eV.

    :param version: None if the log does not begin as ABACUS's.
    :param converged: of the SCF; None before its end, or without one.
    :param finished: ABACUS's last lines are there.
    :param scf_energies: Kohn-Sham energy after each SCF step.
    :param scf_residuals: error of the density in each SCF step.
    :param energies: contributions to the energy of the last step by ABACUS's names.
    :param forces: in the order of ABACUS's atoms, shape (n_atoms, 3), eV/Angstrom.
    :param moment: spin moment of the cell, z or (x, y, z), Bohr magnetons; None without spin.
    :param shells: label of an atom type -> l of each shell in ABACUS's order.
    :param counts: label of an atom type -> its atoms.
    :param lattice: vectors in rows, in units of the lattice constant, six digits; None if they are not there.
    :param coordinates: to which R refers: wrapped, fractional or in lattice constants, shape (n_atoms, 3); None if
        the log has no table of them.
    :param fractional: whether `coordinates` are.
    :param functionals: of each pseudopotential.
    :param pseudopotentials: file of each atom type.
    """

    version: str | None
    converged: bool | None
    finished: bool
    scf_energies: tuple[float, ...]
    scf_residuals: tuple[float, ...]
    energies: dict[str, float] = field(default_factory=dict)
    energy: float | None = None
    fermi_energy: float | None = None
    n_electrons: float | None = None
    forces: tuple[tuple[float, ...], ...] = ()
    moment: tuple[float, ...] | None = None
    shells: dict[str, tuple[int, ...]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lattice: NDArray[np.float64] | None = None
    coordinates: NDArray[np.float64] | None = None
    fractional: bool = True
    functionals: tuple[str, ...] = ()
    pseudopotentials: tuple[str, ...] = ()


def parse_output(text: str) -> AbacusOutput:
    """Read the log of a run, complete or not."""
    version = _VERSION.search(text)
    found = _ENERGY.findall(text)
    energies = {_plain(name): float(ev) for name, _, ev in found}
    fermi = _last(rf"^\s*EFERMI\s*=\s*({_NUMBER})", text)
    # `E_Fermi  Ry  eV` of every step, then `EFERMI = eV`.
    of_steps = energies.pop("fermi", None)
    energy = _last(rf"!\s*FINAL_ETOT_IS\s+({_NUMBER})\s*eV", text)
    moments = _MOMENT.findall(text)
    shells, counts = _types(text)
    fractional, coordinates = _coordinates(text)
    return AbacusOutput(
        version=version[1] if version else None,
        converged=True if _CONVERGED.search(text) else (False if _NOT_CONVERGED.search(text) else None),
        finished=re.search(r"^\s*Total\s+Time\s*:", text, re.MULTILINE) is not None,
        scf_energies=tuple(float(ev) for name, _, ev in found if name == "KohnSham"),
        scf_residuals=tuple(float(x) for x in _RESIDUAL.findall(text)),
        energies=energies,
        energy=energies.get("kohnsham") if energy is None else energy,
        fermi_energy=of_steps if fermi is None else fermi,
        n_electrons=_last(rf"(?i:autoset (?:the )?number of electrons:?)\s*=\s*({_NUMBER})", text),
        forces=_forces(text),
        moment=tuple(float(x) for x in moments[-1].split()) if moments else None,
        shells=shells,
        counts=counts,
        lattice=_lattice(text),
        coordinates=coordinates,
        fractional=fractional,
        functionals=tuple(re.findall(r"^\s*exchange-correlation functional = (\S+)", text, re.MULTILINE)),
        pseudopotentials=tuple(re.findall(r"^\s*Read in pseudopotential file is (\S+)", text, re.MULTILINE)),
    )


def find_output(directory: Path) -> Path:
    """The log of an SCF or of a `get_S`, in its folder or in its folder's `OUT.SUFFIX`.

    :raises InputError: there is none, or there are several.
    """
    folders = [directory, *sorted(path for path in directory.glob("OUT.*") if path.is_dir())]
    found = [folder / name for folder in folders for name in LOGS if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(
            "several runs in one folder",
            where=directory,
            found=", ".join(str(path.relative_to(directory)) for path in found),
            expected="one",
        )
    if not found:
        others = sorted(path.name for folder in folders for path in folder.glob("running_*.log"))
        raise InputError(
            "no SCF of ABACUS here",
            where=directory,
            found=", ".join(others) or None,
            expected=f"{SCF_LOG} in this folder or in OUT.SUFFIX",
            remedy="label fixed geometries with calculation scf",
        )
    return found[0]


def read_output(path: Path) -> AbacusOutput:
    """Read the log of an SCF or of a `get_S` that came to its end.

    :raises InputError: not a log of ABACUS, or of an unknown version.
    :raises DataError: the log lacks the basis, or the SCF did not converge.
    """
    output = parse_output(path.read_text(encoding="utf-8", errors="replace"))
    if output.version is None:
        raise InputError("not a log of ABACUS", where=path, expected="`ABACUS v3..`")
    RECORD.release(output.version, path)
    if not output.shells:
        raise DataError("log is incomplete", where=path, expected="`READING ATOM TYPE`")
    if not all(output.shells.values()):
        raise DataError("basis is missing", where=path, expected="`L=0, number of zeta` of each atom type")
    if path.name == SCF_LOG and not output.converged:
        raise DataError(
            "density did not converge",
            where=path,
            found=f"{len(output.scf_energies)} steps",
            expected="`charge density convergence is achieved`",
            remedy="raise scf_nmax or change the mixing",
        )
    return output


def _last(pattern: str, text: str) -> float | None:
    found = re.findall(pattern, text, re.MULTILINE)
    return float(found[-1]) if found else None


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _types(text: str) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """l of each shell, and number of atoms, of each type of atom by its label."""
    shells, counts = {}, {}
    for part in re.split(r"READING ATOM TYPE", text)[1:]:
        label = re.search(r"[Aa]tom label\s*=\s*(\S+)", part)
        if label is None:
            continue
        zetas = re.findall(r"L=(\d), number of zeta\s*=\s*(\d{1,2})\b", part)
        shells[label[1]] = tuple(int(l) for l, count in zetas for _ in range(int(count)))
        atoms = re.search(r"number of atom for this type\s*=\s*(\d+)", part)
        if atoms is not None:
            counts[label[1]] = int(atoms[1])
    return shells, counts


def _lattice(text: str) -> NDArray[np.float64] | None:
    row = rf"\s*({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s*\n"
    match = re.search(rf"Lattice vectors: \(Cartesian coordinate: in unit of a_?0\)[ \t]*\n{3 * row}", text)
    return np.array(match.groups(), dtype=np.float64).reshape(3, 3) if match else None


def _coordinates(text: str) -> tuple[bool, NDArray[np.float64] | None]:
    """Whether they are fractional (or in lattice constants), and the table of the atoms."""
    for kind in "dc":
        rows = re.findall(rf"^\s*tau{kind}_\S+\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})", text, re.MULTILINE)
        if rows:
            return kind == "d", np.array(rows, dtype=np.float64)
    return True, None


def _forces(text: str) -> tuple[tuple[float, ...], ...]:
    """Rows `label x y z` below the last title, between lines of dashes."""
    _, title, below = text.rpartition("TOTAL-FORCE (eV/Angstrom)")
    rows: list[tuple[float, ...]] = []
    for line in below.splitlines()[1:] if title else ():
        match = re.fullmatch(rf"\s*[A-Z][a-z]?\S*\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s*", line)
        if match is not None:
            rows.append(tuple(float(x) for x in match.groups()))
        elif rows:
            break
    return tuple(rows)
