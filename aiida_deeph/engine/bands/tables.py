"""Bands for other programs: CSV, and ase's band structure object."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from ase.spectrum.band_structure import BandStructure


def bands_csv(kpoints: ArrayLike, energies: ArrayLike, weights: ArrayLike | None = None) -> str:
    """One row per spin, k-point and band: spin, k, k1, k2, k3, band, energy_eV and, if unfolded, spectral_weight.

    :param kpoints: fractional, shape (n_k, 3).
    :param energies: shape (n_spin, n_k, n_bands), eV.
    :param weights: spectral weights in the shape of the energies.
    """
    k, e = np.asarray(kpoints, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["spin", "k", "k1", "k2", "k3", "band", "energy_eV", *(["spectral_weight"] if weights is not None else [])]
    )
    share = None if weights is None else np.asarray(weights, dtype=np.float64)
    for index in np.ndindex(e.shape):
        spin, point, band = index
        extra = [] if share is None else [repr(float(share[index]))]
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
    band_path = BandPath(Cell(np.asarray(cell, dtype=np.float64)), kpts=k, special_points=special, path="".join(path))
    return BandStructure(band_path, np.asarray(energies, dtype=np.float64), reference=reference)
