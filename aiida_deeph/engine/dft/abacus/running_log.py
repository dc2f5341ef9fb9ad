"""ABACUS's `running_*.log`: version, basis, convergence, energies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.abacus.code import RECORD
from aiida_deeph.engine.errors import DataError, InputError

LOGS = ("running_scf.log", "running_get_S.log", "running_get_s.log")

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[Ee][-+]?\d+)?"


@dataclass(frozen=True)
class RunningLog:
    """What the log of one run says.

    :param shells: label of an atom type -> l of each shell in ABACUS's order.
    :param converged: of the SCF; None in a run that has none.
    :param n_cycles: SCF steps.
    :param n_electrons: in the cell; None if it is not printed.
    :param fermi_energy: eV; None if it is not printed.
    :param energy: eV; None if it is not printed.
    :param coordinates: to which R refers: wrapped, fractional or in lattice constants, shape (n_atoms, 3); None if
        the log has no table of them.
    :param fractional: whether `coordinates` are.
    """

    path: Path
    version: str
    shells: dict[str, tuple[int, ...]]
    converged: bool | None
    n_cycles: int
    n_electrons: float | None
    fermi_energy: float | None
    energy: float | None
    coordinates: NDArray[np.float64] | None
    fractional: bool


def find_output(directory: Path) -> Path:
    """The log of a run, in its folder or in its folder's `OUT.SUFFIX`.

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
            expected=f"{LOGS[0]} in this folder or in OUT.SUFFIX",
            remedy="label fixed geometries with calculation scf",
        )
    return found[0]


def read_running_log(path: Path) -> RunningLog:
    """Read the log of an SCF or of a `get_S`.

    :raises InputError: not a log of ABACUS, or of an unknown version.
    :raises DataError: the log lacks the basis.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    version = re.search(r"^\s*ABACUS\s+v?(\d[\w.]*)", text, re.MULTILINE)
    if version is None:
        raise InputError("not a log of ABACUS", where=path, expected="`ABACUS v3..`")
    RECORD.release(version.group(1), path)
    shells: dict[str, tuple[int, ...]] = {}
    types = re.split(r"READING ATOM TYPE", text)[1:]
    for part in types:
        label = re.search(r"[Aa]tom label\s*=\s*(\S+)", part)
        counts = re.findall(r"L=(\d+), number of zeta\s*=\s*(\d+)", part)
        if label is None or not counts:
            raise DataError("basis is missing", where=path, expected="`L=0, number of zeta` of each atom type")
        shells[label.group(1)] = tuple(int(l) for l, count in counts for _ in range(int(count)))
    if not shells:
        raise DataError("log is incomplete", where=path, expected="`READING ATOM TYPE`")
    done = re.search(r"charge density convergence is achieved|#SCF IS CONVERGED#", text) is not None
    fermi = re.findall(rf"^\s*E_?F(?:ERMI|ermi)\s*=?\s*({_NUMBER})(?:\s+({_NUMBER}))?", text, re.MULTILINE)
    kind, coordinates = _coordinates(text)
    return RunningLog(
        path=path,
        version=version.group(1),
        shells=shells,
        converged=done if path.name == LOGS[0] else None,
        n_cycles=len(re.findall(r"ELEC\s*=\s*\d+|#ELEC ITER#", text)),
        n_electrons=_last(rf"(?i:autoset (?:the )?number of electrons:?)\s*=\s*({_NUMBER})", text),
        # `E_Fermi  Ry  eV` of every step, then `EFERMI = eV`.
        fermi_energy=float(fermi[-1][1] or fermi[-1][0]) if fermi else None,
        energy=_last(rf"!\s*FINAL_ETOT_IS\s+({_NUMBER})\s*eV", text),
        coordinates=coordinates,
        fractional=kind == "d",
    )


def _last(pattern: str, text: str) -> float | None:
    found = re.findall(pattern, text)
    return float(found[-1]) if found else None


def _coordinates(text: str) -> tuple[str, NDArray[np.float64] | None]:
    """`d` (fractional) or `c` (in lattice constants) and the table of the atoms."""
    for kind in "dc":
        rows = re.findall(rf"^\s*tau{kind}_\S+\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})", text, re.MULTILINE)
        if rows:
            return kind, np.array(rows, dtype=np.float64)
    return "d", None
