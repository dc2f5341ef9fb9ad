"""One geometry with ABACUS: an SCF with H(R), S(R) for labels, or the bands of the density of such a run.

A plugin of our own: aiida-abacus 0.3.1 wants an aiida-pseudo older than the one that is used here, so that both cannot
be installed together; it has no exit code for an SCF that did not converge nor for a refused input, and no way to order
the atoms back that it groups by kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida_pseudo.data.pseudo.upf import UpfData

from aiida_deeph.codes.calculation import DftCalculation, check_spin_orbit
from aiida_deeph.codes.job import check_files, left_by
from aiida_deeph.data.pao import PaoData
from aiida_deeph.engine.dft.abacus.code import OUTPUT_FOLDER
from aiida_deeph.engine.dft.abacus.input import (
    DATA_FOLDER,
    RESTART_FOLDER,
    AbacusRun,
    Species,
    render_inputs,
)
from aiida_deeph.engine.dft.abacus.keywords import TABLE
from aiida_deeph.engine.errors import InputError

PLUGIN = "deeph.abacus"
SCF_LOG = "running_scf.log"
BANDS_LOG = "running_nscf.log"
WARNINGS_FILE = "warning.log"
# Names up to release 3.10, then later ones; one file of each spin.
BANDS_FILES = (("BANDS_1.dat", "BANDS_2.dat"), ("eigs1.txt", "eigs2.txt"))


class AbacusCalculation(DftCalculation):
    """ABACUS (LCAO) on one structure; the CSR files of H(R) and S(R) stay in the remote folder, numbers return.

    With `bands_kpoints` the job is not an SCF, but computes these bands from the density in `restart_folder`: ABACUS
    has no SCF with bands at other k-points.
    """

    PROGRAM = "ABACUS"
    PLUGIN = PLUGIN
    INPUT_FILE = "INPUT"
    STDOUT_FILE = "abacus.out"
    STDERR_FILE = "abacus.err"
    KEYWORDS = TABLE
    EXAMPLE = "{dft_functional: pbe, ecutwfc: 100}"
    RENDER = staticmethod(render_inputs)
    PSEUDOS = (UpfData,)

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.input_namespace("orbitals", valid_type=PaoData, dynamic=True, help="File of orbitals of each element.")

    @classmethod
    def run_of(cls, inputs: Mapping[str, Any]) -> AbacusRun:
        """See the base class."""
        fields = cls.run_fields(inputs)
        elements = fields["structure"].elements
        check_files(inputs, elements, "orbitals", "pseudos")
        check_spin_orbit(inputs, elements)
        species = {}
        for symbol in elements:
            orb, upf = inputs["orbitals"][symbol], inputs["pseudos"][symbol]
            if orb.code != "abacus":
                raise InputError("orbitals of another code", where=symbol, found=orb.filename, expected="a .orb file")
            species[symbol] = Species(orb.filename, upf.filename, upf.z_valence)
        return AbacusRun(**fields, species=species)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        self.write_files(folder, render_inputs(self.run_of(self.inputs)))
        nodes = [*self.files_of("orbitals"), *self.files_of("pseudos")]
        info = self.calc_info([], [(node, f"{DATA_FOLDER}/{node.filename}") for node in nodes], [])
        bands = "bands_kpoints" in self.inputs
        names = [BANDS_LOG, *(name for pair in BANDS_FILES for name in pair)] if bands else [SCF_LOG]
        info.retrieve_list += [(f"{OUTPUT_FOLDER}/{name}", ".", 2) for name in [*names, WARNINGS_FILE]]
        if "restart_folder" in self.inputs:
            info.remote_symlink_list.append(left_by(self.inputs.restart_folder, OUTPUT_FOLDER, RESTART_FOLDER))
        return info
