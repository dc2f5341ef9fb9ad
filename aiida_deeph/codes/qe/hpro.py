"""H(R) and S(R) of a pw.x run in a basis of atomic orbitals, by HPRO.

HPRO (GPL) is a program of its own: the code of this job is the Python interpreter of the environment in which it is
installed, and what travels with the job is a small script of ours, a configuration and tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.orm import AbstractCode, Dict, RemoteData, StructureData
from aiida_pseudo.data.pseudo.upf import UpfData
from pydantic import Field

from aiida_deeph.calculations.validation import check_parameters, check_structure
from aiida_deeph.codes.job import ProgramCalculation, check_files, left_by
from aiida_deeph.codes.qe.pw import POTENTIAL_PATH, XML_PATH
from aiida_deeph.data.pao import PaoData
from aiida_deeph.data.structure import atom_symbols
from aiida_deeph.engine.config import Config
from aiida_deeph.engine.dft.qe import hpro_driver
from aiida_deeph.engine.dft.qe.code import (
    DEEPH_FOLDER,
    ORBITAL_FOLDER,
    POTENTIAL_FILE,
    PSEUDO_FOLDER,
    RESULT_FILE,
    XML_FILE,
)
from aiida_deeph.engine.dft.qe.hpro_files import hpro_ion, read_shells
from aiida_deeph.engine.dft.qe.upf import hpro_upf, read_upf
from aiida_deeph.engine.errors import InputError

DRIVER_FILE = "hpro_driver.py"


class HproConfig(Config):
    """What `parameters` of the job hold.

    :param cutoff: of the orbitals' Fourier transforms, Rydberg; that of pw.x is a good one.
    :param spin_orbit: whether pw.x took spin-orbit coupling into account; its pseudopotentials then have it all.
    :param n_kpoints: of the SCF's mesh, at which the bands are compared with those of pw.x.
    :param max_error: mean error of the occupied bands from which on the label is refused, eV.
    :param warn_error: mean error from which on there is a warning, eV.
    """

    cutoff: float = Field(gt=0)
    spin_orbit: bool = False
    n_kpoints: int = Field(default=32, ge=1)
    max_error: float = Field(default=0.2, gt=0)
    warn_error: float = Field(default=0.05, gt=0)


class HproCalculation(ProgramCalculation):
    """Project a run of pw.x and pw2bgw.x; a DeepH folder stays beside pw.x's XML, the errors of the bands return."""

    PROGRAM = "HPRO"
    PLUGIN = "deeph.hpro"
    INPUT_FILE = "hpro.json"
    STDOUT_FILE = "hpro.out"
    STDERR_FILE = "hpro.err"
    WITH_MPI = False

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.inputs["code"].validator = check_hpro_code
        spec.input("structure", valid_type=StructureData, validator=check_structure, help="That of pw.x.")
        spec.input("parameters", valid_type=Dict, validator=check_config, help="Fields of HproConfig.")
        spec.input("pw_folder", valid_type=RemoteData, help="Folder of the run of pw.x and pw2bgw.x.")
        spec.input_namespace("pseudos", valid_type=UpfData, dynamic=True, help="Pseudopotential of each element.")
        spec.input_namespace("orbitals", valid_type=PaoData, dynamic=True, help="File of orbitals of each element.")
        for status, label, message in (
            (240, "ERROR_ENVIRONMENT", "The Python of the code lacks what HPRO needs: {message}"),
            (330, "ERROR_PROJECTION", "The orbitals do not span the occupied bands: {message}"),
        ):
            spec.exit_code(status, label, message, invalidates_cache=True)

    @classmethod
    def check_run(cls, inputs: Mapping[str, Any]) -> None:
        """Every element has its projectors and orbitals, which belong together and fit the spins."""
        spin_orbit = bool(inputs["parameters"].get_dict().get("spin_orbit", False))
        hpro_files(atom_symbols(inputs["structure"]), inputs["pseudos"], inputs["orbitals"], spin_orbit)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        config = HproConfig.model_validate(self.inputs.parameters.get_dict())
        symbols = atom_symbols(self.inputs.structure)
        files = hpro_files(symbols, self.inputs.pseudos, self.inputs.orbitals, config.spin_orbit)
        files[DRIVER_FILE] = Path(hpro_driver.__file__).read_text(encoding="utf-8")
        values = {
            "potential": POTENTIAL_FILE,
            "xml": XML_FILE,
            "pseudos": PSEUDO_FOLDER,
            "orbitals": ORBITAL_FOLDER,
            "output": DEEPH_FOLDER,
            "result": RESULT_FILE,
            "cutoff": config.cutoff / 2,  # Hartree
            "spin_orbit": config.spin_orbit,
            "n_kpoints": config.n_kpoints,
            "names": {symbol: node.name for symbol, node in sorted(self.inputs.orbitals.items())},
        }
        files[self.INPUT_FILE] = json.dumps(values, indent=2) + "\n"
        self.write_files(folder, files)
        info = self.calc_info([DRIVER_FILE, self.INPUT_FILE], [], [RESULT_FILE])
        # Copies: the label of the potential is changed, and the XML belongs to what a later reader needs.
        pw = self.inputs.pw_folder
        info.remote_copy_list += [left_by(pw, POTENTIAL_PATH, POTENTIAL_FILE), left_by(pw, XML_PATH, XML_FILE)]
        return info


def hpro_files(
    symbols: tuple[str, ...], pseudos: Mapping[str, UpfData], orbitals: Mapping[str, PaoData], spin_orbit: bool = False
) -> dict[str, str]:
    """Projectors and orbitals as HPRO reads them: path in the job's folder -> text.

    :raises InputError: an element without, files of other elements, or of a kind that HPRO cannot take.
    """
    files = {}
    check_files({"pseudos": pseudos, "orbitals": orbitals}, symbols, "pseudos", "orbitals")
    for symbol in dict.fromkeys(symbols):
        upf, pao = pseudos[symbol], orbitals[symbol]
        pseudo = read_upf(upf.get_content(), upf.filename)
        _, valence, shells = read_shells(pao.get_content(), pao.filename)
        if valence is not None and valence != pseudo.valence:
            raise InputError(
                "orbitals and pseudopotential do not belong together",
                where=symbol,
                found=f"{valence:g} valence electrons in {pao.filename}, {pseudo.valence:g} in {upf.filename}",
                expected="the same number",
            )
        if (pseudo.js is not None) != spin_orbit:
            kinds = ("scalar relativistic", "fully relativistic")
            raise InputError(
                "pseudopotential does not fit the spins",
                where=f"{symbol}: {upf.filename}",
                found=kinds[pseudo.js is not None],
                expected=f"{kinds[spin_orbit]}, {'with' if spin_orbit else 'without'} spin-orbit coupling",
            )
        files[f"{PSEUDO_FOLDER}/{symbol}.upf"] = hpro_upf(pseudo)
        files[f"{ORBITAL_FOLDER}/{symbol}.ion"] = hpro_ion(symbol, pseudo.valence, shells, pao.filename)
    return files


def check_hpro_code(code: AbstractCode, _: Any = None) -> str | None:
    """The code has to be the Python of HPRO's environment, and say so."""
    if code.default_calc_job_plugin == HproCalculation.PLUGIN:
        return None
    return str(
        InputError(
            "code is not the Python of HPRO",
            where=f"code `{code.label}`",
            found=f"default plugin {code.default_calc_job_plugin}",
            expected=HproCalculation.PLUGIN,
            remedy="`aiida-deeph setup codes --hpro-python PATH` registers one",
        )
    )


def check_config(node: Dict, _: Any = None) -> str | None:
    """Fields of HproConfig."""
    return check_parameters(node.get_dict(), HproConfig, {})
