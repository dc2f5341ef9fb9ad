"""Pseudo-atomic orbitals in `.pao` files, and the valence charges of the pseudopotentials beside them (`.vps`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.radial import RadialShell

_VALENCE = re.compile(r"^\s*valence\.electron\s+(\S+)", re.MULTILINE)


def load_pao(symbol: str, folder: Path, orbitals: str) -> tuple[tuple[RadialShell, ...], float | None]:
    """Shells of one element and its valence electrons.

    :param folder: holds the `.pao` files and perhaps the `.vps` files, or has them in PAO/ and VPS/ below it.
    :param orbitals: name of file and shells, e.g. `C6.0-s2p2d1`.
    :raises InputError: the name is wrong or of another element, or the file is missing or too small for it.
    :raises DataError: a file is damaged.
    """
    name = parse_orbital_name(orbitals, f"orbitals of {symbol}")
    if name.element != symbol:
        raise InputError("orbitals of another element", where=f"orbitals of {symbol}", found=orbitals)
    if name.contracted:
        raise InputError(
            "contracted orbitals have no file of their own",
            where=f"orbitals of {symbol}",
            found=orbitals,
            expected="primitive orbitals as in C6.0-s2p2d1",
        )
    path = next((p for p in (folder / f"{name.file}.pao", folder / "PAO" / f"{name.file}.pao") if p.is_file()), None)
    if path is None:
        raise InputError("no such file of orbitals", where=folder, expected=f"{name.file}.pao, there or in PAO")
    text = path.read_text(encoding="utf-8", errors="replace")
    return read_pao(text, name.counts, path), _valence(symbol, folder, text)


def read_pao(text: str, counts: dict[int, int], where: object) -> tuple[RadialShell, ...]:
    """The first functions of each l.

    A block per l has the columns ln r, r, and one per function; they end at the radius in the file's name.

    :param counts: l -> number of functions.
    :raises InputError: there are fewer functions.
    :raises DataError: the text is no `.pao` file or is damaged.
    """
    if re.search(r"^\s*PAO\.Lmax\s", text, re.MULTILINE) is None:
        raise DataError("not a file of orbitals (.pao)", where=where, expected="PAO.Lmax")
    shells = []
    for l, count in counts.items():
        block = re.search(
            rf"<pseudo\.atomic\.orbitals\.L={l}\s*\n(.*?)pseudo\.atomic\.orbitals\.L={l}>", text, re.DOTALL
        )
        if block is None:
            raise InputError("no orbitals of this l", where=where, found=f"l = {l}")
        try:
            table = np.array([[float(word) for word in line.split()] for line in block.group(1).splitlines()])
        except ValueError as error:
            raise DataError("table of orbitals is damaged", where=f"{where}, l = {l}", found=error) from None
        if table.ndim != 2 or table.shape[1] < 3:
            raise DataError("table of orbitals is damaged", where=f"{where}, l = {l}", found=f"shape {table.shape}")
        if table.shape[1] < 2 + count:
            raise InputError(
                "not so many orbitals of this l", where=f"{where}, l = {l}", found=table.shape[1] - 2, expected=count
            )
        shells += [RadialShell(l, table[:, 1], table[:, 2 + n]) for n in range(count)]
    return tuple(shells)


def _valence(symbol: str, folder: Path, pao: str) -> float | None:
    """Valence electrons by the element's `.vps` files; if they differ, those for which the orbitals were made."""
    paths = sorted({*folder.glob(f"{symbol}_*.vps"), *folder.glob(f"VPS/{symbol}_*.vps")})
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    charges = {float(match.group(1)) for match in map(_VALENCE.search, texts) if match}
    if len(charges) == 1:
        return charges.pop()
    own = _VALENCE.search(pao)
    return float(own.group(1)) if own and (not charges or float(own.group(1)) in charges) else None


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
    :raises InputError: the name is not one of FILE-SHELLS.
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
    if element is None or element != match["element"]:
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
        raise DataError("not a file of orbitals (.pao)", where=where, expected=f"{key} and a number") from None


LETTERS = "spdfghi"

_NAME = re.compile(rf"(?P<file>[A-Z][a-z]?\d[^-\s]*)-(?P<shells>(?:[{LETTERS}]\d{{1,2}}(?:>\d{{1,2}})?)+)")


@dataclass(frozen=True)
class OrbitalName:
    """A file of radial functions and how many of each l are taken.

    :param file: name of the `.pao` file without its suffix, e.g. `C6.0`.
    :param counts: l -> number of shells.
    :param contracted: the shells are combinations of more radial functions (`s3>2`), which the run optimised.
    """

    file: str
    counts: dict[int, int]
    contracted: bool = False

    @property
    def element(self) -> str:
        """Element symbol with which the file's name begins."""
        match = re.match(r"[A-Z][a-z]?", self.file)
        assert match is not None
        return match.group()

    @property
    def shells(self) -> tuple[int, ...]:
        """l of each shell, in the order of the orbitals."""
        return tuple(l for l, count in self.counts.items() for _ in range(count))


def parse_orbital_name(text: str, where: object = None) -> OrbitalName:
    """`C6.0-s2p2d1` -> file C6.0, two s, two p and one d shell.

    :raises InputError: not such a name.
    """
    match = _NAME.fullmatch(text)
    found = re.findall(rf"([{LETTERS}])(\d+)(?:>(\d+))?", match["shells"]) if match else []
    ls = [LETTERS.index(letter) for letter, _, _ in found]
    if match is None or ls != sorted(set(ls)) or any(int(kept or full) == 0 for _, full, kept in found):
        raise InputError(
            "basis name is not understood", where=where, found=repr(text), expected="FILE-SHELLS as in C6.0-s2p2d1"
        )
    counts = {l: int(kept or full) for l, (_, full, kept) in zip(ls, found, strict=True)}
    return OrbitalName(match["file"], counts, any(kept for _, _, kept in found))
