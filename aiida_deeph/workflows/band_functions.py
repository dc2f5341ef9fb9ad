"""k-points of a structure, and bands against bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.domain.kpath import structure_kpoints
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.observables.compare_bands import compare_bands

MEV = 1000.0


def check_path(structure: orm.StructureData, path: orm.Str | str | None, where: str) -> str | None:
    """Message if a path leads through points that the lattice of a structure does not have.

    :param where: name of the structure.
    """
    try:
        structure_kpoints(to_engine(structure), path.value if isinstance(path, orm.Str) else path, 2)
    except DeepHError as error:
        return f"{where}: {error}"
    return None


@calcfunction
def band_kpoints(structure: orm.StructureData, settings: orm.Dict) -> orm.KpointsData:
    """k-points of a band structure.

    :param settings: `path` (e.g. `G-K-M-G`; None takes the lattice's own), `points_per_segment`.
    """
    values = settings.get_dict()
    points = structure_kpoints(to_engine(structure), values.get("path"), values["points_per_segment"])
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
