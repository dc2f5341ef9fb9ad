"""Wavefunctions on a grid, and cube files of them: of orbitals whose radial functions are tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.files import atomic_path
from aiida_deeph.engine.io.structure import to_ase
from aiida_deeph.engine.linalg.bloch import BlochMatrices
from aiida_deeph.engine.orbitals.harmonics import solid_harmonics
from aiida_deeph.engine.orbitals.radial import RadialBasis

Part = Literal["density", "real", "imaginary"]

BOX_MARGIN = 4.0
"""Of the box around a molecule, Angstrom."""


def on_grid(
    basis: RadialBasis, structure: Structure, coefficients: NDArray[Any], k: NDArray[np.float64], spacing: float
) -> NDArray[np.complex128]:
    """psi_k(r) = sum over R and orbitals of exp(2 pi i k.R) c phi(r - R - tau) at the points of one cell.

    :param coefficients: one per orbital, atom by atom, shape (n_orbitals,).
    :param k: fractional, shape (3,).
    :param spacing: of the grid, Angstrom at most.
    :return: shape (n1, n2, n3), Angstrom^(-3/2); point (i, j, k) at i/n1 a1 + j/n2 a2 + k/n3 a3.
    """
    cell, inverse = structure.cell, np.linalg.inv(structure.cell)
    size = np.maximum(1, np.ceil(np.linalg.norm(cell, axis=1) / spacing - 1e-9)).astype(np.int64)
    psi = np.zeros(int(size.prod()), dtype=np.complex128)
    periodic = np.array(structure.pbc)
    first = 0
    for symbol, position in zip(structure.symbols, structure.positions, strict=True):
        shells = basis.shells[symbol]
        reach = max(shell.extent for shell in shells) * basis.bohr
        # A sphere of that radius spans this much of each lattice vector.
        half = reach * np.linalg.norm(inverse, axis=0)
        centre = position @ inverse
        ranges = [
            np.arange(np.ceil((c - h) * n), np.floor((c + h) * n) + 1)
            for c, h, n in zip(centre, half, size, strict=True)
        ]
        index = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int64)
        vectors = ((index / size - centre) @ cell) / basis.bohr
        r = np.linalg.norm(vectors, axis=1)
        shift = index // size
        near = (r <= reach / basis.bohr) & (shift[:, ~periodic] == 0).all(axis=1)
        index, vectors, r, shift = index[near], vectors[near], r[near], shift[near]
        harmonics = solid_harmonics(vectors, max(shell.l for shell in shells))
        value = np.zeros(len(r), dtype=np.complex128)
        length = np.maximum(r, 1e-6)
        for shell in shells:
            l, width = shell.l, 2 * shell.l + 1
            angular = coefficients[first : first + width] @ harmonics[l * l : l * l + width]
            value += shell.at(length) / length**l * angular
            first += width
        # A point in another cell S shows the image of the atom in cell -S.
        place = np.ravel_multi_index(tuple((index - shift * size).T), tuple(size))
        np.add.at(psi, place, value * np.exp(-2j * np.pi * (shift @ k)))
    return np.asarray(psi.reshape(size) / basis.bohr**1.5)


def boxed(structure: Structure) -> tuple[Structure, NDArray[np.float64]]:
    """A structure in the cell whose grid shows it, and where that cell begins, Angstrom: a box around a molecule."""
    if any(structure.pbc):
        return structure, np.zeros(3)
    low, high = structure.positions.min(axis=0) - BOX_MARGIN, structure.positions.max(axis=0) + BOX_MARGIN
    return Structure(structure.symbols, structure.positions - low, np.diag(high - low), structure.pbc), low


def write_grid(path: Path, structure: Structure, values: NDArray[np.float64]) -> None:
    """A cube file of values on the grid of the cell or box of a structure.

    :param values: shape (n1, n2, n3), from `on_grid` for the structure that `boxed` gives.
    """
    from ase.io.cube import write_cube as ase_write_cube

    box, origin = boxed(structure)
    atoms = to_ase(box)
    atoms.positions += origin
    with atomic_path(path) as temporary, temporary.open("w") as text:
        ase_write_cube(text, atoms, np.ascontiguousarray(values), origin)  # type: ignore[no-untyped-call]


def elements_of(wavefunctions: Path) -> tuple[str, ...]:
    """Elements in a file of wavefunctions.

    :raises DataError: no file of wavefunctions.
    """
    try:
        with h5py.File(wavefunctions) as file:
            return tuple(sorted({symbol.decode() for symbol in file["symbols"][()]}))
    except (OSError, KeyError) as error:
        raise DataError("wavefunctions cannot be read", where=wavefunctions, found=error) from None


def write_cube(
    path: Path,
    wavefunctions: Path,
    basis: RadialBasis,
    *,
    band: int,
    k_index: int = 0,
    channel: int = 0,
    part: Part = "density",
    spacing: float = 0.2,
) -> float:
    """Write one state of a file of wavefunctions as a cube file, through ase.

    :param wavefunctions: HDF5 file of `deeph-engine bands --wavefunction N`.
    :param band: counted from the lowest, one of those in the file.
    :param part: |psi|^2 (1/Angstrom^3, both spinor components together), or a part of psi (Angstrom^(-3/2)).
    :param spacing: of the grid, Angstrom.
    :returns: integral of |psi|^2 over the cell, or the box of a molecule: one, up to the coarseness of the grid.
    :raises InputError: no such state, or a part of a spinor.
    :raises DataError: no file of wavefunctions.
    """
    try:
        with h5py.File(wavefunctions) as file:
            bands, kpoints, spin = file["bands"][()], file["kpoints"][()], file["spin"][()]
            shape, symbols = file["coefficients"].shape, [s.decode() for s in file["symbols"][()]]
            cell, positions = file["cell"][()], file["positions"][()]
            a, b, c = (bool(p) for p in file["pbc"][()])
            found = np.flatnonzero(bands == band)
            if len(found) and channel < shape[0] and k_index < shape[1]:
                coefficients = file["coefficients"][channel, k_index, :, int(found[0])]
    except (OSError, KeyError) as error:
        raise DataError("wavefunctions cannot be read", where=wavefunctions, found=error) from None
    if not len(found) or channel >= shape[0] or k_index >= shape[1]:
        raise InputError(
            "no such state",
            where=wavefunctions,
            found=f"band {band}, k-point {k_index}, spin channel {channel}",
            expected=f"bands {bands.tolist()}, {shape[1]} k-points, {shape[0]} channels",
        )
    if part != "density" and spin.any():
        raise InputError("a spinor has no single real part", where="part", found=part, expected="density")
    structure = Structure(tuple(symbols), positions, cell, (a, b, c))
    size = basis.orbital_basis.orbitals_per_atom(symbols).sum()
    if size != np.count_nonzero(spin == 0):
        raise InputError(
            "another basis", where="basis", found=f"{size} orbitals", expected=f"{np.count_nonzero(spin == 0)}"
        )
    box, _ = boxed(structure)
    components = [on_grid(basis, box, coefficients[spin == s], kpoints[k_index], spacing) for s in np.unique(spin)]
    density = np.sum([np.abs(psi) ** 2 for psi in components], axis=0)
    values = {"density": density, "real": components[0].real, "imaginary": components[0].imag}[part]
    write_grid(path, structure, values)
    return float(density.mean() * abs(np.linalg.det(box.cell)))


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
