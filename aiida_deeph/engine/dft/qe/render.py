"""Input files of pw.x and pw2bgw.x, written from the objects of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from aiida_deeph.engine.dft.qe.code import POTENTIAL_FILE, PREFIX, PSEUDO_FOLDER
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

Namelists = Mapping[str, Mapping[str, Any]]

NAMELISTS = ("CONTROL", "SYSTEM", "ELECTRONS")
# What the job itself decides, by namelist.
DECIDED: Mapping[str, tuple[str, ...]] = {
    "CONTROL": ("calculation", "prefix", "outdir", "pseudo_dir", "restart_mode", "wfcdir", "disk_io", "nstep"),
    "SYSTEM": ("ibrav", "celldm", "a", "b", "c", "cosab", "cosac", "cosbc", "nat", "ntyp", "nosym"),
    "ELECTRONS": ("startingpot",),
}
# What HPRO cannot project, and what it means.
UNSUPPORTED: Mapping[str, str] = {
    "nspin": "magnets",
    "starting_magnetization": "magnets",
    "tot_magnetization": "magnets",
    "lda_plus_u": "Hubbard corrections",
    "hubbard_u": "Hubbard corrections",
    "input_dft": "another functional than that of the pseudopotentials",
    "lelfield": "electric fields",
    "tefield": "electric fields",
}


def checked_namelists(given: Mapping[str, Any], where: str = "parameters") -> dict[str, dict[str, Any]]:
    """The user's namelists, names in the usual case.

    :raises InputError: an unknown namelist, something that the job decides, something that HPRO cannot project, or a
        value that is none of pw.x's.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in NAMELISTS}
    for name, values in given.items():
        if name.upper() not in NAMELISTS or not isinstance(values, Mapping):
            raise InputError("unknown namelist", where=where, found=name, expected=f"one of {', '.join(NAMELISTS)}")
        for key, value in values.items():
            here, bare = f"{where}.{name.upper()}.{key}", key.lower().partition("(")[0].strip()
            if bare in DECIDED[name.upper()]:
                raise InputError("field is not the user's", where=here, expected="it to be decided by the job")
            if bare in UNSUPPORTED:
                raise InputError(
                    "not supported", where=here, found=UNSUPPORTED[bare], remedy=f"leave {key} out or use another code"
                )
            fortran(value, here)
            found[name.upper()][key.lower()] = value
    if bool(found["SYSTEM"].get("noncolin")) != bool(found["SYSTEM"].get("lspinorb")):
        raise InputError(
            "not supported",
            where=f"{where}.SYSTEM",
            found="one of noncolin and lspinorb",
            expected="both for spin-orbit coupling, or none",
        )
    if "ecutwfc" not in found["SYSTEM"]:
        raise InputError("cutoff is missing", where=f"{where}.SYSTEM", expected="ecutwfc, in Rydberg")
    return found


@dataclass(frozen=True)
class PwRun:
    """All that an input of pw.x says.

    :param namelists: what `checked_namelists` returned.
    :param pseudos: element -> file of its pseudopotential.
    :param kmesh: divisions of the Gamma-centred mesh of an SCF; or else
    :param kpoints: fractional points of a run of bands from the density of an earlier SCF, shape (n_k, 3).
    """

    structure: Structure
    namelists: Namelists
    pseudos: Mapping[str, str]
    kmesh: tuple[int, int, int] | None = None
    kpoints: NDArray[np.float64] | None = None


def pw_input(run: PwRun) -> str:
    """Text of the input file.

    There is no symmetry: every k-point of the mesh but those that time reversal relates is computed, so that the
    density of a perturbed cell and of its parent are computed alike. Atoms are grouped by element, for HPRO would
    otherwise mistake one element for another.

    :raises InputError: an element without pseudopotential.
    """
    structure = run.structure.permuted(grouping(run.structure))
    missing = [symbol for symbol in structure.elements if symbol not in run.pseudos]
    if missing:
        raise InputError("element without pseudopotential", where="pseudos", found=", ".join(missing))
    own = {
        "CONTROL": {
            "calculation": "scf" if run.kmesh is not None else "bands",
            "prefix": PREFIX,
            "outdir": "./out/",
            "pseudo_dir": f"./{PSEUDO_FOLDER}/",
            "disk_io": "low",
        },
        "SYSTEM": {"ibrav": 0, "nat": len(structure), "ntyp": len(structure.elements), "nosym": True},
        "ELECTRONS": {},
    }
    lines = []
    for name in NAMELISTS:
        lines.append(f"&{name}")
        for key, value in {**own[name], **run.namelists.get(name, {})}.items():
            lines.append(f"  {key} = {fortran(value, f'{name}.{key}')}")
        lines.append("/")
    lines.append("ATOMIC_SPECIES")
    lines += [f"{s} {atomic_masses[atomic_numbers[s]]:.6f} {run.pseudos[s]}" for s in structure.elements]
    lines.append("CELL_PARAMETERS angstrom")
    lines += [_row(vector) for vector in structure.cell]
    lines.append("ATOMIC_POSITIONS angstrom")
    lines += [f"{s} {_row(x)}" for s, x in zip(structure.symbols, structure.positions, strict=True)]
    return "\n".join([*lines, *_kpoints(run), ""])


def grouping(structure: Structure) -> NDArray[np.int64]:
    """Atoms by element in the order of first appearance: atom `order[n]` comes n-th."""
    rank = {symbol: n for n, symbol in enumerate(structure.elements)}
    order: NDArray[np.int64] = np.argsort([rank[symbol] for symbol in structure.symbols], kind="stable")
    return order


def pw2bgw_input() -> str:
    """Text of pw2bgw.x's input: the self-consistent potential alone."""
    fields = {
        "prefix": PREFIX,
        "outdir": "./out/",
        "real_or_complex": 2,
        "wfng_flag": False,
        "vscg_flag": True,
        "vscg_file": POTENTIAL_FILE,
    }
    return "\n".join(["&INPUT_PW2BGW", *(f"  {key} = {fortran(value, key)}" for key, value in fields.items()), "/", ""])


def fortran(value: Any, where: str) -> str:
    """A value as Fortran's namelists have it.

    :raises InputError: it is neither number, text nor truth.
    """
    if isinstance(value, bool):
        return ".true." if value else ".false."
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and np.isfinite(value):
        return f"{value!r}".replace("e", "d") if "e" in repr(value) else repr(value)
    if isinstance(value, str) and not set(value) & set("'\n\r"):
        return f"'{value}'"
    raise InputError("value is none of Fortran's", where=where, found=repr(value), expected="number, text or truth")


def _kpoints(run: PwRun) -> list[str]:
    if run.kmesh is not None:
        return ["K_POINTS automatic", " ".join(map(str, run.kmesh)) + " 0 0 0"]
    points: Sequence[Any] = () if run.kpoints is None else run.kpoints
    return ["K_POINTS crystal", str(len(points)), *(f"{_row(point)} 1.0" for point in points)]


def _row(values: Any) -> str:
    return " ".join(f"{float(x): .12f}" for x in values)
