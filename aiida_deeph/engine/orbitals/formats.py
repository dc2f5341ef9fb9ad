"""Formats of files of numerical orbitals, and what such a file says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.ion import load_ion, read_ion, read_ion_xml
from aiida_deeph.engine.orbitals.orb import load_orb, read_orb
from aiida_deeph.engine.orbitals.pao import describe_pao, load_pao
from aiida_deeph.engine.orbitals.radial import RadialShell
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

# Of element, folder and name of the orbitals: shells in the order of the orbitals, valence electrons.
Loader = Callable[..., tuple[tuple[RadialShell, ...], float | None]]


@dataclass(frozen=True)
class OrbitalFormat:
    """One kind of files.

    :param suffixes: endings of their names; of a file that is there in several, the first is taken.
    :param bohr: of the programs that make such files, Angstrom.
    :param named: a file may hold more orbitals than are taken, so that a name has to say it.
    """

    name: str
    suffixes: tuple[str, ...]
    load: Loader
    bohr: float = BOHR_TO_ANGSTROM
    named: bool = False


FORMATS: Mapping[str, OrbitalFormat] = {
    one.name: one
    for one in (
        OrbitalFormat("pao", (".pao",), load_pao, 0.529177249, named=True),
        # Up to version 4 of the program; 5 has another Bohr: 4e-7 of a distance.
        OrbitalFormat("ion", (".ion.xml", ".ion"), load_ion, 0.529177),
        OrbitalFormat("orb", (".orb",), load_orb),
    )
}
SUFFIXES = tuple(suffix for one in FORMATS.values() for suffix in one.suffixes)


def suffix_of(file_name: str) -> str:
    """The ending of a file of orbitals.

    :raises InputError: it is none.
    """
    suffix = next((one for one in SUFFIXES if file_name.endswith(one)), None)
    if suffix is None or len(suffix) == len(file_name):
        raise InputError(
            "not a name of a file of orbitals", found=file_name, expected=f"one that ends in {', '.join(SUFFIXES)}"
        )
    return suffix


def format_of(file_name: str) -> str:
    """The format of a file of orbitals by its name.

    :raises InputError: it is none.
    """
    suffix = suffix_of(file_name)
    return next(one.name for one in FORMATS.values() if suffix in one.suffixes)


@dataclass(frozen=True)
class OrbitalsDescription:
    """Head of one file.

    :param format: key of `FORMATS`.
    :param name: of the file without its ending, as bases are called after it.
    :param valence: electrons of the pseudo-atom; None where the file does not say it.
    :param radius: at which the last of them ends, Bohr.
    :param counts: functions of each l = 0, 1, ...
    """

    format: str
    name: str
    element: str
    valence: float | None
    radius: float
    counts: tuple[int, ...]


def describe_orbitals(text: str, file_name: str) -> OrbitalsDescription:
    """Read a file.

    :raises InputError: its name is not one of such files.
    :raises DataError: it is no such file, or is damaged.
    """
    kind, suffix = format_of(file_name), suffix_of(file_name)
    if kind == "pao":
        pao = describe_pao(text, file_name)
        return OrbitalsDescription(kind, pao.name, pao.element, pao.valence, pao.radius, pao.counts)
    valence: float | None = None
    if kind == "orb":
        element, shells = read_orb(text, file_name)
    else:
        element, valence, shells = (read_ion_xml if suffix == ".ion.xml" else read_ion)(text, file_name)
    name = file_name.removesuffix(suffix)
    if not name.startswith(element):
        raise DataError(
            "orbitals of another element than the file's name says", where=file_name, found=element, expected=name
        )
    ls = [shell.l for shell in shells]
    radius = max(float(shell.r[-1]) for shell in shells)
    return OrbitalsDescription(kind, name, element, valence, radius, tuple(ls.count(l) for l in range(max(ls) + 1)))
