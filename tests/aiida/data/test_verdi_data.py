"""`verdi data deeph-hamiltonian` and `verdi data deeph-model`."""

from __future__ import annotations

import json

import pytest
from aiida.cmdline.commands.cmd_verdi import verdi
from click.testing import CliRunner

from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.model import read_description

pytestmark = pytest.mark.usefixtures("aiida_profile")


@pytest.fixture
def run(aiida_profile):
    """Function that runs `verdi data ...` and returns its result."""

    def call(*words):
        return CliRunner().invoke(verdi, ["-p", aiida_profile.name, "data", *map(str, words)])

    return call


def test_hamiltonian_show(run, deeph_folder):
    node = HamiltonianData(deeph_folder).store()
    result = run("deeph-hamiltonian", "show", node.pk)
    assert result.exit_code == 0, result.output
    assert node.uuid in result.output and "fermi_energy" in result.output and "C: [0, 1]" in result.output
    values = json.loads(run("deeph-hamiltonian", "show", "--json", node.uuid).output)
    assert values["n_pairs"] == node.n_pairs


def test_hamiltonian_export(run, deeph_folder, tmp_path):
    node = HamiltonianData(deeph_folder).store()
    assert run("deeph-hamiltonian", "export", node.pk, tmp_path / "out").exit_code == 0
    assert len(read_deeph(tmp_path / "out").hamiltonian) == node.n_pairs
    again = run("deeph-hamiltonian", "export", node.pk, tmp_path / "out")
    assert again.exit_code != 0 and "new or empty folder" in again.output


def test_hamiltonian_export_without_overlap(run, deeph_folder, tmp_path):
    node = HamiltonianData(deeph_folder).store()
    options = ("--format", "wannier90", "--mesh", 2, 1, 1)
    result = run("deeph-hamiltonian", "export", node.pk, tmp_path / "out", *options)
    assert result.exit_code == 0 and "half-way between the k-points" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"wannier90{suffix}" for suffix in ("_hr.dat", "_centres.xyz", ".win")
    }
    for options, message in ((("--format", "wannier90"), "needs --mesh"), (("--mesh", 1, 1, 1), "only with --format")):
        result = run("deeph-hamiltonian", "export", node.pk, tmp_path / "no", *options)
        assert result.exit_code != 0 and message in result.output


def test_model_show(run, make_model_folder):
    node = DeepHModelData(make_model_folder(training={"epochs": 12})).store()
    result = run("deeph-model", "show", node.pk)
    assert result.exit_code == 0, result.output
    for words in ("deephe3", "validation_mae_eV: 0.003", "training epochs", "own training"):
        assert words in result.output
    assert json.loads(run("deeph-model", "show", "--json", node.pk).output)["training"] == {"epochs": 12}


def test_model_export(run, make_model_folder, tmp_path):
    node = DeepHModelData(make_model_folder()).store()
    assert run("deeph-model", "export", node.pk, tmp_path / "out").exit_code == 0
    assert read_description(tmp_path / "out") == node.model_description


def test_node_of_another_type(run, make_model_folder):
    node = DeepHModelData(make_model_folder()).store()
    result = run("deeph-hamiltonian", "show", node.pk)
    assert result.exit_code != 0 and "no HamiltonianData found" in result.output
