"""Orbitals in `.orb` files and the valence charges of the pseudopotentials beside them (`.upf`)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.radial import RadialShell

_BLOCK = re.compile(r"Type\s+L\s+N\s+(\d+)\s+(\d+)\s+(\d+)\s+")


def load_orb(symbol: str, folder: Path, orbitals: str | None) -> tuple[tuple[RadialShell, ...], float | None]:
    """Shells of one element in the order of the file, and its valence electrons.

    :param folder: holds the `.orb` files and perhaps the `.upf` files.
    :param orbitals: name of the file with or without `.orb`; by default the element's only file, `SYMBOL_*.orb`.
    :raises InputError: no such file, several without a name, or it is of another element.
    :raises DataError: the file is damaged.
    """
    names = [f"{orbitals.removesuffix('.orb')}.orb"] if orbitals else [f"{symbol}_*.orb", f"{symbol}.orb"]
    found = sorted(path for name in names for path in folder.glob(name) if path.is_file())
    if len(found) != 1:
        raise InputError(
            "several files of orbitals" if found else "no such file of orbitals",
            where=folder,
            found=", ".join(path.name for path in found) or None,
            expected=" or ".join(names),
            remedy=f"name one: {symbol}=FILE" if found else None,
        )
    text = found[0].read_text(encoding="utf-8", errors="replace")
    element, shells = read_orb(text, found[0])
    if element != symbol:
        raise InputError("orbitals of another element", where=found[0], found=element, expected=symbol)
    return shells, _valence(symbol, folder)


def read_orb(text: str, where: object) -> tuple[str, tuple[RadialShell, ...]]:
    """Element and shells; the tables hold R at r = 0, dr, ..

    :raises DataError: the text is no `.orb` or is damaged.
    """
    element, mesh, step = (re.search(rf"^\s*{name}\s+(\S+)", text, re.MULTILINE) for name in ("Element", "Mesh", "dr"))
    blocks = _BLOCK.split(text)[1:]
    if element is None or mesh is None or step is None or not blocks:
        raise DataError("not a file of orbitals (.orb)", where=where, expected="Element, Mesh, dr and tables")
    try:
        r = np.arange(int(mesh.group(1))) * float(step.group(1))
        shells = []
        for l, table in zip(blocks[1::4], blocks[3::4], strict=True):
            values = np.array(table.split(), dtype=np.float64)
            if len(values) != len(r):
                raise ValueError(f"{len(values)} numbers instead of {len(r)}")
            shells.append(RadialShell(int(l), r, values))
    except ValueError as error:
        raise DataError("file of orbitals is damaged", where=where, found=error) from None
    if [shell.l for shell in shells] != sorted(shell.l for shell in shells):
        raise DataError("orbitals are not in the order of their l", where=where)
    return element.group(1), tuple(shells)


def _valence(symbol: str, folder: Path) -> float | None:
    """Valence electrons by the element's `.upf` files, if they agree."""
    charges = set()
    for path in folder.iterdir():
        if path.suffix.lower() == ".upf" and re.match(rf"{symbol}(?:[^a-z]|$)", path.name):
            match = re.search(
                r'z_valence\s*=\s*"\s*([\d.Ee+]+)|([\d.]+)\s+Z valence',
                path.read_text(encoding="utf-8", errors="replace"),
            )
            if match:
                charges.add(float(match.group(1) or match.group(2)))
    return charges.pop() if len(charges) == 1 else None
