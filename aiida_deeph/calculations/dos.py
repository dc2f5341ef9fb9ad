"""Density of states of a DeepH folder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import ArrayData, KpointsData

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.folders import check_one_given, define_folder, stage_folder
from aiida_deeph.calculations.kpoints import check_mesh, mesh_of
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.engine.observables.dos import DosConfig

OUTPUT = "dos.json"


class DosCalculation(EngineCalculation):
    """Density of states on the mesh `kpoints` (Gamma alone without it)."""

    COMMAND = "dos"
    CONFIG = DosConfig
    FILLED = MappingProxyType({"folder": "hamiltonian", "mesh": None, "output": None})

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        define_folder(spec, "hamiltonian", "H and S")
        spec.input("kpoints", valid_type=KpointsData, required=False, validator=check_mesh, help="Gamma-centred mesh.")
        spec.output("dos", valid_type=ArrayData, required=False, help="Arrays energies (eV) and dos (states/eV/cell).")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        return check_one_given(inputs, "hamiltonian")

    def stage(self, staging: Staging) -> dict[str, Any]:
        staging.retrieve(OUTPUT)
        fields: dict[str, Any] = {"folder": stage_folder(staging, self.inputs, "hamiltonian"), "output": OUTPUT}
        if "kpoints" in self.inputs:
            fields["mesh"] = mesh_of(self.inputs.kpoints)
        return fields
