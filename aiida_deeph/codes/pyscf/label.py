"""Labelling with PySCF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.lcao_tables import elements_without_basis
from aiida_deeph.codes.proof import Run, gamma
from aiida_deeph.engine.dft.pyscf.code import RECORD
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.builder import filled_builder

PyscfCalculation = CalculationFactory("deeph.pyscf")


class PyscfLabelWorkChain(LabelWorkChain):
    """Label a structure with PySCF."""

    _process_class = PyscfCalculation
    _protocol_file = Path(__file__).parent / "protocol.yaml"
    record = RECORD
    quickstart = (
        {"basis": "gth-szv", "pseudo": "gth-pbe", "xc": "pbe", "ke_cutoff": 50.0, "smearing": 0.1, "threads": 1},
        {"ke_cutoff": 25.0},
    )
    not_converged = (410,)
    incomplete = (400,)
    no_space = (440,)

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements that the Gaussian basis does not hold."""
        return elements_without_basis(parameters.get("basis", "gth-szv"), symbols)

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """`pyscf:` and the name of the basis.

        :raises InputError: a pseudopotential is used with a basis of all electrons: an overlap could not count them.
        """
        basis, pseudo = parameters["basis"], parameters.get("pseudo", PyscfConfig.model_fields["pseudo"].default)
        if pseudo and not basis.lower().startswith("gth"):
            raise InputError(
                "pseudopotential with a basis of all electrons",
                where="label.parameters",
                found=f"pseudo {pseudo}, basis {basis}",
                remedy="take a gth basis, or set pseudo to null for molecules",
            )
        return f"pyscf:{basis}"

    @classmethod
    def prove(cls, codes: Mapping[str, orm.AbstractCode], families: str | None, run: Run) -> None:
        """A helium atom in a box."""
        structure = orm.StructureData(cell=np.diag([6.0, 6.0, 6.0]).tolist())
        structure.append_atom(symbols="He", position=(3.0, 3.0, 3.0))
        parameters = {"basis": "gth-szv", "ke_cutoff": 30.0, "threads": 1}
        (code,) = codes.values()
        job = {"code": code, "structure": structure, "kpoints": gamma(), "parameters": parameters}
        run("PySCF run of a helium atom", filled_builder(cls._process_class, job))

    @classmethod
    def job_inputs(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """PySCF's job takes the common inputs as they are; moments of kinds that the structure lacks are left out."""
        job = {name: inputs[name] for name in ("structure", "parameters", "kpoints", "bands_kpoints") if name in inputs}
        parameters = inputs["parameters"].get_dict()
        moments = parameters.pop("moments", None)
        if moments is not None:
            kinds = {kind.name for kind in inputs["structure"].kinds}
            known = {kind: value for kind, value in moments.items() if kind in kinds}
            job |= {"parameters": orm.Dict(parameters), "moments": orm.Dict(known)}
        return job

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles at first, then Fermi smearing of 0.05 eV as well."""
        if attempt > 2:
            return None
        improved = {**parameters, "max_cycle": 2 * parameters.get("max_cycle", 60)}
        return improved if attempt == 1 else {**improved, "smearing": parameters.get("smearing") or 0.05}
