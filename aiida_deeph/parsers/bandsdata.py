"""Eigenvalues of the engine as BandsData that `verdi data core.bands show` understands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from aiida.orm import BandsData, KpointsData

from aiida_deeph.parsers.base import InvalidOutputError


def make_bands(
    energies: Any,
    kpoints: Any,
    *,
    weights: Any = None,
    labels: Sequence[tuple[int, str]] | None = None,
    cell: Any = None,
    like: KpointsData | None = None,
    spectral_weights: Any = None,
    ghosts: Any = None,
    fermi_energy: float | None = None,
) -> BandsData:
    """Bands in eV.

    :param energies: shape (n_k, n_bands) or (n_spin, n_k, n_bands), eV; one spin channel is stored without that axis.
    :param kpoints: fractional, shape (n_k, 3).
    :param weights: of the points of a mesh, shape (n_k,).
    :param labels: names of some points by index.
    :param cell: lattice vectors in rows, Angstrom.
    :param like: the input node: its cell, periodicity and labels are taken where they are not given.
    :param spectral_weights: of unfolded bands, in the shape of the energies: array `spectral_weights` of the node.
    :param ghosts: [spin, k, band] of states in the near-null space of S, shape (n_ghosts, 3): array `ghost_states`.
    :param fermi_energy: eV: attribute `fermi_energy` of the node, the same for all DFT codes.
    :raises InvalidOutputError: the shapes do not fit.
    """
    energies, kpoints = np.asarray(energies, dtype=np.float64), np.asarray(kpoints, dtype=np.float64)
    if energies.ndim == 3 and len(energies) == 1:
        energies = energies[0]
    if kpoints.ndim != 2 or energies.ndim not in (2, 3) or energies.shape[-2] != len(kpoints):
        raise InvalidOutputError(f"bands: found energies {energies.shape} and k-points {kpoints.shape}")
    known = like.base.attributes.all if like is not None else {}
    cell = cell if cell is not None else known.get("cell")
    labels = labels or (like.labels if like is not None and "mesh" not in known else None)
    node = BandsData()
    if cell is not None:
        node.set_cell(cell, [known.get(f"pbc{n}", True) for n in (1, 2, 3)])
    node.set_kpoints(kpoints, weights=None if weights is None else np.asarray(weights, dtype=np.float64))
    if labels:
        node.labels = [(int(index), str(name)) for index, name in labels]
    node.set_bands(energies, units="eV")
    if spectral_weights is not None:
        shares = np.asarray(spectral_weights, dtype=np.float64).reshape(-1, *energies.shape[-2:])
        node.set_array("spectral_weights", shares if energies.ndim == 3 else shares[0])
    if ghosts:
        node.set_array("ghost_states", np.asarray(ghosts, dtype=np.int64))
    if fermi_energy is not None:
        node.base.attributes.set_many({"fermi_energy": fermi_energy, "fermi_energy_units": "eV"})
    return node
