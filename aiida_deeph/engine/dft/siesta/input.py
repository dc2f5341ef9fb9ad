"""SIESTA's input (fdf) of one geometry, written from the objects of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ase.data import atomic_numbers

from aiida_deeph.engine.dft.scf_run import ScfRun, floats, polar_angles
from aiida_deeph.engine.dft.siesta.code import LABEL
from aiida_deeph.engine.dft.siesta.keywords import is_block
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import InputError

# Sizes that SIESTA makes of an element's orbitals by itself.
SIZES = ("SZ", "DZ", "TZ", "SZP", "DZP", "TZP", "SZP2", "DZP2", "TZP2")
SPIN_WORDS = {
    SpinMode.NONE: "non-polarized",
    SpinMode.COLLINEAR: "polarized",
    SpinMode.NONCOLLINEAR: "non-collinear",
}

# Size of an element's basis, or its lines of the block PAO.Basis.
Basis = str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SiestaRun(ScfRun):
    """All that an input file says; the label of a species is the symbol of its element.

    :param basis: of each element.
    :param valences: element -> electrons of its pseudo-atom, where the pseudopotential says it.
    """

    basis: Mapping[str, Basis]
    valences: Mapping[str, float | None] = field(default_factory=dict)


def checked_basis(symbol: str, value: object) -> Basis:
    """The basis of an element: a size such as DZP, or the lines of its block PAO.Basis.

    :raises InputError: it is neither.
    """
    expected = f"one of {', '.join(SIZES)}, or lines of PAO.Basis that begin with `{symbol} NUMBER_OF_SHELLS`"
    if isinstance(value, str) and value.upper() in SIZES:
        return value.upper()
    rows = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if rows and all(isinstance(row, str) and row.strip() and not set(row) & set("\n%") for row in rows):
        words = rows[0].split()
        if words[0] == symbol and len(words) >= 2:
            return rows
    raise InputError("basis is not understood", where=f"basis.{symbol}", found=repr(value)[:60], expected=expected)


def render_input(run: SiestaRun) -> str:
    """Text of the input.

    :raises InputError: an element without basis, spins and moments that do not fit each other.
    """
    structure = run.structure
    run.check_species(run.basis)
    run.check_spin(run.valences)
    species = {symbol: n for n, symbol in enumerate(structure.elements, start=1)}
    positions = zip(structure.positions, structure.symbols, strict=True)
    sections = [
        [f"SystemName {LABEL}", f"SystemLabel {LABEL}"],
        [
            f"NumberOfSpecies {len(species)}",
            *block("ChemicalSpeciesLabel", [f"{n} {atomic_numbers[s]} {s}" for s, n in species.items()]),
        ],
        ["LatticeConstant 1.0 Ang", *block("LatticeVectors", [floats(row) for row in structure.cell])],
        [
            f"NumberOfAtoms {len(structure)}",
            "AtomicCoordinatesFormat Ang",
            *block("AtomicCoordinatesAndAtomicSpecies", [f"{floats(r)} {species[symbol]}" for r, symbol in positions]),
        ],
        _basis_lines({symbol: run.basis[symbol] for symbol in species}),
        _spin_lines(run),
        block("kgrid.MonkhorstPack", _mesh_lines(run.kmesh)),
        _keyword_lines(run.keywords),
        _band_lines(run),
        [
            "SolutionMethod diagon",
            "SCF.MustConverge true",
            # Without it a mesh of one point folds H over R.
            "ForceAuxCell true",
            "SaveHS true",
            # HSX of SIESTA 4 is in single precision.
            "TS.HS.Save true",
            "WriteForces true",
            *(["DM.UseSaveDM true"] if run.restart else []),
        ],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def block(name: str, rows: Sequence[str]) -> list[str]:
    """A block with its marks."""
    return [f"%block {name}", *rows, f"%endblock {name}"]


def _basis_lines(basis: Mapping[str, Basis]) -> list[str]:
    sizes = [f"{symbol} {value}" for symbol, value in basis.items() if isinstance(value, str)]
    rows = [row for value in basis.values() if not isinstance(value, str) for row in value]
    return [
        *(block("PAO.BasisSizes", sizes) if sizes else []),
        *(block("PAO.Basis", rows) if rows else []),
    ]


def _spin_lines(run: ScfRun) -> list[str]:
    """Treatment of spin; the moments of all atoms if any are given: size and, if noncollinear, angles in degrees."""
    word = "spin-orbit" if run.spin_orbit else SPIN_WORDS[run.spin]
    if run.moments is None or run.spin is SpinMode.NONE:
        return [f"Spin {word}"]
    noncollinear = run.spin is SpinMode.NONCOLLINEAR
    rows = [
        f"{n} {floats([size], 6)}" + (f" {floats(polar_angles(vector), 6)}" if noncollinear else "")
        for n, (vector, size) in enumerate(zip(run.moment_vectors(), run.moment_sizes(), strict=True), start=1)
    ]
    return [f"Spin {word}", *block("DM.InitSpin", rows)]


def _mesh_lines(mesh: tuple[int, int, int]) -> list[str]:
    return [" ".join(str(mesh[i] if i == j else 0) for j in range(3)) + " 0.0" for i in range(3)]


def _keyword_lines(keywords: Mapping[str, str]) -> list[str]:
    rows: list[str] = []
    for name, text in keywords.items():
        rows += block(name, text.splitlines()) if is_block(name) else [f"{name} {text}"]
    return rows


def _band_lines(run: ScfRun) -> list[str]:
    if run.band_kpoints is None:
        return []
    return ["BandLinesScale ReciprocalLatticeVectors", *block("BandPoints", [floats(k) for k in run.band_kpoints])]
