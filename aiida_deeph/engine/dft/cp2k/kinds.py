"""What CP2K prints of its kinds of atoms: basis sets with their Gaussians, and pseudopotentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.gaussian import GaussianShells

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_SHELL = re.compile(rf"^\s+\d+\s+\d+\s+\d+\s+(\d)((?:\s+{_NUMBER}\s+{_NUMBER}\n)+)", re.MULTILINE)
_POTENTIAL = re.compile(r"Potential information for +(\S+)\n(.*?)(?=\n\s+\d+\. Atomic kind:|\n [A-Z]{4}|\Z)", re.DOTALL)


@dataclass(frozen=True)
class PrintedKind:
    """One kind.

    :param name: of the kind.
    :param basis: name of its orbital basis set.
    :param basis_digest: of the numbers of the basis set.
    :param shells: in CP2K's order, one shell each.
    :param potential: name of its pseudopotential; None if it is not printed.
    :param potential_digest: of its numbers.
    """

    name: str
    basis: str
    basis_digest: str
    shells: tuple[GaussianShells, ...]
    potential: str | None = None
    potential_digest: str | None = None


def printed_kinds(text: str, path: Path) -> Mapping[int, PrintedKind]:
    """Number of each kind -> what is printed of it; shells from the tables `Set Shell n l Exponent Coefficient`.

    :raises InputError: the basis sets were not printed.
    :raises DataError: a table is damaged.
    """
    begin = text.find("BASIS SET INFORMATION (Unnormalised")
    end = text.find("ATOMIC KIND INFORMATION", begin)
    if begin < 0:
        raise InputError(
            "shells of the basis are unknown",
            where=path,
            expected="`BASIS SET INFORMATION`",
            remedy="set FORCE_EVAL / SUBSYS / PRINT / KINDS / BASIS_SET, as required_input does",
        )
    potentials = {number: _POTENTIAL.search(one) for number, _, one in _by_kind(text[end:] if end > 0 else "")}
    kinds: dict[int, PrintedKind] = {}
    for number, name, one in _by_kind(text[begin:end]):
        # Only the orbital basis counts; auxiliary sets of the same kind come after it.
        table = "".join(re.split(r"GTO basis set information for", one)[1:2])
        found = [_shells(match) for match in _SHELL.finditer(table + "\n")]
        if not found:
            raise DataError("basis table is damaged", where=path, found=f"kind {number}", expected="its shells")
        potential = potentials.get(number)
        kinds[number] = PrintedKind(
            name,
            table.split(maxsplit=1)[0],
            _digest(table.partition("\n")[2]),
            tuple(found),
            potential[1] if potential else None,
            _digest(potential[2]) if potential else None,
        )
    return kinds


def _by_kind(text: str) -> list[tuple[int, str, str]]:
    """Number, name and text of each kind."""
    parts = re.split(r"\n\s+(?=\d+\. Atomic kind:)", text)[1:]
    heads = [re.match(r"(\d+)\. Atomic kind: (\S*)", part) for part in parts]
    return [(int(head[1]), head[2], part) for head, part in zip(heads, parts, strict=True) if head]


def _shells(match: re.Match[str]) -> GaussianShells:
    """One shell: its coefficients are those of functions r^l exp(-a r^2) without a norm."""
    rows = np.array(re.sub("[Dd]", "E", match[2]).split(), dtype=np.float64).reshape(-1, 2)
    return GaussianShells.unnormalised(int(match[1]), rows[:, 0], rows[:, 1:])


def _digest(text: str) -> str:
    """Of the numbers of a table, whatever its blanks."""
    return sha256(" ".join(re.findall(rf"{_NUMBER}|\d+", text)).encode()).hexdigest()[:16]
