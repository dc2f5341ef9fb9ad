"""One geometry with pw.x, and its self-consistent potential by pw2bgw.x.

aiida-quantumespresso is not used: it needs aiida-core[atomic-tools], which pins seekpath to 1.9 where this package has
2, and it has no job for pw2bgw.x, which has to run beside pw.x's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm import AbstractCode, BandsData, Dict, KpointsData, RemoteData, StructureData
from aiida_pseudo.data.pseudo.upf import UpfData

from aiida_deeph.calculations.kpoints import check_mesh_or_list, mesh_of
from aiida_deeph.calculations.program import ProgramCalcJob
from aiida_deeph.calculations.validation import check_remote_folders, check_structure
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.dft.qe.code import POTENTIAL_FILE, PSEUDO_FOLDER, SAVE_FOLDER, XML_FILE
from aiida_deeph.engine.dft.qe.render import PwRun, checked_namelists, pw2bgw_input, pw_input
from aiida_deeph.engine.errors import DeepHError, InputError

PLUGIN = "deeph.pw"
# Codes that others have registered are the same program.
ALIASES = ("quantumespresso.pw",)
INPUT_FILE, STDOUT_FILE, STDERR_FILE = "pw.in", "pw.out", "pw.err"
POTENTIAL_INPUT, POTENTIAL_STDOUT, POTENTIAL_STDERR = "pw2bgw.in", "pw2bgw.out", "pw2bgw.err"
OUT_FOLDER = "out"
XML_PATH = f"{SAVE_FOLDER}/{XML_FILE}"
POTENTIAL_PATH = f"{OUT_FOLDER}/{POTENTIAL_FILE}"


class PwCalculation(ProgramCalcJob):
    """pw.x on one structure, without symmetry; numbers and bands return, density and potential stay where they are.

    k-points are a mesh for an SCF, or a list for bands from the density in `parent_folder`.
    """

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.inputs.validator = cls._validate
        spec.inputs["code"].validator = check_pw_code
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
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = PLUGIN
        options["input_filename"].default = INPUT_FILE
        options["output_filename"].default = STDOUT_FILE
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = True
        spec.output("output_parameters", valid_type=Dict, required=False, help="Energy, Fermi level, SCF, times.")
        spec.output("output_band", valid_type=BandsData, required=False, help="Eigenvalues at the k-points, eV.")
        spec.default_output_node = "output_parameters"
        cls._define_exit_codes(spec)

    @classmethod
    def _define_exit_codes(cls, spec) -> None:
        """As those of OpenMX."""
        for status, label, message in (
            (210, "ERROR_INPUT_REFUSED", "The program refused its input: {message}"),
            (310, "ERROR_CRASHED", "The program crashed: {message}"),
            (320, "ERROR_OUTPUT_INVALID", "An output file is damaged: {message}"),
            (400, "ERROR_OUTPUT_MISSING", "The job ended without its results: {message}"),
            (420, "ERROR_OUT_OF_WALLTIME", "The job ran out of walltime: {message}"),
            (430, "ERROR_OUT_OF_MEMORY", "The program ran out of memory: {message}"),
            (440, "ERROR_NO_SPACE", "The working directory is full: {message}"),
        ):
            spec.exit_code(status, label, message, invalidates_cache=True)
        spec.exit_code(410, "ERROR_SCF_NOT_CONVERGED", "The SCF cycle did not converge: {message}")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], namespace: Any) -> str | None:
        """All inputs together; a workflow that exposes only some of them is checked when it submits the job."""
        message = validate_calc_job(inputs, namespace) or check_remote_folders(inputs)
        if message is None and set(cls.spec().inputs) <= set(namespace):
            message = check_together(inputs)
        return message

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        _write(folder, INPUT_FILE, pw_input(pw_run(self.inputs)))
        info = CalcInfo()
        info.codes_info = [_run(self.inputs.code, INPUT_FILE, STDOUT_FILE, STDERR_FILE)]
        if "pw2bgw" in self.inputs:
            _write(folder, POTENTIAL_INPUT, pw2bgw_input())
            info.codes_info.append(_run(self.inputs.pw2bgw, POTENTIAL_INPUT, POTENTIAL_STDOUT, POTENTIAL_STDERR))
        pseudos = sorted(self.inputs.pseudos.items())
        info.local_copy_list = [
            (node.uuid, node.filename, f"{PSEUDO_FOLDER}/{node.filename}")
            for symbol, node in pseudos
            if symbol in self.inputs.structure.get_symbols_set()
        ]
        info.remote_copy_list = []
        if "parent_folder" in self.inputs:
            remote = self.inputs.parent_folder
            # A copy, since bands are written over the energies of the SCF.
            source = str(PurePosixPath(remote.get_remote_path()) / OUT_FOLDER)
            info.remote_copy_list.append((remote.computer.uuid, source, OUT_FOLDER))
        info.retrieve_list = [STDOUT_FILE, STDERR_FILE, (XML_PATH, ".", 0)]
        if "pw2bgw" in self.inputs:
            info.retrieve_list += [POTENTIAL_STDOUT, POTENTIAL_STDERR]
        return info


def _write(folder: Folder, name: str, text: str) -> None:
    Path(folder.get_abs_path(name)).write_text(text, encoding="utf-8")


def _run(code: AbstractCode, input_file: str, stdout: str, stderr: str) -> CodeInfo:
    run = CodeInfo()
    run.code_uuid = code.uuid
    run.cmdline_params = ["-in", input_file]
    run.stdout_name = stdout
    run.stderr_name = stderr
    return run


def pw_run(inputs: Mapping[str, Any]) -> PwRun:
    """What the input file says.

    :raises InputError: inputs that do not fit each other.
    """
    mesh = mesh_of(inputs["kpoints"])
    structure = to_engine(inputs["structure"])
    for symbol in structure.elements:
        node = inputs.get("pseudos", {}).get(symbol)
        if node is None:
            raise InputError("element without pseudopotential", where="pseudos", found=f"no {symbol}", expected=symbol)
        if node.element != symbol:
            where = f"pseudos.{symbol}"
            raise InputError("pseudopotential of another element", where=where, found=node.element, expected=symbol)
    return PwRun(
        structure=structure,
        namelists=checked_namelists(inputs["parameters"].get_dict()),
        pseudos={symbol: inputs["pseudos"][symbol].filename for symbol in structure.elements},
        kmesh=None if mesh is None else tuple(mesh),
        kpoints=inputs["kpoints"].get_kpoints() if mesh is None else None,
    )


def check_together(inputs: Mapping[str, Any]) -> str | None:
    """Bands need the density of an SCF; pw2bgw.x is where pw.x is."""
    try:
        run = pw_run(inputs)
        pw_input(run)
        if run.kmesh is None and "parent_folder" not in inputs:
            raise InputError("bands without density", where="parent_folder", expected="the folder of an SCF")
        other = inputs.get("pw2bgw")
        if other is not None and other.computer.uuid != inputs["code"].computer.uuid:
            raise InputError(
                "codes of different computers",
                where="pw2bgw",
                found=other.full_label,
                expected=f"one on {inputs['code'].computer.label}",
            )
    except DeepHError as error:
        return str(error)
    return None


def check_pw_code(code: AbstractCode, _: Any = None) -> str | None:
    """The code has to be pw.x."""
    plugin = code.default_calc_job_plugin
    if plugin in (None, PLUGIN, *ALIASES):
        return None
    expected = " or ".join((PLUGIN, *ALIASES))
    return str(
        InputError(
            "code is not pw.x", where=f"code `{code.label}`", found=f"default plugin {plugin}", expected=expected
        )
    )


def check_namelists(node: Dict, _: Any = None) -> str | None:
    """Every field is the user's to decide, and HPRO can project what it leads to."""
    try:
        checked_namelists(node.get_dict())
    except DeepHError as error:
        return str(error)
    return None
