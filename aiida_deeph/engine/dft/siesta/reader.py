"""SIESTA output -> H(R), S(R)."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from aiida_deeph.engine.dft.base import HamiltonianReader
from aiida_deeph.engine.dft.orbital_entries import EntryPlaces, entry_places
from aiida_deeph.engine.dft.record import Release
from aiida_deeph.engine.dft.siesta.code import RECORD
from aiida_deeph.engine.dft.siesta.energy_files import read_fermi_energy
from aiida_deeph.engine.dft.siesta.geometry_files import OrbitalIndex, read_orbital_index, read_xv
from aiida_deeph.engine.dft.siesta.hsx import read_hsx
from aiida_deeph.engine.dft.siesta.images import images_of_elements
from aiida_deeph.engine.dft.siesta.matrices import Real, SiestaMatrices
from aiida_deeph.engine.dft.siesta.output import SiestaOutput, find_output, read_output
from aiida_deeph.engine.dft.siesta.settings import digests_of_orbitals
from aiida_deeph.engine.dft.siesta.tshs import read_tshs
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import orbital_map
from aiida_deeph.engine.errors import DataError, InputError

SPINS = {1: SpinMode.NONE, 2: SpinMode.COLLINEAR, 4: SpinMode.NONCOLLINEAR, 8: SpinMode.NONCOLLINEAR}
SPIN_NAMES = {1: "none", 2: "polarized", 4: "non-collinear", 8: "spin-orbit"}


class SiestaReader(HamiltonianReader):
    """Reads a SIESTA run with `SaveHS true`: LABEL.HSX and/or LABEL.TSHS, and the main output in one folder.

    Of the two files the one in double precision is taken. LABEL.XV gives the elements, and the geometry where the
    matrices lack it (HSX of SIESTA 4); LABEL.ORB_INDX gives the shells where they lack them (TSHS).
    """

    record = RECORD

    def _read(self, directory: Path) -> RealSpaceHamiltonian:
        """H(R) and S(R) of one run.

        :raises InputError: no SIESTA run, one without matrices, or of an unknown version.
        :raises DataError: the run did not converge, its files do not belong together, one is damaged, or H is folded.
        """
        label = find_label(directory)
        path = find_output(directory)
        output = read_output(path)
        units = RECORD.release(str(output.version), path)
        raw = _completed(_read_matrices(directory, label), directory, label)
        assert raw.orbitals_per_atom is not None and raw.cell is not None and raw.positions is not None
        symbols, basis = _species(raw, directory, label)
        cells, columns, cell_vectors = images_of_elements(raw, _orbital_index(directory, label))
        sizes = raw.orbitals_per_atom.astype(np.int64)
        orbitals = orbital_map(basis, symbols, RECORD.convention)
        places = entry_places(raw.rows, columns, cells, cell_vectors, sizes, orbitals)
        return RealSpaceHamiltonian(
            Structure(symbols, raw.positions * units.bohr, raw.cell * units.bohr),
            basis,
            SPINS[len(raw.hamiltonian)],
            _hamiltonian(raw.hamiltonian * units.rydberg, places),
            places.spatial(raw.overlap),
            _fermi_energy(raw, output, directory, units),
            raw.n_electrons,
            {
                "code": RECORD.name,
                "version": output.version,
                "converged": True,
                "settings": {
                    **output.settings,
                    **digests_of_orbitals(set(symbols), directory),
                    "label": label,
                    "file": raw.layout,
                    "spin": SPIN_NAMES[len(raw.hamiltonian)],
                    "scf_cycles": len(output.scf_energies),
                    "single_precision": raw.single_precision,
                },
                "energy_eV": output.energy,
            },
            _moments(output, len(symbols)) if len(raw.hamiltonian) > 1 else None,
        )


def _moments(output: SiestaOutput, n_atoms: int) -> Moments | None:
    """Those of the input; atoms that it does not name have none."""
    if output.initial_moments is None:
        return None
    nominal = np.zeros((n_atoms, 3))
    for number, moment in output.initial_moments.items():
        if not 0 < abs(number) <= n_atoms:
            raise DataError("moment of no atom", where="DM.InitSpin", found=number, expected=f"1 to {n_atoms}")
        nominal[number - 1 if number > 0 else number] = moment
    return Moments(nominal)


def find_label(directory: Path) -> str:
    """`SystemLabel` of the one run in a folder.

    :raises InputError: there are no matrices, or those of several runs.
    """
    found = sorted({path.stem for suffix in ("HSX", "TSHS") for path in directory.glob(f"*.{suffix}")})
    if not found:
        raise InputError(
            "no HSX or TSHS here", where=directory, expected="LABEL.HSX", remedy="set SaveHS true and run SIESTA again"
        )
    if len(found) > 1:
        raise InputError("several runs in one folder", where=directory, found=", ".join(found), expected="one")
    return found[0]


def _read_matrices(directory: Path, label: str) -> SiestaMatrices:
    """The matrices in double precision if there are any; what else the files say of the atoms is joined."""
    hsx, tshs = directory / f"{label}.HSX", directory / f"{label}.TSHS"
    one = read_hsx(hsx) if hsx.exists() else None
    if one is not None and not one.single_precision:
        return one
    other = read_tshs(tshs) if tshs.exists() else None
    if one is None or other is None:
        found = one or other
        assert found is not None
        return found
    if not np.array_equal(one.columns, other.columns) or np.abs(one.overlap - other.overlap).max() > 1e-5:
        raise DataError(
            "files of different runs",
            where=directory,
            found=f"{hsx.name} and {tshs.name} differ",
            expected="one run",
            remedy="run SIESTA again in an empty folder",
        )
    return replace(other, species=one.species, labels=one.labels, orbitals=one.orbitals)


def _completed(raw: SiestaMatrices, directory: Path, label: str) -> SiestaMatrices:
    """With the geometry, which the HSX of SIESTA 4 lacks.

    :raises InputError: LABEL.XV is needed and missing.
    """
    if raw.positions is not None:
        return raw
    path = directory / f"{label}.XV"
    if not path.exists():
        raise InputError(
            "geometry is missing", where=directory, expected=path.name, remedy="keep this file, or TS.HS.Save true"
        )
    xv = read_xv(path)
    if raw.orbitals_per_atom is None or len(xv.positions) != len(raw.orbitals_per_atom):
        raise DataError("files of different runs", where=path, found=f"{len(xv.positions)} atoms")
    return replace(raw, cell=xv.cell, positions=xv.positions)


def _orbital_index(directory: Path, label: str) -> OrbitalIndex | None:
    path = directory / f"{label}.ORB_INDX"
    return read_orbital_index(path) if path.exists() else None


def _species(raw: SiestaMatrices, directory: Path, label: str) -> tuple[tuple[str, ...], OrbitalBasis]:
    """Element of each atom, and the shells of each element.

    :raises InputError: the shells are nowhere, or an atom has no nucleus.
    :raises DataError: a label is no element's and there is no XV, or an element has two bases.
    """
    assert raw.orbitals_per_atom is not None
    n_atoms = len(raw.orbitals_per_atom)
    if raw.species is not None:
        labels = [raw.labels[n] for n in raw.species]
        ls = [[l for _, l, _ in raw.orbitals[n]] for n in raw.species]
    else:
        index = _orbital_index(directory, label)
        if index is None:
            raise InputError(
                "shells are missing", where=directory, expected=f"{label}.ORB_INDX or {label}.HSX beside {label}.TSHS"
            )
        if not np.array_equal(np.bincount(index.atoms, minlength=n_atoms), raw.orbitals_per_atom):
            raise DataError("files of different runs", where=index.path, found="other numbers of orbitals")
        bounds = np.searchsorted(index.atoms, np.arange(n_atoms + 1))
        labels = [index.labels[n] for n in bounds[:-1]]
        ls = [index.ls[a:b].tolist() for a, b in pairwise(bounds)]
    xv = directory / f"{label}.XV"
    numbers = read_xv(xv).atomic_numbers if xv.exists() else np.array([_atomic_number(name, raw) for name in labels])
    if len(numbers) != n_atoms:
        raise DataError("files of different runs", where=xv, found=f"{len(numbers)} atoms", expected=n_atoms)
    if (numbers <= 0).any() or (numbers >= len(chemical_symbols)).any():
        raise InputError(
            "atoms without nucleus are not supported",
            where=f"{xv if xv.exists() else raw.path}, atom {int(np.flatnonzero(numbers <= 0)[0]) + 1}",
            expected="orbitals on atoms only",
        )
    symbols = tuple(chemical_symbols[n] for n in numbers)
    basis = OrbitalBasis({})
    for symbol, orbital_ls in dict.fromkeys(zip(symbols, map(tuple, ls), strict=True)):
        basis = basis.union(OrbitalBasis({symbol: _shells(list(orbital_ls), raw)}))
    return symbols, basis


def _atomic_number(label: str, raw: SiestaMatrices) -> int:
    """Of the element with whose symbol a species label begins: `Fe_up` is iron, `C_ghost` nothing."""
    if "ghost" in label.lower():
        return -1
    match = re.match(r"[A-Z][a-z]?", label)
    for name in (match.group(), match.group()[0]) if match else ():
        if name in atomic_numbers:
            return int(atomic_numbers[name])
    raise DataError("element of a species is unknown", where=raw.path, found=label, expected="LABEL.XV beside it")


def _shells(ls: list[int], raw: SiestaMatrices) -> tuple[int, ...]:
    """l of each shell from the l of each orbital."""
    shells: list[int] = []
    place = 0
    while place < len(ls):
        l = ls[place]
        if not 0 <= l < 10 or ls[place : place + 2 * l + 1] != [l] * (2 * l + 1):
            raise DataError("orbitals of an atom do not form shells", where=raw.path, found=ls)
        shells.append(l)
        place += 2 * l + 1
    return tuple(shells)


def _hamiltonian(H: Real, places: EntryPlaces) -> BlockSparseMatrix:
    """H(R) of SIESTA's spin components.

    2: uu, dd. 4: uu = H1, dd = H2, ud = H3 - i H4, du = its adjoint. 8 (spin-orbit): uu = H1 - i H5, dd = H2 - i H6,
    ud = H7 - i H8, du = H3 + i H4, which is the transpose of what SIESTA's manual writes down: there the first orbital
    is the one in cell R.
    """
    if len(H) == 1:
        return places.spatial(H[0])
    if len(H) == 2:
        return places.spinful(H[0], H[1])
    if len(H) == 4:
        return places.spinful(H[0], H[1], H[2] - 1j * H[3], H[2] + 1j * H[3])
    return places.spinful(H[0] - 1j * H[4], H[1] - 1j * H[5], H[6] - 1j * H[7], H[2] + 1j * H[3])


def _fermi_energy(raw: SiestaMatrices, output: SiestaOutput, directory: Path, units: Release) -> float | None:
    """eV; with matrices that have one, it must be that of the output.

    :raises DataError: it is not.
    """
    if raw.fermi_energy is None:
        return read_fermi_energy(raw.path.with_suffix(".EIG")) or output.fermi_energy
    energy = raw.fermi_energy * units.rydberg
    if output.fermi_energy is not None and abs(energy - output.fermi_energy) > 2e-5 + 1e-5 * abs(energy):
        raise DataError(
            "files of different runs",
            where=directory,
            found=f"Fermi level {energy:.6f} eV in {raw.path.name}, {output.fermi_energy:.6f} in the output",
            expected="one run",
            remedy="run SIESTA again in an empty folder",
        )
    return energy
