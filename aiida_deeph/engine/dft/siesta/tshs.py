"""SIESTA's `.TSHS`, the double-precision matrices that TranSIESTA saves (`TS.HS.Save`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiida_deeph.engine.dft.siesta.fortran import FortranRecords
from aiida_deeph.engine.dft.siesta.matrices import SiestaMatrices, read_elements
from aiida_deeph.engine.errors import DataError, InputError


def read_tshs(path: Path) -> SiestaMatrices:
    """Read a `.TSHS` of version 1; species and shells are not in it.

    :raises InputError: not such a file, of an unknown version, or without H.
    :raises DataError: the file is cut off or damaged.
    """
    records = FortranRecords(path)
    if records.peek() != 4:
        raise InputError("not a TSHS file of a known version", where=path, found="no version number", expected="1")
    version = int(records.integers(1)[0])
    if version != 1:
        raise InputError("version of the TSHS is unknown", where=path, found=version, expected=1)
    n_atoms, n_orbitals, n_supercell, n_components, _ = (int(n) for n in records.integers(5))
    n_images = int(np.prod(records.integers(3)))
    if min(n_atoms, n_orbitals, n_components, n_images) < 1 or n_images * n_orbitals != n_supercell:
        raise DataError(
            "TSHS is damaged", where=path, found=f"{n_orbitals} orbitals, {n_supercell} in {n_images} cells"
        )
    geometry = records.reals(9 + 3 * n_atoms)
    gamma, _, only_overlap = (bool(n) for n in records.integers(3))
    if gamma and n_images != 1:
        raise DataError("TSHS is damaged", where=path, found=f"{n_images} cells at Gamma")
    if only_overlap:
        raise InputError("TSHS holds no H", where=path, remedy="run SIESTA with TS.HS.Save true and TS.onlyS false")
    records.raw(9 * 4 + 3 * 8)
    fermi_energy, n_electrons, _ = (float(x) for x in records.reals(3))
    records.raw(8)
    last = records.integers(n_atoms + 1)
    counts, columns, values = read_elements(records, n_orbitals, n_components + 1)
    images = np.zeros((1, 3), dtype=np.int64)
    if not gamma:
        images = records.integers(3 * n_images).reshape(-1, 3)
    cell, positions = np.split(geometry.reshape(-1, 3), [3])
    return SiestaMatrices(
        path,
        "TSHS 1",
        counts,
        columns,
        values[1:],
        values[0],
        n_images,
        n_electrons,
        images=images,
        cell=cell,
        positions=positions,
        orbitals_per_atom=np.diff(last),
        fermi_energy=fermi_energy,
    )
