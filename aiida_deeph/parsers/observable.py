"""One parser for every observable: its arrays become a node, all else `output_parameters`."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import ArrayData, SinglefileData

from aiida_deeph.calculations.observable import output_file
from aiida_deeph.engine.observables.base import Observable
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.base import EngineParser, InvalidOutputError

COST_UNITS = {"seconds": "s", "peak_memory_GiB": "GiB"}
# Of no use beside the nodes that the result came from.
DROPPED = ("cell", "folder")


class ObservableParser(EngineParser):
    """Attaches the arrays and files of an observable."""

    def attach(self) -> ExitCode | None:
        observable: type[Observable] = self.node.process_class.OBSERVABLE
        self.UNITS = {**observable.UNITS, **COST_UNITS}
        name, inputs = output_file(observable), self.node.inputs
        values = self.read_json(name)
        arrays = {*observable.ARRAYS, *(f"{key}_units" for key in observable.ARRAYS), *DROPPED}
        parameters = {key: value for key, value in values.items() if key not in arrays}
        if "share" in values:  # its solutions stay where they are until they are joined
            self.out_parameters(parameters)
            return None
        try:
            if observable.IS_BANDS:
                like = inputs.kpoints if "kpoints" in inputs else None
                self.out(observable.name, bands_of(values, like))
                parameters["n_ghost_states"] = len(values.get("ghost_states") or ())
            elif observable.ARRAYS:
                self.out(observable.name, arrays_of(observable, values))
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidOutputError(f"{name}: {type(error).__name__} {error}") from None
        asked = inputs.parameters.get_dict() if "parameters" in inputs else {}
        for label, (asked_by, field) in observable.FILES.items():
            if asked.get(asked_by):
                file = self.temporary_file(str(observable.Config.model_fields[field].default))
                self.out(label, SinglefileData(file))
        self.out_parameters(parameters)
        return None


def bands_of(values: dict[str, Any], like: Any) -> ArrayData:
    """Energies at k-points as BandsData.

    :param like: the input node, whose cell and labels are taken where the result has none.
    """
    node = make_bands(
        values["energies"],
        values["kpoints"],
        weights=values.get("weights"),
        labels=values.get("labels"),
        cell=values.get("cell"),
        like=like,
        spectral_weights=values.get("spectral_weights"),
        ghosts=values.get("ghost_states"),
    )
    if values.get("fermi_level") is not None:  # under the key that bands of DFT runs have
        node.base.attributes.set_many({"fermi_energy": float(values["fermi_level"]), "fermi_energy_units": "eV"})
    return node


def arrays_of(observable: type[Observable], values: dict[str, Any]) -> ArrayData:
    """The arrays of a result by their names; the attribute `units` of the node tells their units.

    :raises ValueError: an array is ragged, or does not belong to its abscissa.
    """
    arrays = observable.arrays(values)
    node = ArrayData()
    for name, array in arrays.items():
        numbers = np.asarray(array.values, dtype=np.float64)
        if observable.ABSCISSA and numbers.shape[-1:] != np.shape(arrays[observable.ABSCISSA].values):
            raise ValueError(f"{name} has shape {numbers.shape}")
        node.set_array(name, numbers)
    node.base.attributes.set("units", {name: array.unit for name, array in arrays.items()})
    return node
