"""OpenMX's input file: keywords and blocks, species and atoms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiida_deeph.engine.domain.moments import along
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.orbitals.pao import OrbitalName, parse_orbital_name


@dataclass(frozen=True)
class OpenmxInput:
    """What an input file says; names are in lower case since OpenMX does not mind.

    :param keywords: name -> words after it.
    :param blocks: name -> lines between `<name` and `name>`.
    """

    keywords: Mapping[str, tuple[str, ...]]
    blocks: Mapping[str, tuple[str, ...]]

    def word(self, name: str, default: str = "") -> str:
        """First word after a keyword."""
        words = self.keywords.get(name.lower(), ())
        return words[0] if words else default

    def species(self, where: object) -> dict[str, OrbitalName]:
        """Name of each species -> its basis.

        :raises DataError: the block is missing or damaged.
        """
        rows = [line.split() for line in self.blocks.get("definition.of.atomic.species", ())]
        if not rows or any(len(row) < 3 for row in rows):
            raise DataError("species are missing", where=where, expected="the block Definition.of.Atomic.Species")
        return {row[0]: parse_orbital_name(row[1], where) for row in rows}

    def atoms(self, where: object) -> list[str]:
        """Name of the species of each atom.

        :raises DataError: the block is missing or damaged.
        """
        rows = [line.split() for line in self.blocks.get("atoms.speciesandcoordinates", ())]
        if not rows or any(len(row) < 5 for row in rows):
            raise DataError("atoms are missing", where=where, expected="the block Atoms.SpeciesAndCoordinates")
        return [row[1] for row in rows]

    def moments(self) -> list[list[float]] | None:
        """Initial spin moment of each atom, Bohr magnetons; None without spins, or where not every atom states it."""
        rows = [line.split() for line in self.blocks.get("atoms.speciesandcoordinates", ())]
        spin = self.word("scf.spinpolarization", "off").lower()
        if spin not in ("on", "nc") or not rows or any(len(row) < 7 for row in rows):
            return None
        angles = [[float(x) for x in row[7:9]] if spin == "nc" and len(row) > 8 else [] for row in rows]
        return [along(float(row[5]) - float(row[6]), *two) for row, two in zip(rows, angles, strict=True)]


def parse_input(text: str) -> OpenmxInput:
    """Parse the text of an input file; what follows `#` is a comment."""
    keywords: dict[str, tuple[str, ...]] = {}
    blocks: dict[str, list[str]] = {}
    current: str | None = None
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        if current is not None:
            if re.fullmatch(re.escape(current) + ">", line.split()[0].lower()):
                current = None
            else:
                blocks[current].append(line)
        elif line.startswith("<"):
            current = line[1:].split()[0].lower()
            blocks[current] = []
        else:
            name, *words = line.split()
            keywords[name.lower()] = tuple(words)
    return OpenmxInput(keywords, {name: tuple(lines) for name, lines in blocks.items()})
