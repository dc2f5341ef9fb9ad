"""OpenMX itself, where it is installed: input, run, numbers, bands and matrices belong together.

Skipped without OpenMX, whatever else is required: no package of Debian 12 holds it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from aiida import orm
from aiida.engine import run_get_node

from aiida_deeph.data.pao import PaoData
from aiida_deeph.engine.dft.openmx.reader import OpenmxReader

PROGRAM = shutil.which("openmx")
pytestmark = [pytest.mark.integration, pytest.mark.skipif(PROGRAM is None, reason="program openmx is not on PATH")]


@pytest.mark.parametrize("spin", ["none", "collinear", "noncollinear"])
def test_graphene(spin, aiida_profile_clean, aiida_code_installed, shared):
    from aiida.plugins import DataFactory

    from aiida_deeph.codes.openmx.calculation import OpenmxCalculation

    folder = shared / "reference" / "openmx-data"
    code = aiida_code_installed(default_calc_job_plugin="deeph.openmx", filepath_executable=str(PROGRAM))
    code.computer.set_minimum_job_poll_interval(0.5)
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, 12]])
    structure = orm.StructureData(cell=cell.tolist(), pbc=(True, True, False))
    for third in (0, 1):
        structure.append_atom(symbols="C", position=(np.array([third / 3, 2 * third / 3, 0.5]) @ cell).tolist())
    mesh, points = orm.KpointsData(), orm.KpointsData()
    mesh.set_kpoints_mesh([3, 3, 1])
    # A path, a corner and a point that lies nowhere near it.
    points.set_kpoints([[0, 0, 0], [1 / 6, 1 / 6, 0], [1 / 3, 1 / 3, 0], [0.4, 0.2, 0], [0.1, 0.2, 0.3]])
    scf = {"XcType": "GGA-PBE", "energycutoff": 40.0, "criterion": 1e-6, "Mixing.Type": "Rmm-Diisk", "maxIter": 100}
    inputs = {
        "structure": structure,
        "parameters": orm.Dict({"scf": scf}),
        "kpoints": mesh,
        "bands_kpoints": points,
        "basis": orm.Dict({"C": "s1p1"}),
        "orbitals": {"C": PaoData(folder / "C6.0.pao")},
        "pseudos": {"C": DataFactory("pseudo.vps")(folder / "C_PBE19.vps")},
        "spin": orm.Str(spin),
        "spin_orbit": orm.Bool(spin == "noncollinear"),
        "metadata": {"options": {"withmpi": False}},
    }
    outputs, node = run_get_node(OpenmxCalculation, code=code, **inputs)
    assert node.is_finished_ok, node.exit_message
    assert outputs["output_parameters"]["n_electrons"] == pytest.approx(8.0, abs=1e-6)

    data = OpenmxReader().read(Path(outputs["remote_folder"].get_remote_path()))
    assert data.spin.value == spin
    np.testing.assert_allclose(data.structure.positions, [site.position for site in structure.sites], atol=1e-7)
    bands = np.atleast_3d(outputs["output_band"].get_bands())
    energies = bands.transpose(1, 2, 0).reshape(5, -1) if spin == "collinear" else bands[..., 0]
    for k, expected in zip(points.get_kpoints(), energies, strict=True):
        H = data.hamiltonian.to_csr(k, data.rows_per_atom).toarray()
        S = data.overlap.to_csr(k, data.orbitals_per_atom).toarray()
        S = S if spin == "none" else np.kron(np.eye(2), S)
        H = H if spin == "none" else _spin_major(H, data.orbitals_per_atom)
        found = scipy.linalg.eigh(H, S, eigvals_only=True)
        np.testing.assert_allclose(found, np.sort(expected), atol=1e-6)


def _spin_major(H: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """From spin blocks inside each atom pair to spin blocks of the whole matrix."""
    ends = np.cumsum(2 * sizes)
    up = np.concatenate([np.arange(end - 2 * n, end - n) for end, n in zip(ends, sizes, strict=True)])
    down = np.concatenate([np.arange(end - n, end) for end, n in zip(ends, sizes, strict=True)])
    order = np.concatenate([up, down])
    return H[np.ix_(order, order)]
