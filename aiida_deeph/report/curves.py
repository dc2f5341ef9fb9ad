"""Bands and curves of finished jobs as plain arrays on one zero of energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.observables.base import Observable
from aiida_deeph.engine.observables.figures import path_distances
from aiida_deeph.engine.observables.registry import OBSERVABLES


def fermi_level_of(node: orm.Data) -> float | None:
    """Fermi level of bands or of a density of states, eV: what the node says, else the job that made it.

    Nodes carry it as `fermi_energy`; older predictions have it among the parameters of their job as `fermi_level`.
    """
    maker = node.creator
    parameters = maker.outputs.output_parameters.get_dict() if maker and "output_parameters" in maker.outputs else {}
    for source, key in (
        (node.base.attributes.all, "fermi_energy"),
        (parameters, "fermi_level"),
        (parameters, "fermi_energy"),
    ):
        value = source.get(key)
        if isinstance(value, int | float) and source.get(f"{key}_units", "eV") == "eV":
            return float(value)
    return None


def parameters_of(node: Any) -> dict[str, Any]:
    """What the job that made a node found out besides."""
    maker = node.creator
    return maker.outputs.output_parameters.get_dict() if maker and "output_parameters" in maker.outputs else {}


def kind_of(node: Any) -> str:
    """What the legend calls bands."""
    from aiida_deeph.calculations.observable import class_name

    maker = node.creator
    ours = maker is not None and maker.process_label in map(class_name, OBSERVABLES)
    return "H(R)" if ours else "DFT"


def aligned(node: Any, other: Any, absolute: bool) -> tuple[np.ndarray, float]:
    """Energies of other bands at the same k-points on the zero of energy of the first, and how far they were moved, eV.

    :raises InputError: other k-points, or nothing tells how they lie to each other.
    """
    from aiida_deeph.engine.observables.compare_bands import compare_bands

    ours, theirs = (np.array(bands_values(each)["energies"]) for each in (node, other))
    if theirs.shape[:2] != ours.shape[:2]:
        raise InputError(
            "bands on other k-points", where="--against", found=theirs.shape[:2], expected=f"{ours.shape[:2]}"
        )
    if absolute or other.uuid == node.uuid:
        return theirs, 0.0
    occupied = parameters_of(node).get("n_occupied") or parameters_of(other).get("n_occupied")
    levels = [fermi_level_of(each) for each in (node, other)]
    if occupied is not None:
        shift = -compare_bands(ours, theirs, tuple(occupied) if isinstance(occupied, list) else int(occupied)).shift
    elif levels[0] is not None and levels[1] is not None:
        shift = levels[0] - levels[1]
    else:
        raise InputError(
            "zero of energy unknown",
            where="--against",
            found="neither occupied bands nor both Fermi levels",
            remedy="--absolute draws energies as they are",
        )
    return theirs + shift, shift


def bands_values(node: Any) -> dict[str, Any]:
    """Plain values of BandsData: energies [spin][k][band] in eV, fractional k-points, labels, cell in Angstrom."""
    energies = np.asarray(node.get_bands())
    arrays = set(node.get_arraynames())
    values = {
        "kpoints": np.asarray(node.get_kpoints()).tolist(),
        "energies": (energies[None] if energies.ndim == 2 else energies).tolist(),
        "labels": [[int(index), str(name)] for index, name in node.labels or []],
        "cell": np.asarray(node.base.attributes.get("cell", np.eye(3).tolist())).tolist(),
    }
    if "weights" in arrays:
        values["weights"] = node.get_array("weights").tolist()
    if "spectral_weights" in arrays:
        values["spectral_weights"] = node.get_array("spectral_weights").reshape(np.shape(values["energies"])).tolist()
    if "ghost_states" in arrays:
        values["ghost_states"] = node.get_array("ghost_states").tolist()
    return values


def bands_table(values: dict[str, Any], fermi_level: float | None) -> str:
    """`bands_values` as CSV with the path, its labels and the Fermi level in eV."""
    from aiida_deeph.engine.observables.export import bands_csv

    distances = path_distances(values["kpoints"], values["cell"], values["labels"])
    weights, path = values.get("spectral_weights"), {"distances": distances, "labels": values["labels"]}
    return bands_csv(values["kpoints"], values["energies"], weights, fermi_level=fermi_level, **path)


def curves_of(observable: type[Observable], node: Any) -> dict[str, np.ndarray]:
    """Arrays of an observable by name.

    :raises InputError: it is another kind of array.
    """
    arrays = {name: node.get_array(name) for name in node.get_arraynames()}
    wanted = (observable.ABSCISSA, observable.name)
    if not set(wanted) <= set(arrays):
        raise InputError(
            f"no {observable.title}", where=f"node {node.pk}", found=sorted(arrays), expected=", ".join(wanted)
        )
    return arrays


def parts_of(name: str, arrays: dict[str, np.ndarray], by: str) -> dict[str, np.ndarray]:
    """Curves of one kind of part, `NAME_ELEMENT`, `NAME_ELEMENT_SHELL` or `NAME_atom_N`, as the legend calls them."""
    special = {name, f"{name}_error", f"{name}_by_spin"}
    words = {key: key.removeprefix(f"{name}_").split("_") for key in arrays if key.startswith(f"{name}_")}
    kinds = {
        key: "atom" if found[0] == "atom" else ("element", "shell")[min(len(found), 2) - 1]
        for key, found in words.items()
    }
    chosen = sorted(key for key, kind in kinds.items() if kind == by and key not in special)
    return {" ".join(words[key]): arrays[key] for key in chosen}
