"""Labelling with CP2K through aiida-cp2k."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.engine import calcfunction
from aiida.plugins import CalculationFactory

from aiida_deeph.calculations.program import FOLDER
from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.lcao_tables import elements_without_basis, misspelt, misspelt_basis
from aiida_deeph.codes.proof import MESH, Run, gamma, hydrogen_molecule
from aiida_deeph.engine.dft.base import code_of_format
from aiida_deeph.engine.dft.cp2k.band_structure import parse_band_structure
from aiida_deeph.engine.dft.cp2k.code import RECORD
from aiida_deeph.engine.dft.cp2k.main_output import find_main_output, parse_main_output
from aiida_deeph.engine.dft.cp2k.required_input import BANDS_FILE, required_input
from aiida_deeph.engine.dft.record import BASIS_LIBRARY
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.builder import filled_builder
from aiida_deeph.processes.protocol import merge

NOT_CONVERGED = "SCF run NOT converged"
# What XC_FUNCTIONAL can be short for.
FUNCTIONALS = [
    "B3LYP",
    "BEEFVDW",
    "BLYP",
    "BP",
    "HCTH120",
    "LDA",
    "NONE",
    "NO_SHORTCUT",
    "OLYP",
    "PADE",
    "PBE",
    "PBE0",
    "TPSS",
]

Cp2kCalculation = CalculationFactory("cp2k")


@calcfunction
def bands_of_cp2k(retrieved: orm.FolderData, kpoints: orm.KpointsData) -> orm.BandsData:
    """Bands from the retrieved file, eV.

    :raises ValueError: the file holds other k-points than those asked for.
    """
    bands = parse_band_structure(retrieved.base.repository.get_object_content(BANDS_FILE))
    wanted = np.array(kpoints.get_kpoints())
    if bands.kpoints.shape != wanted.shape or np.abs(bands.kpoints - wanted).max() > 1e-5:
        raise ValueError(f"{BANDS_FILE} holds {len(bands.kpoints)} k-points that are not the {len(wanted)} asked for")
    node = orm.BandsData()
    node.set_kpointsdata(kpoints)
    node.set_bands(bands.energies[0] if len(bands.energies) == 1 else bands.energies, units="eV")
    with retrieved.base.repository.as_path() as folder:
        fermi_energy = parse_main_output(find_main_output(folder)).fermi_energy
    node.base.attributes.set_many({"fermi_energy": fermi_energy, "fermi_energy_units": "eV"})
    return node


class Cp2kLabelWorkChain(LabelWorkChain):
    """Label a structure with CP2K; its real-space matrices stay in the remote folder."""

    _process_class = Cp2kCalculation
    _protocol_file = Path(__file__).parent / "protocol.yaml"
    record = RECORD
    quickstart = ({"basis_set": "SZV-MOLOPT-SR-GTH"}, {})
    not_converged = (450,)
    incomplete = (210, 303)

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any], inputs: Mapping[str, Any]) -> None:
        """Names of basis sets and of the functional."""
        for basis in basis_sets(parameters).values():
            if known := misspelt_basis(basis):
                raise InputError(f"unknown basis set {basis}; did you mean {known.upper()}")
        xc = parameters.get("FORCE_EVAL", {}).get("DFT", {}).get("XC", {}).get("XC_FUNCTIONAL", {})
        functional = str(xc.get("_", "NONE") if isinstance(xc, Mapping) else xc)
        if known := misspelt(functional.upper(), FUNCTIONALS):
            raise InputError(f"unknown functional {functional}; did you mean {known}")

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements without a KIND, or whose basis set does not hold them."""
        sets = basis_sets(parameters)
        return sorted(s for s in symbols if s not in sets or elements_without_basis(sets[s], [s]))

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """`basis_set` and `potential` of the protocol as one KIND per element; a KIND that is given stays."""
        common = {"BASIS_SET": parameters.pop("basis_set"), "POTENTIAL": parameters.pop("potential")}
        given = parameters["FORCE_EVAL"].get("SUBSYS", {}).get("KIND", [])
        kinds = {symbol: {"_": symbol, **common} for symbol in sorted(symbols)} | {kind["_"]: kind for kind in given}
        return merge(parameters, {"FORCE_EVAL": {"SUBSYS": {"KIND": list(kinds.values())}}})

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The same basis sets as the library of Gaussians knows them: SZV-MOLOPT-SR-GTH is gth-szv-molopt-sr."""
        sets, library = basis_sets(parameters), code_of_format(BASIS_LIBRARY)
        names = {symbol: sets[symbol].lower().removesuffix("-gth") for symbol in sorted(symbols)}
        return {symbol: f"{library}:gth-{name}" for symbol, name in names.items()}

    @classmethod
    def is_unconverged(cls, node: orm.CalcJobNode) -> bool:
        """CP2K before 2023.2 ends as if all were well when the SCF did not converge; only its output says so."""
        if super().is_unconverged(node):
            return True
        return node.is_finished_ok and NOT_CONVERGED in cls._output(node)

    @classmethod
    def missing(cls, node: orm.CalcJobNode) -> list[str]:
        """Its folder too, which AiiDA loses if a worker is killed just when the job is uploaded."""
        return super().missing(node) if FOLDER in node.outputs else [FOLDER]

    @classmethod
    def _output(cls, node: orm.CalcJobNode) -> str:
        """The main output of a job; empty if it did not come."""
        try:
            return str(node.outputs.retrieved.base.repository.get_object_content(node.get_option("output_filename")))
        except (FileNotFoundError, NotExistent):
            return ""

    @classmethod
    def prove(cls, codes: Mapping[str, orm.AbstractCode], families: str | None, run: Run) -> None:
        """A hydrogen molecule whose real-space matrices are written."""
        (code,) = codes.values()
        structure = hydrogen_molecule((5.0, 5.0, 5.0))
        small = {"FORCE_EVAL": {"DFT": {"MGRID": {"CUTOFF": 100, "REL_CUTOFF": 30}}}}
        values = cls.label_inputs(code, [structure], "fast", {"kpoints": list(MESH), "parameters": small})
        kpoints, parameters = gamma(), orm.Dict(values["parameters"])
        job = cls.job_inputs({"structure": structure, "parameters": parameters, "kpoints": kpoints})
        run("CP2K run of a hydrogen molecule", filled_builder(cls._process_class, {**job, "code": code}))

    @classmethod
    def job_inputs(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The user's input with the sections that write H(R) and S(R)."""
        mesh, _ = inputs["kpoints"].get_kpoints_mesh()
        bands = inputs["bands_kpoints"].get_kpoints().tolist() if "bands_kpoints" in inputs else None
        parameters = merge(inputs["parameters"].get_dict(), required_input(mesh, bands=bands))
        job: dict[str, Any] = {"structure": inputs["structure"], "parameters": orm.Dict(parameters)}
        if bands is not None:
            job["settings"] = orm.Dict({"additional_retrieve_list": [BANDS_FILE]})
        if inputs.get("files"):
            job["file"] = dict(inputs["files"])
        return job

    def why(self, node: orm.ProcessNode) -> str:
        """What CP2K says when it gives up, which aiida-cp2k does not pass on."""
        said = abort_message(self._output(node)) if isinstance(node, orm.CalcJobNode) else None
        return f"[{node.exit_status}] {said}" if said else super().why(node)

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles with smaller density mixing at first, then Fermi smearing of 300 K as well."""
        if attempt > 2:
            return None
        scf = parameters["FORCE_EVAL"]["DFT"].get("SCF", {})
        mixing = {**scf.get("MIXING", {}), "ALPHA": 0.2 / attempt}
        changes: dict[str, Any] = {"MAX_SCF": 2 * int(scf.get("MAX_SCF", 50)), "MIXING": mixing}
        if attempt == 2 and "SMEAR" not in scf:
            smear = {"_": "ON", "METHOD": "FERMI_DIRAC", "ELECTRONIC_TEMPERATURE": "[K] 300"}
            changes |= {"ADDED_MOS": max(20, int(scf.get("ADDED_MOS", 0))), "SMEAR": smear}
        return merge(parameters, {"FORCE_EVAL": {"DFT": {"SCF": changes}}})

    def get_outputs(self, node: orm.CalcJobNode) -> dict[str, orm.Node]:
        """The job's outputs, and the bands under the common name."""
        outputs = super().get_outputs(node)
        if "bands_kpoints" in self.inputs:
            inputs = {"retrieved": node.outputs.retrieved, "kpoints": self.inputs.bands_kpoints}
            outputs["output_band"] = self.call_once(bands_of_cp2k, "bands", **inputs)
        return outputs


def basis_sets(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Basis set of each KIND."""
    kinds = parameters.get("FORCE_EVAL", {}).get("SUBSYS", {}).get("KIND", [])
    kinds = [kinds] if isinstance(kinds, Mapping) else kinds
    return {kind["_"]: kind["BASIS_SET"] for kind in kinds}


def abort_message(text: str) -> str | None:
    """The reason in the box that CP2K draws around an abort; None if there is no such box."""
    box = re.search(r"\[ABORT\].*?\*{20}", text, re.DOTALL)
    if box is None:
        return None
    # Beside a drawing; the last line names a place in the source.
    lines = [re.sub(r"^[\s*]*(\\___/|\||O/\||/\| ?\||/ \\)?|[\s*]*$", "", line) for line in box[0].splitlines()[1:-1]]
    said = " ".join(line for line in lines if line and not re.search(r"\.F:\d+$", line))
    return " ".join(said.split()) or None
