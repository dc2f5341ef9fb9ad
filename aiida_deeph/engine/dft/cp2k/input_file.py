"""CP2K's input: sections, keywords, and the geometry that it states, with all its digits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

UNITS = {"ANGSTROM": 1.0, "BOHR": BOHR_TO_ANGSTROM, "PM": 0.01, "NM": 10.0}
ANGLES = {"DEG": 1.0, "RAD": 180 / np.pi}
# Of the matrices, Hartree: bands move by as much and more.
LARGEST_THRESHOLD = 1e-5
FALSE = (".FALSE.", "F", "FALSE", "NO", "OFF")


@dataclass(frozen=True)
class StatedGeometry:
    """What the input states, which CP2K may have changed: `moved_by` says why it may.

    :param kinds: name of the kind of each atom.
    :param elements: kind -> element.
    :param ghosts: kinds without nucleus.
    :param positions: Angstrom, wrapped or not, shape (n_atoms, 3).
    :param cell: Angstrom, rows are lattice vectors.
    """

    path: Path
    kinds: tuple[str, ...]
    elements: dict[str, str]
    ghosts: frozenset[str]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: tuple[bool, bool, bool]
    moved_by: tuple[str, ...]


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

    def keyword(self, *names: str) -> str | None:
        """Value of a keyword, which may have several names; None if it is not there."""
        for line in self.lines:
            word, _, value = line.partition(" ")
            if word.upper() in names:
                return value.strip()
        return None

    def flag(self, name: str) -> bool:
        """Whether a logical keyword is there and not false."""
        value = self.keyword(name)
        return value is not None and value.upper() not in FALSE


def parse_input(text: str, where: object = "CP2K input") -> Section:
    """Parse an input without preprocessor directives.

    :raises InputError: it has some, or its sections do not match.
    """
    root = Section("")
    stack = [root]
    # A backslash at its end continues a line.
    for raw in re.sub(r"\\[ \t]*\n", " ", text).splitlines():
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


def read_input(path: Path) -> Section:
    """Read an input file.

    :raises InputError: it is missing or not understood.
    """
    if not path.is_file():
        raise InputError("input of the run is missing", where=path, expected="the CP2K input beside its output")
    return parse_input(path.read_text(encoding="utf-8", errors="replace"), path)


def stated_geometry(root: Section, path: Path) -> StatedGeometry:
    """The geometry of an input.

    :raises InputError: it is described in a way that is not understood.
    """
    subsys = root.get("FORCE_EVAL", "SUBSYS")
    cell_section = subsys.get("CELL") if subsys else None
    if subsys is None or cell_section is None:
        raise InputError("input has no cell", where=path, expected="FORCE_EVAL / SUBSYS / CELL")
    periodic = (cell_section.keyword("PERIODIC") or "XYZ").upper()
    cell = _cell(cell_section, path)
    kinds, positions = _positions(subsys, cell, path)
    sections = {section.parameter.split()[0]: section for section in subsys.sections if section.name == "KIND"}
    elements = {kind: _element(kind, sections.get(kind)) for kind in dict.fromkeys(kinds)}
    ghosts = {
        kind for kind, section in sections.items() if section.flag("GHOST") or section.flag("FLOATING_BASIS_CENTER")
    }
    return StatedGeometry(
        path,
        kinds,
        elements,
        frozenset(ghosts),
        positions,
        cell,
        ("X" in periodic, "Y" in periodic, "Z" in periodic),
        tuple(_moved_by(root, subsys, cell_section)),
    )


def check_threshold(root: Section, path: Path) -> None:
    """The matrices are written with all entries that matter.

    :raises InputError: they are not.
    """
    for name in ("KS_CSR_WRITE", "S_CSR_WRITE"):
        section = root.get("FORCE_EVAL", "DFT", "PRINT", name)
        text = section.keyword("THRESHOLD") if section else None
        try:
            coarse = text is not None and _number(text) > LARGEST_THRESHOLD
        except ValueError:
            coarse = True
        if coarse:
            raise InputError(
                "matrices lack entries",
                where=f"{path}, {name}",
                found=f"THRESHOLD {text}",
                expected=f"at most {LARGEST_THRESHOLD:g}",
                remedy="run CP2K again with a smaller one, as required_input does",
            )


def _element(kind: str, section: Section | None) -> str:
    """That of a kind: what its section says, or the symbol with which its name begins."""
    name = (section.keyword("ELEMENT") if section else None) or kind
    letters = re.match(r"[A-Za-z]{1,2}", name)
    symbol = letters.group().capitalize() if letters else name
    return symbol if symbol in atomic_numbers else symbol[:1]


def _moved_by(root: Section, subsys: Section, cell: Section) -> Iterator[str]:
    """What of an input may give another geometry than it states."""
    topology = subsys.get("TOPOLOGY")
    if root.get("EXT_RESTART") is not None:
        yield "EXT_RESTART"
    if topology is not None and topology.get("CENTER_COORDINATES") is not None:
        yield "CENTER_COORDINATES"
    if (cell.keyword("SYMMETRY") or "NONE").upper() != "NONE":
        yield "SYMMETRY"
    for section in (cell, topology):
        if section is not None and (section.keyword("MULTIPLE_UNIT_CELL") or "1 1 1").split() != ["1"] * 3:
            yield "MULTIPLE_UNIT_CELL"


def _cell(section: Section, path: Path) -> NDArray[np.float64]:
    if section.keyword("CELL_FILE_NAME"):
        raise InputError("cell is not understood", where=path, found="CELL_FILE_NAME", expected="A, B, C")
    vectors = [section.keyword(letter) for letter in "ABC"]
    lengths = section.keyword("ABC")
    # Of both, CP2K takes the lengths.
    if all(vectors) and lengths is None:
        return np.array([_vector(v or "", UNITS, "ANGSTROM", path) for v in vectors])
    if lengths is None:
        raise InputError("cell is not understood", where=path, expected="A, B, C or ABC with ALPHA_BETA_GAMMA")
    angles = section.keyword("ALPHA_BETA_GAMMA", "ANGLES") or "90 90 90"
    return cell_of(_vector(lengths, UNITS, "ANGSTROM", path), _vector(angles, ANGLES, "DEG", path))


def cell_of(lengths: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lattice vectors in rows, a along x and b in the plane of x and y.

    :param lengths: shape (3,).
    :param angles: between b and c, a and c, a and b, degrees, shape (3,).
    """
    a, b, c = lengths
    alpha, beta, gamma = np.radians(angles)
    cx, cy = np.cos(beta), (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    height = np.sqrt(max(1 - cx**2 - cy**2, 0.0))
    cell = np.array([[a, 0, 0], [b * np.cos(gamma), b * np.sin(gamma), 0], [c * cx, c * cy, c * height]])
    cell[np.abs(cell) < 1e-12] = 0.0
    return cell


def _vector(text: str, units: Mapping[str, float], default: str, path: Path) -> NDArray[np.float64]:
    """Three numbers behind their unit, if it is not the default."""
    unit = re.match(r"\[\s*(\w+)\s*\]", text)
    try:
        factor = units[unit.group(1).upper() if unit else default]
        x, y, z = (_number(word) for word in re.sub(r"\[.*?\]", "", text).split())
    except (KeyError, ValueError, ZeroDivisionError):
        raise InputError("number is not understood", where=path, found=text, expected="three numbers") from None
    return np.array([x, y, z]) * factor


def _number(word: str) -> float:
    """Also `1/3` and `1.0D0`."""
    numerator, _, denominator = word.upper().replace("D", "E").partition("/")
    return float(numerator) / (float(denominator) if denominator else 1.0)


def _positions(subsys: Section, cell: NDArray[np.float64], path: Path) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Kind and position of each atom, Angstrom."""
    topology = subsys.get("TOPOLOGY")
    name = topology.keyword("COORD_FILE_NAME", "COORDINATE") if topology else None
    if topology is not None and name is not None:
        form = (topology.keyword("COORD_FILE_FORMAT", "COORDINATE") or "").upper()
        if form != "XYZ":
            raise InputError(
                "coordinate file is not understood", where=path, found=form, expected="COORD_FILE_FORMAT XYZ"
            )
        file = path.parent / Path(name.strip("\"'")).name
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            rows = lines[2 : 2 + int(lines[0])]
        except (OSError, ValueError, IndexError) as error:
            raise InputError(
                "coordinate file cannot be read", where=file, found=error, expected="an xyz file"
            ) from None
        return _atoms(rows, file)
    section = subsys.get("COORD")
    if section is None:
        raise InputError("input has no positions", where=path, expected="SUBSYS / COORD or TOPOLOGY / COORD_FILE_NAME")
    rows = [line for line in section.lines if line.split()[0].upper() not in ("UNIT", "SCALED")]
    kinds, positions = _atoms(rows, path)
    if section.flag("SCALED"):
        return kinds, np.asarray(positions @ cell)
    unit = (section.keyword("UNIT") or "ANGSTROM").strip("[]").upper()
    if unit not in UNITS:
        raise InputError("unit is not understood", where=path, found=unit, expected=", ".join(UNITS))
    return kinds, positions * UNITS[unit]


def _atoms(rows: list[str], path: Path) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    words = [row.split() for row in rows]
    try:
        positions = np.array([[_number(word) for word in row[1:4]] for row in words]).reshape(-1, 3)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError("position is not understood", where=path, found=error, expected="KIND x y z") from None
    return tuple(row[0] for row in words), positions
