"""SIESTA's `.HSX`: the layout of SIESTA up to 4.1 (0), and those of SIESTA 5 (1 and 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.siesta.fortran import FortranRecords
from aiida_deeph.engine.dft.siesta.matrices import SiestaMatrices, read_elements
from aiida_deeph.engine.errors import DataError, InputError

K_MESH_BYTES = 9 * 4 + 3 * 8
# Bytes of one species in the file: label, valence charge, number of orbitals.
_SPECIES = np.dtype([("label", "S20"), ("charge", "<f8"), ("n", "<i4")])


def read_hsx(path: Path) -> SiestaMatrices:
    """Read a `.HSX` of any layout; which one it has, the length of its first record tells.

    :raises InputError: not such a file, or of an unknown layout.
    :raises DataError: the file is cut off or damaged.
    """
    records = FortranRecords(path)
    first = records.peek()
    if first == 16:
        matrices = _read_0(records)
    elif first == 4:
        version = int(records.integers(1)[0])
        if version not in (1, 2):
            raise InputError(
                "layout of the HSX is unknown",
                where=path,
                found=f"version {version}",
                expected="0 (SIESTA up to 4.1), 1 or 2 (SIESTA 5)",
                remedy="write .TSHS as well (TS.HS.Save), or use a release of SIESTA that is known",
            )
        matrices = _read_1(records, version)
    else:
        raise InputError("not an HSX file", where=path, found=f"first record of {first} bytes", expected="4 or 16")
    if not records.at_end:
        raise DataError("bytes follow the last record", where=path)
    return matrices


def _read_0(records: FortranRecords) -> SiestaMatrices:
    """Layout 0: single precision, no cell, no positions, no Fermi level; each element has its displacement."""
    n_orbitals, n_supercell, n_components, n_elements = (int(n) for n in records.integers(4))
    if min(n_orbitals, n_supercell, n_components, n_elements) < 1 or n_supercell % n_orbitals:
        raise DataError(
            "HSX is damaged", where=records.path, found=f"{n_orbitals} orbitals, {n_supercell} in the supercell"
        )
    gamma = bool(records.integers(1)[0])
    if not gamma:
        records.raw(4 * n_supercell)  # orbital of the cell that each column is an image of
    elif n_supercell != n_orbitals:
        raise DataError("HSX is damaged", where=records.path, found=f"{n_supercell} orbitals at Gamma")
    counts, columns, values = read_elements(records, n_orbitals, n_components + 1, "<f4")
    n_electrons = float(records.reals(2)[0])
    displacements = records.rows(3 * counts, "<f4").astype(np.float64).reshape(-1, 3)
    labels, sizes = _species(records, int(records.integers(1)[0]))
    orbitals = tuple(tuple(_triple(records.integers(3)) for _ in range(n)) for n in sizes)
    n_atoms = int(records.integers(1)[0])
    species = records.integers(n_atoms) - 1
    records.raw(8 * n_orbitals)
    _check_species(records.path, species, sizes)
    return SiestaMatrices(
        records.path,
        "HSX 0",
        counts,
        columns,
        values[:-1],
        values[-1],
        n_supercell // n_orbitals,
        n_electrons,
        displacements=displacements,
        orbitals_per_atom=np.array(sizes)[species],
        species=species,
        labels=labels,
        orbitals=orbitals,
        single_precision=True,
    )


def _read_1(records: FortranRecords, version: int) -> SiestaMatrices:
    """Layouts 1 and 2, with everything in them; 2 has the k-mesh besides."""
    double = bool(records.integers(1)[0])
    n_atoms, n_orbitals, n_components, n_species, *repeats = (int(n) for n in records.integers(7))
    n_images = int(np.prod(repeats))
    if min(n_atoms, n_orbitals, n_components, n_species, n_images) < 1:
        raise DataError("HSX is damaged", where=records.path, found=f"{n_atoms} atoms, {n_orbitals} orbitals")
    cell_and_energies = records.reals(12)
    fermi_energy, n_electrons = float(cell_and_energies[9]), float(cell_and_energies[10])
    raw = bytes(records.raw(12 * n_images + 24 * n_atoms + 8 * n_atoms))
    images = np.frombuffer(raw, "<i4", 3 * n_images).astype(np.int64).reshape(-1, 3)
    positions = np.frombuffer(raw, "<f8", 3 * n_atoms, 12 * n_images).reshape(-1, 3)
    species, last = np.frombuffer(raw, "<i4", 2 * n_atoms, 12 * n_images + 24 * n_atoms).reshape(2, -1).astype(np.int64)
    species = species - 1
    labels, sizes = _species(records, n_species)
    orbitals = tuple(tuple(_triple(row) for row in records.integers(3 * n).reshape(-1, 3)) for n in sizes)
    _check_species(records.path, species, sizes)
    # A converter that comes with SIESTA 5 calls layout 2 version 1: the record of the k-mesh gives it away.
    if version == 2 or (records.peek() == K_MESH_BYTES and n_orbitals * 4 != K_MESH_BYTES):
        records.raw(K_MESH_BYTES)
    counts, columns, values = read_elements(records, n_orbitals, n_components + 1, "<f8" if double else "<f4")
    orbitals_per_atom = np.diff(last, prepend=0)
    if not np.array_equal(orbitals_per_atom, np.array(sizes)[species]):
        raise DataError("numbers of orbitals do not fit the species", where=records.path)
    return SiestaMatrices(
        records.path,
        f"HSX {version}",
        counts,
        columns,
        values[:-1],
        values[-1],
        n_images,
        n_electrons,
        images=images,
        cell=cell_and_energies[:9].reshape(3, 3),
        positions=positions,
        orbitals_per_atom=orbitals_per_atom,
        species=species,
        labels=labels,
        orbitals=orbitals,
        fermi_energy=fermi_energy,
        single_precision=not double,
    )


def _species(records: FortranRecords, count: int) -> tuple[tuple[str, ...], list[int]]:
    """Label and number of orbitals of each species."""
    table = np.frombuffer(records.raw(count * _SPECIES.itemsize), _SPECIES)
    ghosts = [bytes(label).decode("ascii", "replace").strip() for label in table["label"][table["charge"] == 0]]
    if ghosts:
        raise InputError(
            "atoms without nucleus are not supported",
            where=records.path,
            found=f"species {', '.join(ghosts)} of no charge",
            expected="orbitals on atoms only",
        )
    return tuple(str(label, "ascii", "replace").strip() for label in table["label"]), [int(n) for n in table["n"]]


def _triple(row: NDArray[np.int64]) -> tuple[int, int, int]:
    n, l, zeta = (int(x) for x in row)
    return n, l, zeta


def _check_species(path: Path, species: NDArray[np.int64], sizes: list[int]) -> None:
    if not len(species) or species.min() < 0 or species.max() >= len(sizes):
        raise DataError("species of an atom does not exist", where=path, found=(species + 1).tolist()[:10])
