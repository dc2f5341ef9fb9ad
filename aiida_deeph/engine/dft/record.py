"""What is known of a DFT code: the one record from which registries, tables, set-up and model cards are served.

Records are data: they import neither readers nor libraries, so that the AiiDA wing and the README may read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import OrbitalConvention
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV

# Kinds of Gaussian bases: a name that a library knows, and a set in a file of basis sets.
BASIS_LIBRARY, BASIS_FILE = "library", "file"
# Keys of the results of a run, the same for all codes, and their units.
RESULT_UNITS: Mapping[str, str] = {
    "energy": "eV",
    "energy_contributions": "eV",
    "fermi_energy": "eV",
    "homo": "eV",
    "lumo": "eV",
    "scf_criterion": "eV",
    "scf_error": "eV",
    "electrons": "elementary charge",
    "n_electrons": "elementary charge",
    "total_spin_moment": "bohr magneton",
    "spin_moments": "bohr magneton",
    "spin_angles": "degree",
    "orbital_moments": "bohr magneton",
    "dipole": "debye",
    "forces": "eV/angstrom",
    "grid_cutoffs": "Ry",
    "seconds": "s",
    "scf_seconds": "s",
    "first_step": "eV",
    "seconds_of_parts": "s",
}


@dataclass(frozen=True)
class Release:
    """Releases of a program whose files mean the same.

    :param title: as messages and tables call them, e.g. `4.1`.
    :param pattern: regular expression that their version number matches from its beginning, as the program prints it.
    :param hartree: eV, with which the program converts its energies.
    :param bohr: Angstrom, with which it converts its lengths.
    """

    title: str
    pattern: str
    hartree: float = HARTREE_TO_EV
    bohr: float = BOHR_TO_ANGSTROM

    @property
    def rydberg(self) -> float:
        """eV."""
        return self.hartree / 2


@dataclass(frozen=True)
class Program:
    """An executable that labels need, registered by `aiida-deeph setup codes --OPTION PATH`.

    :param name: of its code, and what options about it begin with.
    :param title: as its authors write it.
    :param plugin: entry point of the jobs that run it.
    :param option: how its path is given.
    :param families: label of the families of orbitals and pseudopotentials of its tiny job; None if it needs none.
    """

    name: str
    title: str
    plugin: str
    option: str
    families: str | None = None


@dataclass(frozen=True, kw_only=True)
class CodeRecord:
    """A DFT code.

    :param name: in configurations, folders and entry points (`deeph.label.NAME`).
    :param title: as its authors write it.
    :param releases: those whose files are known.
    :param convention: order and signs of its orbitals.
    :param spins: treatments of spin that are read.
    :param spin_orbit: whether spin-orbit coupling is.
    :param spin_note: on `spins`, for the table of the README.
    :param reader: class in the module `reader` of the code's folder.
    :param raw_files: patterns of what the reader needs, relative to a label's working directory; each has to fit at
        least one file that is not empty. None of a code without labels.
    :param plugin: entry point of the jobs of its labels; None of a code whose runs are imported.
    :param programs: what has to be registered for them, beyond the engine.
    :param command: help of `deeph-engine NAME`, in the module `command` of the code's folder: where the engine itself
        runs the code.
    :param basis: what a basis called `NAME:..` is: a format of numerical orbitals (`formats.FORMATS`), BASIS_LIBRARY or
        BASIS_FILE; None if there are none of its own.
    :param overlap: of what S(R) of any structure is computed without the code, for the table of the README.
    :param splits: published splits of a data set, of which molecule n is called `FILE/n`; those of none have none.
    :param makes_orbitals: each run makes its orbitals: their names say nothing, the files are those of the labels.
    :param start: module of the code's folder whose `start_hamiltonian(structure, settings)` gives H of the density that
        an SCF starts from; None if there is none.
    :param bands: whether a label can have bands at given k-points.
    :param restart: whether an SCF can start from the density of an earlier one.
    :param verified: on what, for the table of the README.
    :param not_supported: for the table of the README.
    :param citation: for model cards.
    """

    name: str
    title: str
    releases: tuple[Release, ...]
    convention: OrbitalConvention
    spins: tuple[SpinMode, ...]
    spin_orbit: bool = False
    spin_note: str = ""
    reader: str
    raw_files: tuple[str, ...] = ()
    plugin: str | None = None
    programs: tuple[Program, ...] = ()
    command: str | None = None
    basis: str | None = None
    overlap: str = "no"
    splits: tuple[str, ...] = ()
    makes_orbitals: bool = False
    start: str | None = None
    bands: bool = False
    restart: bool = False
    verified: str
    not_supported: str
    citation: str

    def release(self, version: str, where: object) -> Release:
        """Releases to which a version of the code belongs; see `known_release`."""
        return known_release(self.releases, version, where, self.title)


def known_release(releases: tuple[Release, ...], version: str, where: object, program: str) -> Release:
    """Releases to which a version belongs.

    :param program: whose version it is, for messages.
    :raises InputError: it is not known: its files may mean something else.
    """
    found = next((release for release in releases if re.match(release.pattern, version)), None)
    if found is None:
        expected = " or ".join(release.title for release in releases)
        raise InputError(f"version of {program} is not known", where=where, found=version, expected=expected)
    return found
