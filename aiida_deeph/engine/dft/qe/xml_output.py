"""`data-file-schema.xml` of pw.x: structure, convergence, energies, bands."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV

Real = NDArray[np.float64]


@dataclass(frozen=True)
class PwOutput:
    """What a run of pw.x says of itself.

    :param species: label of each atom's species; `structure` has the elements.
    :param pseudo_files: label -> file of its pseudopotential.
    :param scf_error: estimated accuracy of the energy, eV; None for a run of bands.
    :param fermi_energy: eV; in a gap of fixed occupations its middle, None if the gap's upper end is unknown.
    :param kpoints: fractional, shape (n_k, 3).
    :param energies: shape (n_spin, n_k, n_bands), eV; one spin channel but for collinear magnets.
    :param occupations: of each band, 0 to 1, in the shape of the energies.
    :param cutoffs: of wavefunctions and density, Rydberg.
    :param k_grid: mesh of the k-points; None of a list.
    :param smearing: eV; None with fixed occupations.
    """

    version: str
    calculation: str
    structure: Structure
    species: tuple[str, ...]
    pseudo_files: dict[str, str]
    converged: bool
    scf_cycles: int
    scf_error: float | None
    energy: float | None
    fermi_energy: float | None
    n_electrons: float
    functional: str
    kpoints: Real
    weights: Real
    energies: Real
    occupations: Real
    cutoffs: tuple[float, float]
    lsda: bool
    noncollinear: bool
    spin_orbit: bool
    magnetization: float
    seconds: float | None
    k_grid: tuple[int, int, int] | None
    smearing: float | None

    @property
    def n_occupied(self) -> int:
        """Bands that hold electrons at every k-point."""
        return int((self.occupations > 0.5).all(axis=(0, 1)).sum())


def read_pw_xml(path: Path) -> PwOutput:
    """The file of a finished run.

    :raises InputError: no such file.
    :raises DataError: the file is damaged or is not pw.x's.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("XML of pw.x cannot be read", where=path, found=error, expected=path.name) from None
    return parse_pw_xml(text, path)


def parse_pw_xml(text: str, where: object) -> PwOutput:
    """The content of the file.

    :raises DataError: it is damaged or is not pw.x's.
    """
    try:
        root = ElementTree.fromstring(text)
        return _parsed(root)
    except (ElementTree.ParseError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise DataError("XML of pw.x is damaged", where=where, found=f"{type(error).__name__}: {error}") from None


def _parsed(root: ElementTree.Element) -> PwOutput:
    out = _node(root, "output")
    bands, atoms = _node(out, "band_structure"), _node(out, "atomic_structure")
    cell = np.array([_numbers(row) for row in _node(atoms, "cell")])
    sites = atoms.findall("atomic_positions/atom")
    labels = tuple(site.attrib["name"].strip() for site in sites)
    structure = Structure(
        tuple(element_of(label) for label in labels),
        np.array([_numbers(site) for site in sites]).reshape(-1, 3) * BOHR_TO_ANGSTROM,
        cell * BOHR_TO_ANGSTROM,
    )
    points = bands.findall("ks_energies")
    # Cartesian, in units of 2 pi / alat.
    kpoints = np.array([_numbers(_node(p, "k_point")) for p in points]) @ cell.T / float(atoms.attrib["alat"])
    weights = np.array([float(_node(p, "k_point").attrib["weight"]) for p in points])
    lsda = _true(bands, "lsda")
    channels = 2 if lsda else 1

    def table(name: str) -> Real:
        rows = np.array([_numbers(_node(p, name)) for p in points])
        # Of a collinear magnet each point lists the bands of both spins, up first.
        return np.ascontiguousarray(rows.reshape(len(points), channels, -1).transpose(1, 0, 2))

    scf = out.find("convergence_info/scf_conv")
    basis = _node(out, "basis_set")
    energy, error = out.findtext("total_energy/etot"), None if scf is None else scf.findtext("scf_error")
    wall = root.findtext("timing_info/total/wall")
    mesh, width = bands.find("starting_k_points/monkhorst_pack"), bands.find("smearing")
    return PwOutput(
        version=_node(root, "general_info/creator").attrib["VERSION"].strip(),
        calculation=(root.findtext("input/control_variables/calculation") or "scf").strip(),
        structure=structure,
        species=labels,
        pseudo_files={
            s.attrib["name"].strip(): (s.findtext("pseudo_file") or "").strip()
            for s in out.findall("atomic_species/species")
        },
        converged=scf is not None and (scf.findtext("convergence_achieved") or "true").strip() == "true",
        scf_cycles=0 if scf is None else int(_node(scf, "n_scf_steps").text or 0),
        scf_error=None if error is None else float(error) * HARTREE_TO_EV,
        energy=None if energy is None else float(energy) * HARTREE_TO_EV,
        fermi_energy=_fermi(bands),
        n_electrons=float(_node(bands, "nelec").text or ""),
        functional=(out.findtext("dft/functional") or "").strip(),
        kpoints=kpoints,
        weights=weights / weights.sum(),
        energies=table("eigenvalues") * HARTREE_TO_EV,
        occupations=table("occupations"),
        cutoffs=(2 * float(_node(basis, "ecutwfc").text or ""), 2 * float(_node(basis, "ecutrho").text or "")),
        lsda=lsda,
        noncollinear=_true(bands, "noncolin"),
        spin_orbit=_true(bands, "spinorbit"),
        magnetization=float(out.findtext("magnetization/absolute") or 0.0),
        seconds=None if wall is None else float(wall),
        k_grid=None if mesh is None else (int(mesh.attrib["nk1"]), int(mesh.attrib["nk2"]), int(mesh.attrib["nk3"])),
        smearing=None if width is None else float(width.attrib["degauss"]) * HARTREE_TO_EV,
    )


def _fermi(bands: ElementTree.Element) -> float | None:
    """eV. With fixed occupations `fermi_energy` is the highest occupied level: the middle of the gap says more."""
    top, bottom = bands.findtext("highestOccupiedLevel"), bands.findtext("lowestUnoccupiedLevel")
    if top is not None and bottom is not None:
        return (float(top) + float(bottom)) / 2 * HARTREE_TO_EV
    level = bands.findtext("fermi_energy")
    if level is None and bands.find("two_fermi_energies") is not None:
        level = str(max(_numbers(_node(bands, "two_fermi_energies"))))
    if level is None:
        level = top
    return None if level is None else float(level) * HARTREE_TO_EV


def element_of(label: str) -> str:
    """Element of a species label: `Fe_up` and `Fe1` are iron.

    :raises ValueError: no element.
    """
    letters = label[:2].capitalize() if label[1:2].isalpha() and label[:2].capitalize() in atomic_numbers else label[:1]
    symbol = letters.capitalize()
    if atomic_numbers.get(symbol, 0) < 1:
        raise ValueError(f"no element in species label {label!r}")
    return symbol


def _node(parent: ElementTree.Element, path: str) -> ElementTree.Element:
    found = parent.find(path)
    if found is None:
        raise ValueError(f"no {path}")
    return found


def _numbers(node: ElementTree.Element) -> list[float]:
    return [float(text) for text in (node.text or "").split()]


def _true(parent: ElementTree.Element, name: str) -> bool:
    return (parent.findtext(name) or "false").strip() == "true"
