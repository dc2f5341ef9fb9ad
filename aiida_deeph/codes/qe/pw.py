"""One geometry with pw.x, and its self-consistent potential by pw2bgw.x.

aiida-quantumespresso is not used: it needs aiida-core[atomic-tools], which pins seekpath to 1.9 where this package has
2, and it has no job for pw2bgw.x, which has to run beside pw.x's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.orm import AbstractCode, BandsData, Dict, KpointsData, RemoteData, StructureData
from aiida_pseudo.data.pseudo.upf import UpfData

from aiida_deeph.calculations.kpoints import check_mesh_or_list, mesh_of
from aiida_deeph.calculations.validation import check_structure
from aiida_deeph.codes.job import ProgramCalculation, check_computer, check_files, left_by
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.dft.qe.code import POTENTIAL_FILE, PSEUDO_FOLDER, SAVE_FOLDER, XML_FILE
from aiida_deeph.engine.dft.qe.render import PwRun, checked_namelists, pw2bgw_input, pw_input
from aiida_deeph.engine.errors import DeepHError, InputError

POTENTIAL_INPUT, POTENTIAL_STDOUT, POTENTIAL_STDERR = "pw2bgw.in", "pw2bgw.out", "pw2bgw.err"
OUT_FOLDER = "out"
XML_PATH = f"{SAVE_FOLDER}/{XML_FILE}"
POTENTIAL_PATH = f"{OUT_FOLDER}/{POTENTIAL_FILE}"


class PwCalculation(ProgramCalculation):
    """pw.x on one structure, without symmetry; numbers and bands return, density and potential stay where they are.

    k-points are a mesh for an SCF, or a list for bands from the density in `parent_folder`.
    """

    PROGRAM = "pw.x"
    PLUGIN = "deeph.pw"
    ALIASES = ("quantumespresso.pw",)
    INPUT_FILE = "pw.in"
    STDOUT_FILE = "pw.out"
    STDERR_FILE = "pw.err"

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.input("structure", valid_type=StructureData, validator=check_structure, help="The structure.")
        spec.input(
            "parameters",
            valid_type=Dict,
            validator=check_namelists,
            help="Namelists of pw.x, e.g. {SYSTEM: {ecutwfc: 80}}; what other inputs decide is refused.",
        )
        spec.input("kpoints", valid_type=KpointsData, validator=check_mesh_or_list, help="Mesh of the SCF, or a list.")
        spec.input_namespace("pseudos", valid_type=UpfData, dynamic=True, help="Pseudopotential of each element.")
        spec.input(
            "pw2bgw",
            valid_type=AbstractCode,
            required=False,
            help="pw2bgw.x, on the same computer: it runs after the SCF and writes the potential.",
        )
        spec.input("parent_folder", valid_type=RemoteData, required=False, help="Folder of an SCF of this structure.")
        spec.output("output_band", valid_type=BandsData, required=False, help="Eigenvalues at the k-points, eV.")
        spec.exit_code(410, "ERROR_SCF_NOT_CONVERGED", "The SCF cycle did not converge: {message}")

    @classmethod
    def check_run(cls, inputs: Mapping[str, Any]) -> None:
        """Bands need the density of an SCF; pw2bgw.x is where pw.x is."""
        run = pw_run(inputs)
        pw_input(run)
        if run.kmesh is None and "parent_folder" not in inputs:
            raise InputError("bands without density", where="parent_folder", expected="the folder of an SCF")
        if "pw2bgw" in inputs:
            check_computer(inputs["pw2bgw"], inputs["code"], "pw2bgw")

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        texts = {self.INPUT_FILE: pw_input(pw_run(self.inputs))}
        files = [(node, f"{PSEUDO_FOLDER}/{node.filename}") for node in self.files_of("pseudos")]
        info = self.calc_info(["-in", self.INPUT_FILE], files, [(XML_PATH, ".", 0)])
        if "pw2bgw" in self.inputs:
            texts[POTENTIAL_INPUT] = pw2bgw_input()
            said = (POTENTIAL_STDOUT, POTENTIAL_STDERR)
            info.codes_info.append(self.run_of_code(self.inputs.pw2bgw, ["-in", POTENTIAL_INPUT], *said))
            info.retrieve_list += said
        self.write_files(folder, texts)
        if "parent_folder" in self.inputs:
            # A copy, since bands are written over the energies of the SCF.
            info.remote_copy_list.append(left_by(self.inputs.parent_folder, OUT_FOLDER, OUT_FOLDER))
        return info


def pw_run(inputs: Mapping[str, Any]) -> PwRun:
    """What the input file says.

    :raises InputError: inputs that do not fit each other.
    """
    mesh = mesh_of(inputs["kpoints"])
    structure = to_engine(inputs["structure"])
    check_files(inputs, structure.elements, "pseudos")
    return PwRun(
        structure=structure,
        namelists=checked_namelists(inputs["parameters"].get_dict()),
        pseudos={symbol: inputs["pseudos"][symbol].filename for symbol in structure.elements},
        kmesh=None if mesh is None else tuple(mesh),
        kpoints=inputs["kpoints"].get_kpoints() if mesh is None else None,
    )


def check_namelists(node: Dict, _: Any = None) -> str | None:
    """Every field is the user's to decide, and HPRO can project what it leads to."""
    try:
        checked_namelists(node.get_dict())
    except DeepHError as error:
        return str(error)
    return None
