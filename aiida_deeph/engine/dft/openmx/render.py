"""OpenMX's input file of one geometry, written from the objects of the package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.openmx.keywords import is_block
from aiida_deeph.engine.dft.openmx.kpath import straight_pieces
from aiida_deeph.engine.dft.openmx.orbital_name import parse_orbital_name
from aiida_deeph.engine.domain.spin import SpinMode
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

# System.Name: the names of all files of a run begin with it.
NAME = "openmx"
DATA_FOLDER = "DFT_DATA"
SPIN_WORDS = {SpinMode.NONE: "off", SpinMode.COLLINEAR: "on", SpinMode.NONCOLLINEAR: "nc"}


@dataclass(frozen=True)
class Species:
    """What stands for an element.

    :param orbitals: file and shells of its basis, e.g. `C6.0-s2p2d1`.
    :param pseudo: name of its `.vps` file without the suffix.
    :param valence: electrons of the neutral pseudo-atom.
    """

    orbitals: str
    pseudo: str
    valence: float

    @property
    def n_orbitals(self) -> int:
        """Orbitals of an atom, without spin."""
        return sum(2 * l + 1 for l in parse_orbital_name(self.orbitals).shells)


@dataclass(frozen=True)
class OpenmxRun:
    """All that an input file says.

    :param keywords: keyword -> its checked text, as `checked_keywords` returns them.
    :param kmesh: Gamma-centred mesh of the SCF.
    :param moments: initial spin moment of each atom, shape (n_atoms, 3), Bohr magnetons; only z counts if collinear.
    :param band_kpoints: fractional, shape (n_k, 3), and labels of some of them by index.
    :param restart: start from the density of an earlier run whose files lie in `NAME_rst`.
    """

    structure: Structure
    species: Mapping[str, Species]
    kmesh: tuple[int, int, int]
    keywords: Mapping[str, str] = field(default_factory=dict)
    spin: SpinMode = SpinMode.NONE
    spin_orbit: bool = False
    moments: NDArray[np.float64] | None = None
    band_kpoints: NDArray[np.float64] | None = None
    band_labels: Sequence[tuple[int, str]] = ()
    restart: bool = False


def render_input(run: OpenmxRun) -> str:
    """Text of the input file.

    :raises InputError: an element without species, a moment larger than the valence, or spin-orbit coupling of
        collinear spins.
    """
    structure = run.structure
    missing = sorted(set(structure.symbols) - set(run.species))
    if missing:
        raise InputError("element without basis", where="structure", found=", ".join(missing))
    if run.spin_orbit and run.spin is not SpinMode.NONCOLLINEAR:
        raise InputError(
            "spin-orbit coupling needs noncollinear spins", where="spin", found=run.spin.value, expected="noncollinear"
        )
    species = {symbol: run.species[symbol] for symbol in structure.elements}
    sections = [
        [
            "System.CurrrentDirectory ./",
            f"System.Name {NAME}",
            f"DATA.PATH ./{DATA_FOLDER}",
            "level.of.stdout 1",
            *([] if "level.of.fileout" in run.keywords else ["level.of.fileout 0"]),
            "HS.fileout on",
            "MD.Type nomd",
        ],
        [
            f"Species.Number {len(species)}",
            *block("Definition.of.Atomic.Species", [f"{s} {x.orbitals} {x.pseudo}" for s, x in species.items()]),
        ],
        [
            f"Atoms.Number {len(structure)}",
            "Atoms.SpeciesAndCoordinates.Unit Ang",
            *block("Atoms.SpeciesAndCoordinates", _atom_lines(run)),
        ],
        ["Atoms.UnitVectors.Unit Ang", *block("Atoms.UnitVectors", [_floats(row) for row in structure.cell])],
        [
            f"scf.SpinPolarization {SPIN_WORDS[run.spin]}",
            *(["scf.SpinOrbit.Coupling on"] if run.spin_orbit else []),
            "scf.EigenvalueSolver band",
            f"scf.Kgrid {' '.join(str(n) for n in run.kmesh)}",
            *(["scf.restart on"] if run.restart else []),
        ],
        _keyword_lines(run.keywords),
        _band_lines(run),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def block(name: str, lines: Sequence[str]) -> list[str]:
    """A block with its marks."""
    return [f"<{name}", *lines, f"{name}>"]


def _keyword_lines(keywords: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for name, text in keywords.items():
        lines += block(name, text.splitlines()) if is_block(name) else [f"{name} {text}"]
    return lines


def _atom_lines(run: OpenmxRun) -> list[str]:
    """Number, species, position, initial electrons with spin up and down; for noncollinear spins also the angles of
    spin and orbital moment in degrees and a flag of constraint; the last word concerns DFT+U alone."""
    moments = np.zeros((len(run.structure), 3)) if run.moments is None else np.asarray(run.moments, dtype=np.float64)
    noncollinear = run.spin is SpinMode.NONCOLLINEAR
    lines = []
    for n, (symbol, position, moment) in enumerate(
        zip(run.structure.symbols, run.structure.positions, moments, strict=True), start=1
    ):
        valence = run.species[symbol].valence
        size = float(np.linalg.norm(moment)) if noncollinear else float(moment[2])
        if abs(size) > valence:
            raise InputError(
                "initial moment exceeds the valence",
                where=f"moments, atom {n} ({symbol})",
                found=f"{size:g} Bohr magnetons",
                expected=f"at most {valence:g}",
            )
        if size and run.spin is SpinMode.NONE:
            raise InputError(
                "initial moment without spin",
                where=f"moments, atom {n} ({symbol})",
                found=f"{size:g} Bohr magnetons",
                expected="collinear or noncollinear spins",
            )
        electrons = _floats([(valence + size) / 2, (valence - size) / 2], 6)
        angles = f" {_angles(moment)} 0.0 0.0 0" if noncollinear else ""
        lines.append(f"{n} {symbol} {_floats(position)} {electrons}{angles} off")
    return lines


def _angles(moment: NDArray[np.float64]) -> str:
    """Polar and azimuthal angle in degrees."""
    size = float(np.linalg.norm(moment))
    if not size:
        return "0.0 0.0"
    theta = np.degrees(np.arccos(np.clip(moment[2] / size, -1.0, 1.0)))
    phi = np.degrees(np.arctan2(moment[1], moment[0])) % 360.0
    return _floats([theta, phi], 6)


def _band_lines(run: OpenmxRun) -> list[str]:
    if run.band_kpoints is None:
        return []
    points = np.asarray(run.band_kpoints, dtype=np.float64)
    labels = {index: re.sub(r"\W+", "", label)[:10] for index, label in run.band_labels}
    lines = []
    for piece in straight_pieces(points):
        last = piece.first + piece.count - 1
        names = " ".join(labels.get(index) or "-" for index in (piece.first, last))
        lines.append(f"{piece.written} {_floats(points[piece.first])} {_floats(points[last])} {names}")
    return ["Band.dispersion on", f"Band.Nkpath {len(lines)}", *block("Band.kpath", lines)]


def _floats(values: Sequence[float] | NDArray[np.float64], digits: int = 12) -> str:
    return " ".join(f"{float(value) + 0.0:.{digits}f}" for value in values)
