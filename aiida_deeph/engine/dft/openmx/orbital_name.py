"""OpenMX's names of pseudo-atomic bases, as in `C6.0-s2p2d1`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiida_deeph.engine.errors import InputError

LETTERS = "spdfghi"

_NAME = re.compile(rf"(?P<file>[A-Z][a-z]?\d[^-\s]*)-(?P<shells>(?:[{LETTERS}]\d+(?:>\d+)?)+)")


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
