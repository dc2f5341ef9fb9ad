"""SIESTA and ABACUS themselves, where they are installed: input, run, numbers, bands and matrices belong together.

Skipped without them, whatever else is required: no package of Debian 12 holds them. SIESTA also needs the
pseudopotential of carbon: a folder with C.psml or C.psf, by AIIDA_DEEPH_SIESTA_PSEUDOS.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import DataFactory

from aiida_deeph.codes.abacus.label import AbacusLabelWorkChain
from aiida_deeph.codes.siesta.label import SiestaLabelWorkChain
from aiida_deeph.data.pao import PaoData
from aiida_deeph.engine.dft.base import get_reader

pytestmark = pytest.mark.integration
# A path, a corner and a point that lies nowhere near it.
POINTS = [[0, 0, 0], [1 / 6, 1 / 6, 0], [1 / 3, 1 / 3, 0], [0.4, 0.2, 0], [0.1, 0.2, 0.3]]
OPTIONS = {"withmpi": False, "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"program {name} is not on PATH")
    return path


def graphene() -> orm.StructureData:
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, 12]])
    node = orm.StructureData(cell=cell.tolist(), pbc=(True, True, False))
    for third in (0, 1):
        # The second atom lies outside the cell.
        position = np.array([third * (1 / 3 - 1), 2 * third / 3, 0.5]) @ cell
        node.append_atom(symbols="C", position=position.tolist())
    return node


def check(workchain, code, parameters, files, spin, limit):
    code.computer.set_minimum_job_poll_interval(0.5)
    kpoints = orm.KpointsData()
    kpoints.set_kpoints(POINTS)
    overrides = {"parameters": {**parameters, "spin": spin}, "files": files, "kpoints": [5, 5, 1]}
    builder = workchain.get_builder_from_protocol(code, graphene(), "fast", overrides, OPTIONS, kpoints)
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    data = get_reader(workchain.record.name).read(Path(outputs["remote_folder"].get_remote_path()))
    assert data.spin.value == spin
    np.testing.assert_allclose(data.structure.positions, [site.position for site in graphene().sites], atol=1e-6)
    bands = outputs["output_band"].get_bands()
    bands = bands if bands.ndim == 3 else bands[None]
    for n, k in enumerate(POINTS):
        H, S = data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray()
        expected = np.sort(bands[:, n].ravel())
        found = scipy.linalg.eigvalsh(H, S)[: len(expected)]
        near = expected < outputs["output_parameters"]["fermi_energy"] + 5.0
        np.testing.assert_allclose(found[near], expected[near], atol=limit)


@pytest.mark.parametrize("spin", ["none", "collinear", "noncollinear"])
def test_siesta(spin, aiida_profile_clean, aiida_code_installed):
    path = program("siesta")
    folder = Path(os.environ.get("AIIDA_DEEPH_SIESTA_PSEUDOS", "no such folder"))
    pseudo = next((folder / f"C.{kind}" for kind in ("psml", "psf") if (folder / f"C.{kind}").is_file()), None)
    if pseudo is None:
        pytest.skip("no C.psml or C.psf in AIIDA_DEEPH_SIESTA_PSEUDOS")
    code = aiida_code_installed(label="siesta", default_calc_job_plugin="deeph.siesta", filepath_executable=path)
    node = DataFactory(f"pseudo.{pseudo.suffix[1:]}")(pseudo)
    check(SiestaLabelWorkChain, code, {"basis": {"C": "SZP"}}, {"pseudo_C": node}, spin, 2e-4)


@pytest.mark.parametrize("spin", ["none", "collinear", "noncollinear"])
def test_abacus(spin, aiida_profile_clean, aiida_code_installed, shared):
    path = program("abacus")
    folder, orbitals = shared / "reference" / "abacus-data", "C_gga_8au_100Ry_2s2p1d"
    code = aiida_code_installed(label="abacus", default_calc_job_plugin="deeph.abacus", filepath_executable=path)
    upf = DataFactory("pseudo.upf")(folder / "C_ONCV_PBE-1.0.upf")
    files = {"orb_C": PaoData(folder / f"{orbitals}.orb"), "upf_C": upf}
    check(AbacusLabelWorkChain, code, {"basis": {"C": orbitals}}, files, spin, 1e-3)
