"""OpenMX's pseudo-atomic orbitals (`.pao`) and the valence charges of its pseudopotentials (`.vps`)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from aiida_deeph.engine.dft.openmx.orbital_name import parse_orbital_name
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.overlap.numeric.radial import RadialShell

_VALENCE = re.compile(r"^\s*valence\.electron\s+(\S+)", re.MULTILINE)


def load_openmx(symbol: str, folder: Path, orbitals: str) -> tuple[tuple[RadialShell, ...], float | None]:
    """Shells of one element and its valence electrons.

    :param folder: holds the `.pao` files and perhaps the `.vps` files, or has them in PAO/ and VPS/ as OpenMX's data.
    :param orbitals: name as in an OpenMX input, e.g. `C6.0-s2p2d1`.
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
        raise DataError("not a file of OpenMX's orbitals", where=where, expected="PAO.Lmax")
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
