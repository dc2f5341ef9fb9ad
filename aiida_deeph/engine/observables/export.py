"""H(R) in an orthogonal basis as the files of Wannier90, which TBmodels, PythTB, sisl and WannierTools read.

Their tight-binding models know no overlap. With symmetric orthogonalisation, H~(k) = S(k)^(-1/2) H(k) S(k)^(-1/2)
(P.-O. Loewdin, J. Chem. Phys. 18, 365 (1950)), and H~(R) = 1/N sum over a mesh of k of exp(-2 pi i k.R) H~(k). On the
mesh the bands are the exact ones, between its points they are interpolated: S^(-1/2) reaches further than S, so that
the mesh decides the error, which is measured half-way between the points.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg as la
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import check_directions
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.linalg.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.system import require_memory, track

SUFFIXES = ("_hr.dat", "_centres.xyz", ".win")


@dataclass(frozen=True)
class OrthogonalHamiltonian:
    """H~(R) of one spin channel.

    :param cells: lattice vectors R, shape (n_cells, 3).
    :param degeneracies: how many equivalent R share the matrix of a point on the rim, shape (n_cells,).
    :param matrices: H~(R) in eV, not divided by the degeneracies, shape (n_cells, n, n).
    :param error: largest |E| difference of the bands half-way between the points of the mesh, eV.
    :param error_below: the same of the lower half of the bands, which the occupied ones are part of, eV.
    """

    cells: NDArray[np.int64]
    degeneracies: NDArray[np.int64]
    matrices: NDArray[np.complex128]
    error: float
    error_below: float

    def at(self, k: NDArray[np.float64]) -> NDArray[np.complex128]:
        """H~(k), shape (n, n), eV; k fractional."""
        phases = np.exp(2j * np.pi * (self.cells @ k)) / self.degeneracies
        return np.asarray(np.tensordot(phases, self.matrices, axes=1))


def orthogonalise(
    data: RealSpaceHamiltonian, mesh: tuple[int, int, int], where: str = "", *, show_progress: bool | None = None
) -> tuple[OrthogonalHamiltonian, ...]:
    """H~(R) of every spin channel.

    :param mesh: Gamma-centred.
    :raises DataError: H or S is missing, not Hermitian or S not positive definite at a k-point, or too little memory.
    :raises InputError: a mesh along a direction without periodicity.
    """
    matrices = bloch_matrices(data, where)
    n, n_k = matrices.n_rows, int(np.prod(mesh))
    require_memory(16.0 * n * n * (3 * n_k + 6), f"{n_k} dense matrices of {n} orbitals", "take a smaller mesh")
    axes = [np.arange(count) / count for count in mesh]
    kpoints = np.array(list(itertools.product(*axes)))
    check_directions(kpoints, data.structure.pbc, f"mesh {list(mesh)}")
    cells, degeneracies, index = _cells(mesh, data.structure.cell)
    middle = np.array([0.5 / count if count > 1 else 0.0 for count in mesh])
    channels = []
    for channel in range(matrices.n_channels):
        bloch = np.array([_loewdin(matrices, k, channel) for k in track(kpoints, "k-points", show=show_progress)])
        real_space = np.fft.fftn(bloch.reshape(*mesh, n, n), axes=(0, 1, 2)) / n_k
        found = real_space.reshape(n_k, n, n)[index]
        part = OrthogonalHamiltonian(cells, degeneracies, found, 0.0, 0.0)
        between = np.unique([middle * side for side in itertools.product((0, 1), repeat=3)], axis=0)
        errors = [
            np.abs(la.eigvalsh(part.at(k)) - la.eigvalsh(_loewdin(matrices, k, channel))) for k in between if k.any()
        ]
        worst = np.max(errors, axis=0) if errors else np.zeros(n)
        below = worst[: max(1, n // 2)]
        channels.append(OrthogonalHamiltonian(cells, degeneracies, found, float(worst.max()), float(below.max())))
    return tuple(channels)


def write_wannier90(
    prefix: Path, data: RealSpaceHamiltonian, channels: tuple[OrthogonalHamiltonian, ...]
) -> list[tuple[Path, OrthogonalHamiltonian]]:
    """Write `PREFIX_hr.dat`, `PREFIX_centres.xyz` and `PREFIX.win`, those of collinear spins as PREFIX_up and _down.

    Every orbital sits at its atom; rows are ordered as in the DeepH folder (spin up first, then down, per atom).

    :return: the files of H~(R), and what each holds.
    """
    names = [prefix] if len(channels) == 1 else [prefix.with_name(f"{prefix.name}_{s}") for s in ("up", "down")]
    structure, written = data.structure, []
    per_atom = data.rows_per_atom if len(channels) == 1 else data.orbitals_per_atom
    centres = np.repeat(structure.positions, per_atom, axis=0)
    for name, part in zip(names, channels, strict=True):
        hr, xyz, win = (name.with_name(name.name + suffix) for suffix in SUFFIXES)
        write_text_atomic(hr, _hr_text(part))
        atoms = [*(("X", r) for r in centres), *zip(structure.symbols, structure.positions, strict=True)]
        lines = [f"{symbol:<4}" + "".join(f"{x:18.10f}" for x in r) for symbol, r in atoms]
        write_text_atomic(xyz, "\n".join([str(len(lines)), "orbitals, then atoms, Angstrom", *lines]) + "\n")
        cell = ["".join(f"{x:18.10f}" for x in row) for row in structure.cell]
        atoms_text = [f"{s} " + "".join(f"{x:18.10f}" for x in r) for s, r in atoms[len(centres) :]]
        blocks = ["begin unit_cell_cart", "ang", *cell, "end unit_cell_cart", "begin atoms_cart", "ang", *atoms_text]
        write_text_atomic(win, "\n".join([f"num_wann = {len(centres)}", *blocks, "end atoms_cart"]) + "\n")
        written.append((hr, part))
    return written


def _loewdin(matrices: BlochMatrices, k: NDArray[np.float64], channel: int) -> NDArray[Any]:
    h, s = (matrix.toarray() for matrix in matrices.at(k, channel))
    values, u = la.eigh(s)
    if values[0] <= 0:
        raise DataError(
            "overlap is not positive definite",
            where=f"k = {np.round(k, 6).tolist()}",
            found=f"eigenvalue {values[0]:.3g} of S(k)",
            expected="all positive",
        )
    root = (u / np.sqrt(values)) @ u.conj().T
    product = root @ h @ root
    return np.asarray((product + product.conj().T) / 2)


def _cells(
    mesh: tuple[int, int, int], cell: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Shortest R of each class of the mesh, those of equal length all, with their number and the class.

    As Wannier90 does: the Wigner-Seitz cell of the lattice of supercells that belongs to the mesh.
    """
    size = np.array(mesh)
    shifts = np.array(list(itertools.product(*(range(-2, 2) if count > 1 else (0,) for count in mesh)))) * size
    cells, counts, classes = [], [], []
    for index, first in enumerate(itertools.product(*(range(count) for count in mesh))):
        images = np.array(first) + shifts
        length = np.linalg.norm(images @ cell, axis=1)
        nearest = images[length < length.min() + 1e-6]
        cells.append(nearest)
        counts += [len(nearest)] * len(nearest)
        classes += [index] * len(nearest)
    return np.concatenate(cells), np.array(counts), np.array(classes)


def _hr_text(part: OrthogonalHamiltonian) -> str:
    n = part.matrices.shape[1]
    comment = f"Loewdin-orthogonalised, bands between the k-points of the mesh to {part.error:.2g} eV"
    degeneracies = [
        "".join(f"{d:5d}" for d in part.degeneracies[start : start + 15])
        for start in range(0, len(part.degeneracies), 15)
    ]
    lines = [comment, f"{n:12d}", f"{len(part.cells):12d}", *degeneracies]
    rows, columns = (a.ravel() for a in np.meshgrid(np.arange(1, n + 1), np.arange(1, n + 1), indexing="xy"))
    for cell, matrix in zip(part.cells.tolist(), part.matrices, strict=True):
        values = matrix.T.ravel()  # the row runs fastest
        start = "".join(f"{x:5d}" for x in cell)
        lines += [
            f"{start}{i:5d}{j:5d}{v.real:18.12f}{v.imag:18.12f}"
            for i, j, v in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True)
        ]
    return "\n".join(lines) + "\n"


if TYPE_CHECKING:
    from ase.spectrum.band_structure import BandStructure


def bands_csv(
    kpoints: ArrayLike,
    energies: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    distances: ArrayLike | None = None,
    labels: Sequence[tuple[int, str]] = (),
    fermi_level: float | None = None,
) -> str:
    """One row per spin, k-point and band: spin, k, k1, k2, k3, band, energy_eV, and further columns for what is given.

    :param kpoints: fractional, shape (n_k, 3).
    :param energies: shape (n_spin, n_k, n_bands), eV.
    :param weights: spectral weights in the shape of the energies: `spectral_weight`.
    :param distances: length of the path up to each k-point, 1/Angstrom, shape (n_k,): `distance_per_A` and `label`.
    :param labels: names of some k-points by index.
    :param fermi_level: eV: `fermi_level_eV`, the same in each row.
    """
    k, e = np.asarray(kpoints, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    share = None if weights is None else np.asarray(weights, dtype=np.float64)
    path = None if distances is None else np.asarray(distances, dtype=np.float64)
    names, level = dict(labels), None if fermi_level is None else repr(float(fermi_level))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    titles = ["spectral_weight"] if share is not None else []
    titles += ["distance_per_A", "label"] if path is not None else []
    titles += ["fermi_level_eV"] if level is not None else []
    table.writerow(["spin", "k", "k1", "k2", "k3", "band", "energy_eV", *titles])
    for index in np.ndindex(e.shape):
        spin, point, band = index
        extra = [] if share is None else [repr(float(share[index]))]
        extra += [] if path is None else [repr(float(path[point])), names.get(point, "")]
        extra += [] if level is None else [level]
        table.writerow([spin, point, *(repr(float(x)) for x in k[point]), band, repr(float(e[index])), *extra])
    return text.getvalue()


def ase_band_structure(
    kpoints: ArrayLike,
    energies: ArrayLike,
    cell: ArrayLike,
    labels: Sequence[tuple[int, str]] = (),
    reference: float = 0.0,
) -> BandStructure:
    """The bands as ase knows them.

    :param kpoints: fractional, shape (n_k, 3).
    :param energies: shape (n_spin, n_k, n_bands), eV.
    :param cell: lattice vectors in rows, Angstrom.
    :param labels: (index, name) of some points.
    :param reference: energy that ase draws as zero, usually the Fermi level, eV.
    """
    from ase.cell import Cell
    from ase.dft.kpoints import BandPath
    from ase.spectrum.band_structure import BandStructure

    k = np.asarray(kpoints, dtype=np.float64)
    # ase wants names of one letter and digits, and a name to be one point.
    special: dict[str, Any] = {}
    path = []
    for n, (index, name) in enumerate(labels):
        plain = name if name[:1].isalpha() and (len(name) == 1 or name[1:].isdigit()) else f"P{n}"
        if plain in special and not np.allclose(special[plain], k[index]):
            plain = f"P{n}"
        special[plain] = k[index]
        adjacent = n and labels[n - 1][0] == index - 1 and len(labels) < len(k)
        path += [",", plain] if adjacent else [plain]
    lattice = Cell(np.asarray(cell, dtype=np.float64))  # type: ignore[no-untyped-call]
    band_path = BandPath(lattice, kpts=k, special_points=special, path="".join(path))  # type: ignore[no-untyped-call]
    return BandStructure(band_path, np.asarray(energies, dtype=np.float64), reference)  # type: ignore[no-untyped-call]
