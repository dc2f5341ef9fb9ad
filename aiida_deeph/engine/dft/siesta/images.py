"""Which lattice vector R each matrix element of SIESTA belongs to."""

from __future__ import annotations

import numpy as np

from aiida_deeph.engine.dft.siesta.geometry_files import OrbitalIndex
from aiida_deeph.engine.dft.siesta.matrices import Integers, SiestaMatrices
from aiida_deeph.engine.errors import DataError, InputError

# What remains when a displacement is brought to a lattice vector, in lattice vectors: single precision allows 1e-6.
TOLERANCE = 1e-4


def images_of_elements(raw: SiestaMatrices, index: OrbitalIndex | None) -> tuple[Integers, Integers, Integers]:
    """Index of each element's R, its column in the cell, and the distinct R, shapes (n_elements,) twice, (n_cells, 3).

    R is such that r_j + R - r_i is the vector between the orbitals, the positions being those of the file, unwrapped.

    :param index: orbitals with their radii; needed by runs without auxiliary supercell alone.
    :raises InputError: a run without auxiliary supercell, and no radii to tell whether it matters.
    :raises DataError: displacements do not fit the geometry, or H is folded over R.
    """
    if raw.n_images == 1:
        cells, vectors = _nearest_images(raw, index)
        return cells, raw.columns, vectors
    # A table is faster than a division of every element.
    image, orbital = np.divmod(np.arange(len(raw.counts) * raw.n_images, dtype=np.int32), len(raw.counts))
    if raw.images is not None:
        return image[raw.columns], orbital[raw.columns], raw.images
    assert raw.displacements is not None and raw.cell is not None and raw.positions is not None
    atom = _atom_of_orbital(raw)
    i, j = atom[raw.rows], atom[raw.columns % len(raw.counts)]
    translations = (raw.displacements - raw.positions[j] + raw.positions[i]) @ np.linalg.inv(raw.cell)
    cells = np.rint(translations).astype(np.int64)
    residue = float(np.abs(translations - cells).max(initial=0.0))
    if residue > TOLERANCE:
        raise DataError(
            "geometry does not fit the matrices",
            where=raw.path,
            found=f"displacements off by {residue:.1e} lattice vectors",
            expected="LABEL.XV of the same geometry, not of the next step of a relaxation",
            remedy="label fixed geometries, or set TS.HS.Save true",
        )
    low = cells.min(axis=0)
    span = cells.max(axis=0) - low + 1
    keys = np.ravel_multi_index(tuple((cells - low).T), tuple(span))
    distinct, place = np.unique(keys, return_inverse=True)
    return place.reshape(-1), orbital[raw.columns], np.column_stack(np.unravel_index(distinct, tuple(span))) + low


def _nearest_images(raw: SiestaMatrices, index: OrbitalIndex | None) -> tuple[Integers, Integers]:
    """R of a run at Gamma alone: the nearest image, if no other one is in reach of the orbitals.

    :raises InputError: no radii are known.
    :raises DataError: orbitals reach two images: their matrix elements are one sum in the file.
    """
    assert raw.cell is not None and raw.positions is not None and raw.orbitals_per_atom is not None
    if index is None:
        raise InputError(
            "a run at Gamma without the orbitals' radii",
            where=raw.path,
            expected="LABEL.ORB_INDX, to tell whether orbitals reach two images of an atom",
            remedy="keep this file, or set ForceAuxCell true",
        )
    n = len(raw.orbitals_per_atom)
    radii = np.zeros(n)
    np.maximum.at(radii, index.atoms, index.radii)
    pairs = np.unique(_atom_of_orbital(raw)[np.column_stack([raw.rows, raw.columns])], axis=0)
    i, j = pairs.T
    grid = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = raw.positions[j] - raw.positions[i]
    origin = -np.rint(vectors @ np.linalg.inv(raw.cell)).astype(np.int64)
    images = origin[:, None] + grid
    distances = np.linalg.norm(vectors[:, None] + images @ raw.cell, axis=2)
    order = np.argsort(distances, axis=1)
    second = np.take_along_axis(distances, order[:, 1:2], axis=1)[:, 0]
    folded = second < radii[i] + radii[j]
    if folded.any():
        a, b = pairs[np.flatnonzero(folded)[0]] + 1
        raise DataError(
            "H is folded over R",
            where=f"{raw.path}, atoms {a} and {b}",
            found="orbitals that reach two images, in a run at Gamma without auxiliary supercell",
            expected="each image by itself",
            remedy="set ForceAuxCell true, or use a k-mesh",
        )
    nearest = np.take_along_axis(images, order[:, :1, None], axis=1)[:, 0]
    table = np.zeros((n, n), dtype=np.int64)
    table[i, j] = np.arange(len(pairs))
    atom = _atom_of_orbital(raw)
    return table[atom[raw.rows], atom[raw.columns]], nearest


def _atom_of_orbital(raw: SiestaMatrices) -> Integers:
    assert raw.orbitals_per_atom is not None
    return np.repeat(np.arange(len(raw.orbitals_per_atom)), raw.orbitals_per_atom)
