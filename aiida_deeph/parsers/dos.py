"""Density of states of a DeepH folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import ArrayData

from aiida_deeph.calculations.dos import OUTPUT
from aiida_deeph.parsers.base import EngineParser, InvalidOutputError

ARRAYS = (
    "energies",
    "dos",
    "dos_error",
    "dos_by_spin",
    "dos_by_element",
    "dos_by_shell",
    "dos_by_atom",
    "dos_units",
    "cell",
    "folder",
)


class DosParser(EngineParser):
    """Attaches the curves; what is no array becomes output_parameters."""

    UNITS = {
        "fermi_level": "eV",
        "dft_fermi_level": "eV",
        "broadening": "eV",
        "levels_near_fermi": "eV",
        "seconds": "s",
        "peak_memory_GiB": "GiB",
    }

    def attach(self) -> ExitCode | None:
        values = self.read_json(OUTPUT)
        try:
            self.out("dos", make_dos(values))
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidOutputError(f"{OUTPUT}: {type(error).__name__} {error}") from None
        self.out_parameters({key: value for key, value in values.items() if key not in ARRAYS})
        return None


def make_dos(values: dict[str, Any]) -> ArrayData:
    """Arrays `energies` (eV) and, in states/eV/cell, `dos`, `dos_error`, `dos_ELEMENT`, `dos_ELEMENT_LETTER`,
    `dos_atom_N` (n_points,), `dos_by_spin` (2, n_points)."""
    arrays = {"energies": values["energies"], "dos": values["dos"]}
    arrays |= {f"dos_{element}": curve for element, curve in (values.get("dos_by_element") or {}).items()}
    for element, curves in (values.get("dos_by_shell") or {}).items():
        arrays |= {f"dos_{element}_{letter}": curve for letter, curve in curves.items()}
    arrays |= {f"dos_atom_{atom}": curve for atom, curve in (values.get("dos_by_atom") or {}).items()}
    arrays |= {name: values[name] for name in ("dos_by_spin", "dos_error") if values.get(name)}
    node = ArrayData()
    for name, array in arrays.items():
        array = np.asarray(array, dtype=np.float64)
        if array.shape[-1:] != (len(values["energies"]),):
            raise ValueError(f"{name} has shape {array.shape}")
        node.set_array(name, array)
    node.base.attributes.set("units", {name: "eV" if name == "energies" else "states/eV/cell" for name in arrays})
    return node
