"""pw.x, pw2bgw.x and HPRO themselves: bands of H(R), S(R) against those of pw.x."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from aiida import orm
from aiida.engine import run_get_node

from aiida_deeph.cli.proofs import prove
from aiida_deeph.codes.qe.label import QeLabelWorkChain
from aiida_deeph.engine.dft.qe.reader import QeReader
from aiida_deeph.engine.errors import InputError
from tests.aiida.qe_files import diamond, hpro_python, install_families

pytestmark = [pytest.mark.integration, pytest.mark.requires("pw.x", "pw2bgw.x"), pytest.mark.timeout(600)]


@pytest.fixture
def codes(aiida_profile, aiida_code_installed, aiida_computer_local):
    """pw.x, pw2bgw.x and the Python of HPRO, on a computer of their own: the only codes are found by themselves."""
    computer = aiida_computer_local()
    options = {"computer": computer}
    computer.set_minimum_job_poll_interval(0.5)
    found = {
        name: aiida_code_installed(
            label=f"{computer.label}-{name}", default_calc_job_plugin=plugin, filepath_executable=path, **options
        )
        for name, plugin, path in (
            ("pw", "deeph.pw", shutil.which("pw.x")),
            ("pw2bgw", "deeph.pw", shutil.which("pw2bgw.x")),
            ("hpro", "deeph.hpro", hpro_python()),
        )
    }
    return found


def test_setup_proves_the_programs(codes, capsys):
    QeLabelWorkChain.prove(codes, None, prove)
    said = capsys.readouterr().out
    assert "pw.x run of a hydrogen molecule: PwCalculation" in said and "projection by HPRO: HproCalculation" in said
    with pytest.raises(InputError, match=r"pw.x is missing.*found hpro.*--pw-path"):
        QeLabelWorkChain.prove({"hpro": codes["hpro"]}, None, prove)


def test_bands_of_a_distorted_cell_of_diamond(codes):
    """Occupied bands within 10 meV on average: what the basis lacks, for its matrix elements are those of pw.x."""
    # Shorter tables than by default cost HPRO half the time, and the bands half a meV.
    install_families("C", label="gth-8", bases=("gth-dzvp-molopt-sr",), radius=8.0)
    overrides = {"kpoints": [3, 3, 3], "parameters": {"orbitals_family": "gth-8", "pseudos_family": "gth-8"}}
    structure, points = diamond(), orm.KpointsData()
    points.set_kpoints([[0.0, 0.0, 0.0], [0.1, 0.23, 0.31], [0.37, 0.5, -0.12], [0.45, 0.05, 0.2]])
    builder = QeLabelWorkChain.get_builder_from_protocol(
        codes["pw"], structure, "balanced", overrides, {"withmpi": False}, points
    )
    assert {name: code.pk for name, code in builder.codes.items()} == {n: codes[n].pk for n in ("pw2bgw", "hpro")}
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, (node.exit_message, [child.exit_message for child in node.called])

    numbers = outputs["output_parameters"].get_dict()
    assert numbers["converged"] and numbers["n_electrons"] == 8
    projection = numbers["projection"]
    assert projection["n_kpoints"] == 14 and projection["n_occupied"] == 4 and not projection["warnings"]
    assert 0 < projection["mean_error"] < 0.010 and projection["max_error"] < 0.080

    data = QeReader().read(Path(outputs["remote_folder"].get_remote_path()))
    assert data.fermi_energy == pytest.approx(numbers["fermi_energy"])
    assert data.structure.positions == pytest.approx(np.array([site.position for site in structure.sites]), abs=1e-7)
    bands = outputs["output_band"].get_bands()
    found = np.array(
        [
            scipy.linalg.eigh(data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray(), eigvals_only=True)[:4]
            for k in points.get_kpoints()
        ]
    )
    errors = np.abs(found - bands[:, :4])
    assert errors.mean() < 0.010 and errors.max() < 0.080
    # Variational: what the basis lacks raises the bands.
    assert (found - bands[:, :4]).min() > -1e-3
    assert {child.process_label for child in node.called} == {"PwCalculation", "HproCalculation", "label_results"}
