"""Labelling with SIESTA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiida import orm
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.lcao import LcaoLabelWorkChain
from aiida_deeph.engine.dft.siesta.code import RECORD
from aiida_deeph.engine.dft.siesta.input import checked_basis
from aiida_deeph.engine.dft.siesta.keywords import TABLE
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.orbitals import ElementFiles, overlap_of, pseudos_family

SiestaCalculation = CalculationFactory("deeph.siesta")

# An electronic temperature below this is raised to it at the last try, Kelvin.
WARM = 1000.0


class SiestaLabelWorkChain(LcaoLabelWorkChain):
    """Label a structure with SIESTA; HSX and TSHS stay in the remote folder.

    SIESTA makes the orbitals: `basis` of the parameters is a size of each element such as `{C: DZP}`, or its lines of
    the block PAO.Basis; the files of the orbitals come back with each run, and serve the overlaps of its models.
    """

    _process_class = SiestaCalculation
    _protocol_file = Path(__file__).parent / "protocol.yaml"
    record = RECORD
    files = ElementFiles(None, "pseudo_", "psml")
    quick = MappingProxyType({"MeshCutoff": "80 Ry"})
    # Largest change of the density matrix.
    max_residual = 0.5

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """`size` of the protocol as basis of each element of the pseudopotentials; those that are given stay."""
        size = parameters.pop("size")
        family = pseudos_family(parameters["pseudos_family"])
        known = symbols if family is None else symbols & set(family.elements)
        basis = {**{symbol: size for symbol in sorted(known)}, **parameters.get("basis", {})}
        for symbol, value in basis.items():
            checked_basis(symbol, value)
        return {**parameters, "basis": basis}

    @classmethod
    def basis_inputs(cls, basis: Mapping[str, Any]) -> dict[str, orm.Data]:
        """As it stands."""
        return {"basis": orm.Dict(dict(basis))}

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The orbitals that the labels made; the species are called after their elements."""
        return overlap_of("siesta", {symbol: symbol for symbol in symbols})

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles and smaller steps with a longer history; then still smaller ones, and 1000 K."""
        if attempt > 2:
            return None

        def value(name: str, default: Any) -> Any:
            return TABLE.value(parameters, name, default)

        changes = {
            "MaxSCFIterations": max(2 * value("MaxSCFIterations", 1000), 200),
            "SCF.Mixer.Method": "pulay",
            "SCF.Mixer.Weight": min(value("SCF.Mixer.Weight", 0.25), 0.1 if attempt == 1 else 0.02),
            "SCF.Mixer.History": max(value("SCF.Mixer.History", 2), 8),
        }
        if attempt == 2:
            temperature = str(value("ElectronicTemperature", "300 K")).split()
            if len(temperature) == 2 and temperature[1] == "K" and float(temperature[0]) < WARM:
                changes["ElectronicTemperature"] = f"{WARM} K"
        return TABLE.replaced(parameters, changes)

    @classmethod
    def orbitals_file(cls, symbol: str, basis: Any) -> str:
        """There is none.

        :raises InputError: always.
        """
        raise InputError("SIESTA makes its orbitals itself", where=f"files of {symbol}")
