"""An overlap without DFT."""

from __future__ import annotations

from aiida.engine import ExitCode

from aiida_deeph.calculations.overlap import OUTPUT
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.engine.io.deeph import INFO_FILE
from aiida_deeph.parsers.base import EngineParser


class OverlapParser(EngineParser):
    """Attaches what `info.json` says, and the DeepH folder if it was to be retrieved."""

    UNITS = {"pair_cutoffs": "angstrom"}

    def attach(self) -> ExitCode | None:
        info = self.read_json(f"{OUTPUT}/{INFO_FILE}")
        if self.node.inputs.retrieve.value:
            self.out("overlap", HamiltonianData(self.temporary_folder(OUTPUT)))
        self.out_parameters(
            {
                "n_atoms": info.get("atoms_quantity"),
                "n_orbitals": info.get("orbits_quantity"),
                "n_electrons": info.get("occupation"),
                "shells": info.get("elements_orbital_map"),
                **(info.get("metadata") or {}),
            }
        )
        return None
