"""What a file of numerical orbitals says of itself, whichever code it is of."""

from __future__ import annotations

from dataclasses import dataclass

from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.orbitals.ion import read_ion, read_ion_xml
from aiida_deeph.engine.orbitals.orb import read_orb
from aiida_deeph.engine.orbitals.pao import describe_pao
from aiida_deeph.engine.orbitals.radial import RadialShell
from aiida_deeph.engine.orbitals.suffix import SUFFIXES, suffix_of


@dataclass(frozen=True)
class OrbitalsDescription:
    """Head of one file.

    :param code: whose orbitals they are.
    :param name: of the file without its ending, as bases are called after it.
    :param valence: electrons of the pseudo-atom; None where the file does not say it.
    :param radius: at which the last of them ends, Bohr.
    :param counts: functions of each l = 0, 1, ...
    """

    code: str
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
    suffix = suffix_of(file_name)
    code, name = SUFFIXES[suffix], file_name.removesuffix(suffix)
    if code == "openmx":
        pao = describe_pao(text, file_name)
        return OrbitalsDescription(code, pao.name, pao.element, pao.valence, pao.radius, pao.counts)
    valence: float | None = None
    if code == "abacus":
        element, shells = read_orb(text, file_name)
    else:
        element, valence, shells = (read_ion_xml if suffix == ".ion.xml" else read_ion)(text, file_name)
    if not name.startswith(element):
        raise DataError(
            "orbitals of another element than the file's name says", where=file_name, found=element, expected=name
        )
    return OrbitalsDescription(code, name, element, valence, _radius(shells), _counts(shells))


def _radius(shells: tuple[RadialShell, ...]) -> float:
    return max(float(shell.r[-1]) for shell in shells)


def _counts(shells: tuple[RadialShell, ...]) -> tuple[int, ...]:
    ls = [shell.l for shell in shells]
    return tuple(ls.count(l) for l in range(max(ls) + 1))
