"""One geometry with OpenMX: SCF, bands, and H(R), S(R) for labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm import AbstractCode, BandsData, Bool, Dict, KpointsData, RemoteData, Str, StructureData, to_aiida_type
from aiida_pseudo.data.pseudo.vps import VpsData

from aiida_deeph.calculations.kpoints import check_list, check_mesh, labels_of, mesh_of
from aiida_deeph.calculations.validation import check_remote_folders, check_structure
from aiida_deeph.data.pao import PaoData
from aiida_deeph.data.structure import atom_symbols, to_engine
from aiida_deeph.engine.dft.openmx.keywords import checked_keywords
from aiida_deeph.engine.dft.openmx.render import DATA_FOLDER, NAME, OpenmxRun, Species, render_input
from aiida_deeph.engine.domain.spin import SpinMode
from aiida_deeph.engine.errors import DeepHError, InputError

PLUGIN = "deeph.openmx"
INPUT_FILE = f"{NAME}.dat"
STDOUT_FILE = f"{NAME}.std"
STDERR_FILE = f"{NAME}.err"
OUT_FILE = f"{NAME}.out"
BAND_FILE = f"{NAME}.Band"
RESTART_FOLDER = f"{NAME}_rst"
MOMENTS = "Initial spin moment by kind of atom in Bohr magnetons: a number along z, or [x, y, z] if noncollinear."


class OpenmxCalculation(CalcJob):
    """OpenMX on one structure; `openmx.scfout` with H(R) and S(R) stays in the remote folder, numbers and bands return.

    Orbitals and pseudopotentials are uploaded below the working directory, so that the input holds no path of a host.
    """

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.inputs.validator = cls._validate
        spec.inputs["code"].validator = check_openmx_code
        spec.input("structure", valid_type=StructureData, validator=check_structure, help="The structure.")
        spec.input(
            "parameters",
            valid_type=Dict,
            validator=check_keywords,
            help="Keywords of OpenMX's input, e.g. {scf: {XcType: GGA-PBE}}; what other inputs decide is refused.",
        )
        spec.input("kpoints", valid_type=KpointsData, validator=check_mesh, help="Gamma-centred k-mesh of the SCF.")
        spec.input(
            "bands_kpoints", valid_type=KpointsData, required=False, validator=check_list, help="k-points of the bands."
        )
        spec.input("basis", valid_type=Dict, serializer=to_aiida_type, help="Shells of each element, e.g. {C: s2p2d1}.")
        spec.input_namespace("orbitals", valid_type=PaoData, dynamic=True, help="File of orbitals of each element.")
        spec.input_namespace("pseudos", valid_type=VpsData, dynamic=True, help="Pseudopotential of each element.")
        spec.input(
            "spin",
            valid_type=Str,
            serializer=to_aiida_type,
            default=lambda: Str(SpinMode.NONE.value),
            validator=check_spin,
            help="`none`, `collinear` or `noncollinear`.",
        )
        spec.input(
            "spin_orbit",
            valid_type=Bool,
            serializer=to_aiida_type,
            default=lambda: Bool(False),
            help="Whether spin-orbit coupling is taken into account; needs noncollinear spins.",
        )
        spec.input("moments", valid_type=Dict, serializer=to_aiida_type, required=False, help=MOMENTS)
        spec.input(
            "restart_folder",
            valid_type=RemoteData,
            required=False,
            help="Folder of an earlier run of the same atoms, whose density the SCF starts from.",
        )
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = PLUGIN
        options["input_filename"].default = INPUT_FILE
        options["output_filename"].default = STDOUT_FILE
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = True
        spec.output(
            "output_parameters", valid_type=Dict, required=False, help="Energy, Fermi level, SCF, moments, times."
        )
        spec.output("output_band", valid_type=BandsData, required=False, help="Eigenvalues at `bands_kpoints`, eV.")
        spec.default_output_node = "output_parameters"
        cls._define_exit_codes(spec)

    @classmethod
    def _define_exit_codes(cls, spec) -> None:
        """As those of the engine's jobs, with some of OpenMX's own."""
        for status, label, message in (
            (210, "ERROR_INPUT_REFUSED", "OpenMX refused its input: {message}"),
            (220, "ERROR_WRONG_ORBITALS", "The basis asks for orbitals that are not there: {message}"),
            (230, "ERROR_DATA_FILE_MISSING", "Orbitals or pseudopotential did not arrive: {message}"),
            (310, "ERROR_CRASHED", "OpenMX crashed: {message}"),
            (320, "ERROR_OUTPUT_INVALID", "An output file is damaged: {message}"),
            (400, "ERROR_OUTPUT_MISSING", "The job ended without its results: {message}"),
            (420, "ERROR_OUT_OF_WALLTIME", "The job ran out of walltime: {message}"),
            (430, "ERROR_OUT_OF_MEMORY", "OpenMX ran out of memory: {message}"),
            (440, "ERROR_NO_SPACE", "The working directory is full: {message}"),
        ):
            spec.exit_code(status, label, message, invalidates_cache=True)
        spec.exit_code(410, "ERROR_SCF_NOT_CONVERGED", "The SCF cycle did not converge: {message}")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], namespace: Any) -> str | None:
        """All inputs together; a workflow that exposes only some of them is checked when it submits the job."""
        message = validate_calc_job(inputs, namespace) or check_remote_folders(inputs)
        if message is None and set(cls.spec().inputs) <= set(namespace):
            try:
                render_input(openmx_run(inputs))
            except DeepHError as error:
                message = str(error)
        return message

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        text = render_input(openmx_run(self.inputs))
        Path(folder.get_abs_path(INPUT_FILE)).write_text(text, encoding="utf-8")
        info = CalcInfo()
        run = CodeInfo()
        run.code_uuid = self.inputs.code.uuid
        run.cmdline_params = [INPUT_FILE, "-nt", str(self._threads())]
        run.stdout_name = STDOUT_FILE
        run.stderr_name = STDERR_FILE
        info.codes_info = [run]
        symbols = set(atom_symbols(self.inputs.structure))
        info.local_copy_list = [
            (node.uuid, node.filename, f"{DATA_FOLDER}/{kind}/{node.filename}")
            for kind, nodes in (("PAO", self.inputs.orbitals), ("VPS", self.inputs.pseudos))
            for symbol, node in sorted(nodes.items())
            if symbol in symbols
        ]
        # A copy, since OpenMX writes into the folder that it restarts from.
        info.remote_copy_list = []
        if "restart_folder" in self.inputs:
            remote = self.inputs.restart_folder
            path = str(PurePosixPath(remote.get_remote_path()) / RESTART_FOLDER)
            info.remote_copy_list.append((remote.computer.uuid, path, RESTART_FOLDER))
        info.retrieve_list = [STDOUT_FILE, STDERR_FILE, OUT_FILE]
        if "bands_kpoints" in self.inputs:
            info.retrieve_list.append(BAND_FILE)
        return info

    def _threads(self) -> int:
        """Threads of each MPI process: the cores that the scheduler is asked for."""
        return int(self.node.get_option("resources").get("num_cores_per_mpiproc") or 1)


def openmx_run(inputs: Mapping[str, Any]) -> OpenmxRun:
    """What the input file says.

    :raises InputError: inputs that do not fit each other.
    """
    structure = to_engine(inputs["structure"])
    bands = inputs.get("bands_kpoints")
    return OpenmxRun(
        structure=structure,
        species=_species(inputs, structure.elements),
        kmesh=tuple(mesh_of(inputs["kpoints"])),
        keywords=checked_keywords(inputs["parameters"].get_dict()),
        spin=SpinMode(inputs["spin"].value),
        spin_orbit=inputs["spin_orbit"].value,
        moments=_moments(inputs),
        band_kpoints=None if bands is None else bands.get_kpoints(),
        band_labels=() if bands is None else labels_of(bands) or (),
        restart="restart_folder" in inputs,
    )


def _species(inputs: Mapping[str, Any], elements: tuple[str, ...]) -> dict[str, Species]:
    basis, orbitals, pseudos = inputs["basis"].get_dict(), inputs.get("orbitals", {}), inputs.get("pseudos", {})
    species = {}
    for symbol in elements:
        for name, given in (("basis", basis), ("orbitals", orbitals), ("pseudos", pseudos)):
            if symbol not in given:
                raise InputError("element without basis", where=name, found=f"no {symbol}", expected=symbol)
        pao, vps = orbitals[symbol], pseudos[symbol]
        pao.head.check_shells(str(basis[symbol]))
        wrong = next((node for node in (pao, vps) if node.element != symbol), None)
        if wrong is not None:
            raise InputError("file of another element", where=f"{symbol}: {wrong.filename}", found=wrong.element)
        if vps.z_valence != pao.valence:
            raise InputError(
                "orbitals and pseudopotential do not belong together",
                where=symbol,
                found=f"{pao.valence:g} valence electrons in {pao.filename}, {vps.z_valence:g} in {vps.filename}",
                expected="the same number, as of Fe5.5H.pao and Fe_PBE19H.vps",
            )
        species[symbol] = Species(f"{pao.name}-{basis[symbol]}", Path(vps.filename).stem, float(vps.z_valence))
    return species


def _moments(inputs: Mapping[str, Any]) -> np.ndarray | None:
    """Moments of the atoms, shape (n_atoms, 3), Bohr magnetons."""
    if "moments" not in inputs:
        return None
    given = inputs["moments"].get_dict()
    kinds = inputs["structure"].get_site_kindnames()
    unknown = sorted(set(given) - set(kinds))
    if unknown:
        expected = ", ".join(dict.fromkeys(kinds))
        raise InputError("moment of an unknown kind", where="moments", found=", ".join(unknown), expected=expected)
    moments = np.zeros((len(kinds), 3))
    for n, kind in enumerate(kinds):
        value = given.get(kind, 0.0)
        vector = [0.0, 0.0, value] if isinstance(value, int | float) else value
        try:
            moments[n] = np.array(vector, dtype=np.float64).reshape(3)
        except (TypeError, ValueError):
            raise InputError(
                "moment is not understood", where=f"moments.{kind}", found=repr(value), expected="a number or [x, y, z]"
            ) from None
        if inputs["spin"].value == SpinMode.COLLINEAR.value and moments[n, :2].any():
            raise InputError(
                "moment is not along z",
                where=f"moments.{kind}",
                found=value,
                expected="a number, or noncollinear spins",
            )
    return moments


def check_openmx_code(code: AbstractCode, _: Any = None) -> str | None:
    """The code has to be OpenMX."""
    plugin = code.default_calc_job_plugin
    if plugin in (None, PLUGIN):
        return None
    return str(
        InputError(
            "code is not OpenMX", where=f"code `{code.label}`", found=f"default plugin {plugin}", expected=PLUGIN
        )
    )


def check_keywords(node: Dict, _: Any = None) -> str | None:
    """Every keyword is known, is the user's, and has a value that it can have."""
    try:
        checked_keywords(node.get_dict())
    except DeepHError as error:
        return str(error)
    return None


def check_spin(node: Str, _: Any = None) -> str | None:
    """A known treatment of spin."""
    known = [mode.value for mode in SpinMode]
    return None if node.value in known else f"unknown spin `{node.value}`, expected one of {', '.join(known)}"
