"""Labelling with CP2K through aiida-cp2k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction
from aiida.plugins import CalculationFactory

from aiida_deeph.workflows.label.base import LabelWorkChain
from aiida_deeph.workflows.label.bases import elements_without_basis
from aiida_deeph.workflows.label.cp2k_input import bands_section, kpoints_section, read_bands, required_sections
from aiida_deeph.workflows.protocol import merge

Cp2kCalculation = CalculationFactory("cp2k")


@calcfunction
def wrap_structure(structure: orm.StructureData) -> orm.StructureData:
    """Atoms in fractional coordinates [-1/2, 1/2): CP2K's R in H(R) refers to atoms that lie so."""
    cell = np.array(structure.cell)
    fractional = np.array([site.position for site in structure.sites]) @ np.linalg.inv(cell)
    wrapped = structure.clone()
    wrapped.reset_sites_positions(((fractional - np.floor(fractional + 0.5)) @ cell).tolist())
    return wrapped


@calcfunction
def bands_of_cp2k(retrieved: orm.FolderData, kpoints: orm.KpointsData, filename: orm.Str) -> orm.BandsData:
    """Bands at the k-points asked for, eV."""
    energies = read_bands(retrieved.base.repository.get_object_content(filename.value), np.array(kpoints.get_kpoints()))
    node = orm.BandsData()
    node.set_kpointsdata(kpoints)
    node.set_bands(energies if len(energies) > 1 else energies[0], units="eV")
    return node


class Cp2kLabelWorkChain(LabelWorkChain):
    """Label a structure with CP2K; its CSR files stay in the remote folder."""

    _process_class = Cp2kCalculation
    _protocol = "label_cp2k"
    plugin = "cp2k"
    reader = "cp2k"
    not_converged = (450,)
    incomplete = (210, 303)

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements without a KIND, or whose basis set does not hold them."""
        kinds = {kind["_"]: kind for kind in parameters.get("FORCE_EVAL", {}).get("SUBSYS", {}).get("KIND", [])}
        known = {
            symbol
            for symbol in symbols
            if symbol in kinds and not elements_without_basis("cp2k", kinds[symbol]["BASIS_SET"], [symbol])
        }
        return sorted(symbols - known)

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """`basis_set` and `potential` of the protocol as one KIND per element; a KIND that is given stays."""
        basis, potential = parameters.pop("basis_set"), parameters.pop("potential")
        subsys = dict(parameters["FORCE_EVAL"].get("SUBSYS", {}))
        given = {kind["_"]: kind for kind in subsys.get("KIND", [])}
        kinds = {symbol: {"_": symbol, "BASIS_SET": basis, "POTENTIAL": potential} for symbol in sorted(symbols)}
        subsys["KIND"] = list({**kinds, **given}.values())
        return merge(parameters, {"FORCE_EVAL": {"SUBSYS": subsys}})

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The same sets as PySCF knows them: SZV-MOLOPT-SR-GTH is gth-szv-molopt-sr."""
        kinds = {kind["_"]: kind["BASIS_SET"] for kind in parameters["FORCE_EVAL"]["SUBSYS"]["KIND"]}
        return {symbol: "pyscf:gth-" + kinds[symbol].lower().removesuffix("-gth") for symbol in sorted(symbols)}

    def labelled_structure(self) -> orm.StructureData:
        """The structure with wrapped atoms."""
        structure = self.inputs.structure
        fractional = np.array([site.position for site in structure.sites]) @ np.linalg.inv(np.array(structure.cell))
        inside = ((fractional >= -0.5) & (fractional < 0.5)).all()
        return structure if inside else self.call_once(wrap_structure, "wrap", structure=structure)

    def job_inputs(self) -> dict[str, Any]:
        """The user's input with the sections that write H(R) and S(R)."""
        mesh, _ = self.inputs.kpoints.get_kpoints_mesh()
        parameters = merge(self.inputs.parameters.get_dict(), required_sections())
        sections = {"KPOINTS": kpoints_section(mesh)}
        if "bands_kpoints" in self.inputs:
            sections["PRINT"] = {"BAND_STRUCTURE": bands_section(self.inputs.bands_kpoints.get_kpoints())}
        parameters = merge(parameters, {"FORCE_EVAL": {"DFT": sections}})
        files = {name: node for name, node in self.inputs.get("files", {}).items()}
        inputs = {"structure": self.ctx.structure, "parameters": orm.Dict(parameters)}
        return {**inputs, "file": files} if files else inputs

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles with smaller density mixing at first, then Fermi smearing of 300 K as well."""
        if attempt > 2:
            return None
        scf = parameters["FORCE_EVAL"]["DFT"].get("SCF", {})
        changes = {
            "MAX_SCF": 2 * int(scf.get("MAX_SCF", 50)),
            "MIXING": {**scf.get("MIXING", {}), "ALPHA": 0.2 / attempt},
        }
        if attempt == 2 and "SMEAR" not in scf:
            changes |= {
                "ADDED_MOS": 20,
                "SMEAR": {"_": "ON", "METHOD": "FERMI_DIRAC", "ELECTRONIC_TEMPERATURE": "[K] 300"},
            }
        return merge(parameters, {"FORCE_EVAL": {"DFT": {"SCF": changes}}})

    def get_outputs(self, node: orm.CalcJobNode) -> dict[str, orm.Node]:
        """The job's outputs, and the bands under the common name."""
        outputs = super().get_outputs(node)
        if "bands_kpoints" in self.inputs:
            outputs["output_band"] = self.call_once(
                bands_of_cp2k,
                "bands",
                retrieved=node.outputs.retrieved,
                kpoints=self.inputs.bands_kpoints,
                filename=orm.Str(node.get_option("output_filename")),
            )
        return outputs
