"""The structure of a CP2K run, with all its digits, from the input file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

UNITS = {"ANGSTROM": 1.0, "BOHR": BOHR_TO_ANGSTROM, "PM": 0.01, "NM": 10.0}


@dataclass
class Section:
    """One `&NAME parameter .. &END` of an input: lines in order, sections by name."""

    name: str
    parameter: str = ""
    lines: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def get(self, *names: str) -> Section | None:
        """The first section along a path of names."""
        section: Section | None = self
        for name in names:
            section = next((s for s in section.sections if s.name == name), None) if section else None
        return section

    def keyword(self, name: str) -> str | None:
        """Value of a keyword, None if it is not there."""
        for line in self.lines:
            word, _, value = line.partition(" ")
            if word.upper() == name:
                return value.strip()
        return None


def parse_input(text: str, where: object = "CP2K input") -> Section:
    """Parse an input without preprocessor directives.

    :raises InputError: it has some, or its sections do not match.
    """
    root = Section("")
    stack = [root]
    for raw in text.splitlines():
        line = " ".join(re.split(r"[!#]", raw)[0].split())
        if not line:
            continue
        if line.startswith("@") or "${" in line:
            raise InputError(
                "input with preprocessor directives", where=where, found=line, remedy="write the input without @ and $"
            )
        if line.upper().startswith("&END"):
            if len(stack) == 1:
                raise InputError("sections of the input do not match", where=where, found=line)
            stack.pop()
        elif line.startswith("&"):
            name, _, parameter = line[1:].partition(" ")
            section = Section(name.upper(), parameter)
            stack[-1].sections.append(section)
            stack.append(section)
        else:
            stack[-1].lines.append(line)
    if len(stack) != 1:
        raise InputError("sections of the input do not match", where=where, found=f"&{stack[-1].name} without &END")
    return root


def read_structure_of_run(directory: Path, input_file: str, symbols: tuple[str, ...]) -> Structure:
    """Positions as the input has them, wrapped or not, and the cell.

    :param symbols: element of each atom (the input knows kinds only).
    :raises InputError: the input is missing or describes the structure in a way that is not understood.
    """
    path = directory / input_file
    if not path.is_file():
        raise InputError("input of the run is missing", where=path, expected="the CP2K input beside its output")
    root = parse_input(path.read_text(encoding="utf-8", errors="replace"), path)
    subsys = root.get("FORCE_EVAL", "SUBSYS")
    cell_section = subsys.get("CELL") if subsys else None
    if subsys is None or cell_section is None:
        raise InputError("input has no cell", where=path, expected="FORCE_EVAL / SUBSYS / CELL")
    cell, pbc = _cell(cell_section, path)
    positions = _positions(subsys, cell, directory, path)
    if len(positions) != len(symbols):
        raise InputError(
            "input and output have different numbers of atoms", where=path, found=len(positions), expected=len(symbols)
        )
    return Structure(symbols, positions, cell, pbc)


def _cell(section: Section, path: Path) -> tuple[NDArray[np.float64], tuple[bool, bool, bool]]:
    periodic = (section.keyword("PERIODIC") or "XYZ").upper()
    pbc = ("X" in periodic, "Y" in periodic, "Z" in periodic)
    if section.keyword("MULTIPLE_UNIT_CELL") or section.keyword("CELL_FILE_NAME"):
        raise InputError(
            "cell is not understood", where=path, found="MULTIPLE_UNIT_CELL or CELL_FILE_NAME", expected="A, B, C"
        )
    vectors = [section.keyword(letter) for letter in "ABC"]
    if all(vectors):
        return np.array([_length_vector(v or "", path) for v in vectors]), pbc
    lengths = section.keyword("ABC")
    if lengths is None:
        raise InputError("cell is not understood", where=path, expected="A, B, C or ABC with ALPHA_BETA_GAMMA")
    a, b, c = _length_vector(lengths, path)
    angles = section.keyword("ALPHA_BETA_GAMMA") or "90 90 90"
    alpha, beta, gamma = np.radians([float(word) for word in angles.split() if not word.startswith("[")])
    # a along x, b in the plane of x and y.
    cx, cy = np.cos(beta), (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    cell = np.array(
        [
            [a, 0, 0],
            [b * np.cos(gamma), b * np.sin(gamma), 0],
            [c * cx, c * cy, c * np.sqrt(1 - cx**2 - cy**2)],
        ]
    )
    cell[np.abs(cell) < 1e-12] = 0.0
    return cell, pbc


def _length_vector(text: str, path: Path) -> NDArray[np.float64]:
    unit = re.match(r"\[(\w+)\]", text)
    words = re.sub(r"\[\w+\]", "", text).replace("D", "E").replace("d", "e").split()
    try:
        factor = UNITS[unit.group(1).upper()] if unit else 1.0
        x, y, z = (float(word) for word in words)
    except (KeyError, ValueError):
        raise InputError("length is not understood", where=path, found=text, expected="three numbers") from None
    return np.array([x, y, z]) * factor


def _positions(subsys: Section, cell: NDArray[np.float64], directory: Path, path: Path) -> NDArray[np.float64]:
    topology = subsys.get("TOPOLOGY")
    if topology is not None and topology.get("MULTIPLE_UNIT_CELL") is not None:
        raise InputError("positions are not understood", where=path, found="TOPOLOGY / MULTIPLE_UNIT_CELL")
    name = (topology.keyword("COORD_FILE_NAME") or topology.keyword("COORDINATE")) if topology else None
    if topology is not None and name is not None:
        form = (topology.keyword("COORD_FILE_FORMAT") or topology.keyword("COORDINATE") or "").upper()
        if form != "XYZ":
            raise InputError(
                "coordinate file is not understood", where=path, found=form, expected="COORD_FILE_FORMAT XYZ"
            )
        file = directory / name.strip("\"'")
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            rows = lines[2 : 2 + int(lines[0])]
        except (OSError, ValueError, IndexError) as error:
            raise InputError(
                "coordinate file cannot be read", where=file, found=error, expected="an xyz file"
            ) from None
        return np.array([_row(row, file) for row in rows])
    section = subsys.get("COORD")
    if section is None:
        raise InputError("input has no positions", where=path, expected="SUBSYS / COORD or TOPOLOGY / COORD_FILE_NAME")
    rows = [line for line in section.lines if line.split()[0].upper() not in ("UNIT", "SCALED")]
    positions = np.array([_row(row, path) for row in rows])
    scaled = section.keyword("SCALED")
    if scaled is not None and scaled.upper() not in (".FALSE.", "F", "FALSE", "NO", "OFF"):
        return np.asarray(positions @ cell)
    unit = (section.keyword("UNIT") or "ANGSTROM").strip("[]").upper()
    if unit not in UNITS:
        raise InputError("unit is not understood", where=path, found=unit, expected=", ".join(UNITS))
    return positions * UNITS[unit]


def _row(line: str, path: Path) -> list[float]:
    try:
        return [float(word) for word in line.split()[1:4]]
    except ValueError:
        raise InputError("position is not understood", where=path, found=line, expected="KIND x y z") from None
