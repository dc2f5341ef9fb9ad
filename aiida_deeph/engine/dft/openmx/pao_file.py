"""What a `.pao` file of OpenMX says of itself, without its tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ase.data import chemical_symbols

from aiida_deeph.engine.dft.openmx.orbital_name import LETTERS, parse_orbital_name
from aiida_deeph.engine.errors import DataError, InputError

_FILE_NAME = re.compile(r"(?P<element>[A-Z][a-z]?)\d[^-\s/]*\.pao")


@dataclass(frozen=True)
class PaoDescription:
    """Head of one file.

    :param name: of the file without its suffix, as bases are called after it: `C6.0` of `C6.0-s2p2d1`.
    :param valence: electrons of the pseudo-atom that the orbitals were made for.
    :param radius: at which they end, Bohr.
    :param counts: functions of each l = 0, 1, ...
    """

    name: str
    element: str
    valence: float
    radius: float
    counts: tuple[int, ...]

    def check_shells(self, shells: str) -> None:
        """Refuse a specification such as `s2p2d1` that the file cannot fill.

        :raises InputError: it is no specification, or asks for more functions than there are.
        """
        wanted = parse_orbital_name(f"{self.name}-{shells}", f"basis of {self.element}")
        for l, count in wanted.counts.items():
            known = self.counts[l] if l < len(self.counts) else 0
            if count > known:
                raise InputError(
                    "not so many orbitals of this l",
                    where=f"basis of {self.element}",
                    found=f"{LETTERS[l]}{count} of {shells}",
                    expected=f"at most {known} in {self.name}.pao",
                )


def describe_pao(text: str, file_name: str) -> PaoDescription:
    """Read the head of a file.

    :param file_name: its name, which begins with the element's symbol.
    :raises InputError: the name is not one of OpenMX's.
    :raises DataError: the text is no `.pao` file, is cut off, or is of another element than its name says.
    """
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        raise InputError(
            "not a name of a file of orbitals", found=file_name, expected="ELEMENT, RADIUS and .pao as in C6.0.pao"
        )
    number, valence, radius = (_value(text, key, file_name) for key in ("AtomSpecies", "valence.electron", _RADIUS))
    l_max, count = (int(_value(text, key, file_name)) for key in ("PAO.Lmax", "PAO.Mul"))
    element = chemical_symbols[int(number)] if number.is_integer() and 0 < number < len(chemical_symbols) else None
    if element != match["element"]:
        raise DataError(
            "orbitals of another element than the file's name says",
            where=file_name,
            found=f"AtomSpecies {number:g}",
            expected=match["element"],
        )
    for l in range(l_max + 1):
        if f"pseudo.atomic.orbitals.L={l}>" not in text:
            raise DataError("file of orbitals is cut off", where=file_name, expected=f"pseudo.atomic.orbitals.L={l}>")
    return PaoDescription(file_name.removesuffix(".pao"), element, valence, radius, (count,) * (l_max + 1))


_RADIUS = "radial.cutoff.pao"


def _value(text: str, key: str, where: str) -> float:
    match = re.search(rf"^\s*{re.escape(key)}\s+([-+.\deE]+)", text, re.MULTILINE)
    try:
        return float(match[1])  # type: ignore[index]
    except (TypeError, ValueError):
        raise DataError("not a file of OpenMX's orbitals", where=where, expected=f"{key} and a number") from None
