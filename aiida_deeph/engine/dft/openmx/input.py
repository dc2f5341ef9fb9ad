"""OpenMX's input file of one geometry, written from the objects of the package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.openmx.code import NAME
from aiida_deeph.engine.dft.openmx.keywords import is_block
from aiida_deeph.engine.dft.scf_run import ScfRun, floats, polar_angles
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.orbitals.pao import parse_orbital_name

DATA_FOLDER = "DFT_DATA"
# Points of a piece lie this close to even spacing, fractions of the reciprocal lattice vectors.
TOLERANCE = 1e-9
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


@dataclass(frozen=True, kw_only=True)
class OpenmxRun(ScfRun):
    """All that an input file says; the files of a restart lie in `NAME_rst`.

    :param species: what stands for each element.
    """

    species: Mapping[str, Species]


def render_input(run: OpenmxRun) -> str:
    """Text of the input file.

    :raises InputError: an element without species, a moment larger than the valence, or spin-orbit coupling of
        collinear spins.
    """
    structure = run.structure
    run.check_species(run.species)
    run.check_spin({symbol: species.valence for symbol, species in run.species.items()})
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
        ["Atoms.UnitVectors.Unit Ang", *block("Atoms.UnitVectors", [floats(row) for row in structure.cell])],
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


@dataclass(frozen=True)
class Piece:
    """Points `first` .. `first + count - 1` of the list, evenly spaced on a straight line.

    OpenMX cannot take a single point: such a piece is written as two equal points, of which the second is dropped.
    """

    first: int
    count: int

    @property
    def written(self) -> int:
        """Points that OpenMX computes."""
        return max(2, self.count)


def straight_pieces(kpoints: NDArray[np.float64]) -> tuple[Piece, ...]:
    """Longest straight pieces from the beginning on; no point belongs to two of them.

    :param kpoints: fractional, shape (n_k, 3).
    """
    pieces = []
    first, n = 0, len(kpoints)
    while first < n:
        count = min(2, n - first)
        step = kpoints[first + count - 1] - kpoints[first]
        while first + count < n and np.abs(kpoints[first] + count * step - kpoints[first + count]).max() < TOLERANCE:
            count += 1
        pieces.append(Piece(first, count))
        first += count
    return tuple(pieces)


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
    noncollinear = run.spin is SpinMode.NONCOLLINEAR
    atoms = zip(run.structure.symbols, run.structure.positions, run.moment_vectors(), run.moment_sizes(), strict=True)
    lines = []
    for n, (symbol, position, moment, size) in enumerate(atoms, start=1):
        valence = run.species[symbol].valence
        electrons = floats([(valence + size) / 2, (valence - size) / 2], 6)
        direction = floats(polar_angles(moment), 6) if size else "0.0 0.0"
        angles = f" {direction} 0.0 0.0 0" if noncollinear else ""
        lines.append(f"{n} {symbol} {floats(position)} {electrons}{angles} off")
    return lines


def _band_lines(run: OpenmxRun) -> list[str]:
    if run.band_kpoints is None:
        return []
    points = np.asarray(run.band_kpoints, dtype=np.float64)
    labels = {index: re.sub(r"\W+", "", label)[:10] for index, label in run.band_labels}
    lines = []
    for piece in straight_pieces(points):
        last = piece.first + piece.count - 1
        names = " ".join(labels.get(index) or "-" for index in (piece.first, last))
        lines.append(f"{piece.written} {floats(points[piece.first])} {floats(points[last])} {names}")
    return ["Band.dispersion on", f"Band.Nkpath {len(lines)}", *block("Band.kpath", lines)]
