"""Coefficients of chosen states in an HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.bands.bloch import BlochMatrices
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.spin import SpinMode
from aiida_deeph.engine.io.structure import atomic_path


def write_wavefunctions(
    path: Path,
    data: RealSpaceHamiltonian,
    matrices: BlochMatrices,
    kpoints: NDArray[np.float64],
    bands: NDArray[np.int64],
    energies: NDArray[np.float64],
    coefficients: NDArray[Any],
) -> Path:
    """Write C_(row, state) with C^dagger S(k) C = 1, complete or not at all.

    Datasets: `coefficients` (n_channels, n_k, n_rows, n_states), `energies` (n_channels, n_k, n_states) in eV,
    `kpoints` (n_k, 3) fractional, `bands` (n_states,) counted from the lowest, `atom`, `shell`, `l`, `m` and `spin` of
    each row, `cell` and `positions` in Angstrom, `pbc`, `symbols`. psi_k(r) is the sum of
    exp(2 pi i k.R) C phi(r - R) over R and rows.

    :param bands: indices of the states.
    """
    doubled = data.spin is SpinMode.NONCOLLINEAR
    rows: list[tuple[int, int, int, int]] = []
    for symbol in data.structure.symbols:
        orbitals = [(n, l, m) for n, l in enumerate(data.basis.shells_of(symbol)) for m in range(-l, l + 1)]
        rows += [(*orbital, spin) for spin in range(2 if doubled else 1) for orbital in orbitals]
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["energy_units"], file.attrs["length_units"] = "eV", "Angstrom"
        file["coefficients"] = coefficients
        file["energies"], file["kpoints"], file["bands"] = energies, kpoints, bands
        file["atom"] = matrices.atom_of_row
        for name, column in zip(("shell", "l", "m", "spin"), np.array(rows, dtype=np.int64).T, strict=True):
            file[name] = column
        file["cell"], file["positions"] = data.structure.cell, data.structure.positions
        file["pbc"] = list(data.structure.pbc)
        file["symbols"] = list(data.structure.symbols)
    return path
