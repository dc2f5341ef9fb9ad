"""k-points of a structure, and bands against bands."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.domain.kpoints import KPoints, path_kpoints, special_points
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.observables.compare_bands import compare_bands

MEV = 1000.0
LAYER_PATHS = ("G-M-K-G", "G-X-M-G", "G-X-S-Y-G", "G-X-C-Y-G")


def default_path(structure: Structure) -> str:
    """A path through the special points of a chain, a layer or a crystal."""
    dimension = sum(structure.pbc)
    if dimension < 2:
        return "G-X" if dimension else "G-G"
    points = special_points(structure.cell, structure.pbc)
    if dimension == 2:
        return next(path for path in LAYER_PATHS if set(path.split("-")) <= set(points))
    import seekpath

    with warnings.catch_warnings():
        # seekpath calls spglib in a way that spglib is about to change.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = seekpath.get_path_orig_cell((structure.cell, [[0.0, 0.0, 0.0]], [1]), symprec=1e-3)["path"]
    pieces: list[list[str]] = []
    for start, end in found:
        if pieces and pieces[-1][-1] == start:
            pieces[-1].append(end)
        else:
            pieces.append([start, end])
    return "|".join("-".join(piece) for piece in pieces).replace("GAMMA", "G").replace("_", "")


def kpoints_along(structure: Structure, path: str | None, points_per_segment: int) -> KPoints:
    """k-points along a path; the default one if none is given. A molecule has Gamma alone."""
    if not any(structure.pbc):
        return KPoints(np.zeros((1, 3)), ((0, "G"),))
    return path_kpoints(path or default_path(structure), structure.cell, structure.pbc, points_per_segment)


@calcfunction
def band_kpoints(structure: orm.StructureData, settings: orm.Dict) -> orm.KpointsData:
    """k-points of a band structure.

    :param settings: `path` (e.g. `G-K-M-G`; None takes the lattice's own), `points_per_segment`.
    """
    values = settings.get_dict()
    points = kpoints_along(to_engine(structure), values.get("path"), values["points_per_segment"])
    node = orm.KpointsData()
    node.set_cell_from_structure(structure)
    node.set_kpoints(points.fractional.tolist())
    node.labels = [[index, name] for index, name in points.labels]
    return node


@calcfunction
def compare_band_structures(predicted: orm.BandsData, reference: orm.BandsData, settings: orm.Dict) -> orm.Dict:
    """Predicted bands against DFT at the same k-points: occupied bands and the lowest conduction band, aligned.

    :param settings: `n_occupied` (per spin channel), `alignment`, `window` in eV (see
        engine.observables.compare_bands).
    :returns: all of `BandComparison` in eV, and `band_mae_meV`, `band_max_meV`.
    """
    values = settings.get_dict()
    occupied = values["n_occupied"]
    comparison = compare_bands(
        energies_of(predicted),
        energies_of(reference),
        tuple(occupied) if isinstance(occupied, list) else int(occupied),
        alignment=values.get("alignment", "mean_occupied"),
        window=tuple(values["window"]) if values.get("window") else None,
    )
    result: dict[str, Any] = {**comparison.as_dict(), "energy_units": "eV"}
    result["band_mae_meV"] = MEV * comparison.mean
    result["band_max_meV"] = MEV * comparison.maximum
    return orm.Dict(result)


def energies_of(node: orm.BandsData) -> np.ndarray:
    """Bands in eV, shape (n_spin, n_k, n_bands)."""
    energies = np.asarray(node.get_bands())
    return energies[None] if energies.ndim == 2 else energies
