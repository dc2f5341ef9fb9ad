"""One geometry with SIESTA: SCF, bands, and H(R), S(R) and the orbitals' files for labels.

A plugin of our own: aiida-siesta 2.0.0 wants seekpath below 2, older than what aiida-core 2.9 is tested with here, so
that both cannot be installed together; it rounds the k-points of bands to three decimals; and it has neither a list of
files that must be there at the end nor a node of the orbitals that SIESTA made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.orm import Dict, to_aiida_type
from aiida_pseudo.data.pseudo.psf import PsfData
from aiida_pseudo.data.pseudo.psml import PsmlData

from aiida_deeph.codes.calculation import DftCalculation, check_spin_orbit
from aiida_deeph.codes.job import check_files, left_by
from aiida_deeph.data.pao import PaoData
from aiida_deeph.engine.dft.siesta.code import LABEL
from aiida_deeph.engine.dft.siesta.input import SiestaRun, checked_basis, render_input
from aiida_deeph.engine.dft.siesta.keywords import TABLE

PLUGIN = "deeph.siesta"
BANDS_FILE = f"{LABEL}.bands"
DENSITY_FILE = f"{LABEL}.DM"
# Orbitals of a species, which an overlap needs that is computed without SIESTA.
ORBITALS_SUFFIX = ".ion.xml"
BASIS = "Basis of each element: a size that SIESTA makes orbitals of, e.g. {C: DZP}, or its lines of PAO.Basis."


class SiestaCalculation(DftCalculation):
    """SIESTA on one structure; HSX and TSHS stay in the remote folder, numbers, bands and orbitals return.

    The species are the elements; their pseudopotentials are uploaded as SYMBOL.psml or SYMBOL.psf.
    """

    PROGRAM = "SIESTA"
    PLUGIN = PLUGIN
    INPUT_FILE = f"{LABEL}.fdf"
    STDOUT_FILE = f"{LABEL}.out"
    STDERR_FILE = f"{LABEL}.err"
    KEYWORDS = TABLE
    EXAMPLE = "{MeshCutoff: 300 Ry, PAO: {EnergyShift: 100 meV}}"
    RENDER = staticmethod(render_input)
    PSEUDOS = (PsmlData, PsfData)

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.input("basis", valid_type=Dict, serializer=to_aiida_type, help=BASIS)
        spec.output_namespace(
            "orbitals",
            valid_type=PaoData,
            dynamic=True,
            required=False,
            help="The orbitals that SIESTA made, by element.",
        )

    @classmethod
    def run_of(cls, inputs: Mapping[str, Any]) -> SiestaRun:
        """See the base class."""
        fields = cls.run_fields(inputs)
        elements = fields["structure"].elements
        check_files(inputs, elements, "basis", "pseudos")
        check_spin_orbit(inputs, elements)
        basis = {symbol: checked_basis(symbol, inputs["basis"][symbol]) for symbol in elements}
        valences = {symbol: getattr(inputs["pseudos"][symbol], "z_valence", None) for symbol in elements}
        return SiestaRun(**fields, basis=basis, valences=valences)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        self.write_files(folder, {self.INPUT_FILE: render_input(self.run_of(self.inputs))})
        files = [(node, f"{node.element}{pseudo_suffix(node)}") for node in self.files_of("pseudos")]
        orbitals = [f"{node.element}{ORBITALS_SUFFIX}" for node in self.files_of("pseudos")]
        bands = [BANDS_FILE] if "bands_kpoints" in self.inputs else []
        info = self.calc_info([], files, [*bands, *orbitals])
        # All versions read standard input.
        info.codes_info[0].stdin_name = self.INPUT_FILE
        if "restart_folder" in self.inputs:
            info.remote_copy_list.append(left_by(self.inputs.restart_folder, DENSITY_FILE, DENSITY_FILE))
        return info


def pseudo_suffix(node: PsmlData | PsfData) -> str:
    """By which SIESTA tells the format."""
    return ".psml" if isinstance(node, PsmlData) else ".psf"
