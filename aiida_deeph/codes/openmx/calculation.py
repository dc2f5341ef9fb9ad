"""One geometry with OpenMX: SCF, bands, and H(R), S(R) for labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.orm import Dict, to_aiida_type
from aiida_pseudo.data.pseudo.vps import VpsData

from aiida_deeph.codes.calculation import DftCalculation
from aiida_deeph.codes.job import check_files, left_by
from aiida_deeph.data.pao import PaoData
from aiida_deeph.engine.dft.openmx.code import NAME
from aiida_deeph.engine.dft.openmx.input import DATA_FOLDER, OpenmxRun, Species, render_input
from aiida_deeph.engine.dft.openmx.keywords import TABLE
from aiida_deeph.engine.errors import InputError

PLUGIN = "deeph.openmx"
OUT_FILE = f"{NAME}.out"
BAND_FILE = f"{NAME}.Band"
RESTART_FOLDER = f"{NAME}_rst"


class OpenmxCalculation(DftCalculation):
    """OpenMX on one structure; `openmx.scfout` with H(R) and S(R) stays in the remote folder, numbers and bands return.

    Orbitals and pseudopotentials are uploaded below the working directory, so that the input holds no path of a host.
    """

    PROGRAM = "OpenMX"
    PLUGIN = PLUGIN
    INPUT_FILE = f"{NAME}.dat"
    STDOUT_FILE = f"{NAME}.std"
    STDERR_FILE = f"{NAME}.err"
    KEYWORDS = TABLE
    EXAMPLE = "{scf: {XcType: GGA-PBE}}"
    RENDER = staticmethod(render_input)
    PSEUDOS = (VpsData,)

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.input("basis", valid_type=Dict, serializer=to_aiida_type, help="Shells of each element, e.g. {C: s2p2d1}.")
        spec.input_namespace("orbitals", valid_type=PaoData, dynamic=True, help="File of orbitals of each element.")

    @classmethod
    def run_of(cls, inputs: Mapping[str, Any]) -> OpenmxRun:
        """See the base class."""
        fields = cls.run_fields(inputs)
        return OpenmxRun(**fields, species=_species(inputs, fields["structure"].elements))

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        self.write_files(folder, {self.INPUT_FILE: render_input(self.run_of(self.inputs))})
        files = [
            (node, f"{DATA_FOLDER}/{kind}/{node.filename}")
            for kind, name in (("PAO", "orbitals"), ("VPS", "pseudos"))
            for node in self.files_of(name)
        ]
        bands = [BAND_FILE] if "bands_kpoints" in self.inputs else []
        info = self.calc_info([self.INPUT_FILE, "-nt", str(self._threads())], files, [OUT_FILE, *bands])
        # A copy, since OpenMX writes into the folder that it restarts from.
        if "restart_folder" in self.inputs:
            info.remote_copy_list.append(left_by(self.inputs.restart_folder, RESTART_FOLDER, RESTART_FOLDER))
        return info

    def _threads(self) -> int:
        """Threads of each MPI process: the cores that the scheduler is asked for."""
        return int(self.node.get_option("resources").get("num_cores_per_mpiproc") or 1)


def _species(inputs: Mapping[str, Any], elements: tuple[str, ...]) -> dict[str, Species]:
    check_files(inputs, elements, "basis", "orbitals", "pseudos")
    basis, species = inputs["basis"].get_dict(), {}
    for symbol in elements:
        pao, vps = inputs["orbitals"][symbol], inputs["pseudos"][symbol]
        if pao.code != "openmx":
            raise InputError("orbitals of another code", where=symbol, found=pao.filename, expected="a .pao file")
        pao.head.check_shells(str(basis[symbol]))
        if vps.z_valence != pao.valence:
            raise InputError(
                "orbitals and pseudopotential do not belong together",
                where=symbol,
                found=f"{pao.valence:g} valence electrons in {pao.filename}, {vps.z_valence:g} in {vps.filename}",
                expected="the same number, as of Fe5.5H.pao and Fe_PBE19H.vps",
            )
        species[symbol] = Species(f"{pao.name}-{basis[symbol]}", Path(vps.filename).stem, float(vps.z_valence))
    return species
