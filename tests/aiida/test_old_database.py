"""An archive that version 0.1.0 wrote (its reduced quickstart): what a user does with such nodes goes on working."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import disable_caching
from aiida.tools.archive import import_archive
from click.testing import CliRunner

from aiida_deeph.calculations.predict import PredictCalculation
from aiida_deeph.cli.main import command
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "archives" / "full_0.1.0.aiida"


# AiiDA's own warning while it imports the groups of an archive.
pytestmark = pytest.mark.filterwarnings("ignore:Object of type <DbGroup> not in session")


def one(cls: type[orm.Node], **filters: object) -> orm.Node:
    return orm.QueryBuilder().append(cls, filters=filters).first(flat=True)


@pytest.fixture(scope="module")
def full(aiida_profile):
    """The workchain of everything, of which all others descend, alone in the profile while these tests run.

    The code and the computer of the archive have the names of those that other tests make.
    """
    aiida_profile.reset_storage()
    import_archive(ARCHIVE)
    yield one(orm.WorkChainNode, process_type="aiida.workflows:deeph.full")
    aiida_profile.reset_storage()


@pytest.fixture
def run(full, aiida_profile, tmp_path, monkeypatch):
    """Function that runs `aiida-deeph ARGUMENTS` and returns its output."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(command, ["-p", aiida_profile.name, *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


def test_processes_with_entry_points_load(full):
    processes = [node for node in orm.QueryBuilder().append(orm.ProcessNode).all(flat=True) if ":" in node.process_type]
    assert len(processes) > 20
    assert all(node.process_class for node in processes)


def test_model_card(run):
    card = run("model", "show", one(DeepHModelData).pk)
    assert "deephe3" in card and "C-H" in card and "PySCF" in card


def test_bands_are_drawn_and_exported(run, tmp_path):
    bands = one(orm.BandsData)
    run("bands", "plot", bands.pk, "--output", "bands.png")
    assert (tmp_path / "bands.png").read_bytes().startswith(b"\x89PNG")
    run("bands", "export", bands.pk, "--format", "json", "--output", "bands.json")
    assert np.shape(json.loads((tmp_path / "bands.json").read_text())["energies"])[-2:] == bands.get_bands().shape[-2:]


def test_density_of_states_is_drawn(run, tmp_path):
    job = one(orm.CalcJobNode, process_type="aiida.calculations:deeph.dos")
    run("dos", "plot", job.pk, "--output", "dos.png")
    assert (tmp_path / "dos.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_model_predicts_what_it_predicted(full, aiida_computer_local, aiida_code_installed):
    """The same weights give the same H: nothing in a stored model is read otherwise than before."""
    jobs = orm.QueryBuilder().append(orm.CalcJobNode, filters={"process_type": "aiida.calculations:deeph.predict"})
    job = min(jobs.all(flat=True), key=lambda node: node.outputs.hamiltonian.n_atoms)
    builder = PredictCalculation.get_builder()
    builder.code = aiida_code_installed(
        label="engine-of-today",
        default_calc_job_plugin="deeph.predict",
        filepath_executable=str(Path(sys.executable).with_name("deeph-engine")),
        computer=aiida_computer_local(label="today"),
    )
    builder.model = job.inputs.model
    builder.overlap = job.outputs.hamiltonian
    builder.parameters = job.inputs.parameters
    with disable_caching():
        results, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    before, after = (data.load() for data in (job.outputs.hamiltonian, results["hamiltonian"]))
    assert isinstance(results["hamiltonian"], HamiltonianData)
    assert np.array_equal(before.hamiltonian.atom_pairs, after.hamiltonian.atom_pairs)
    assert np.abs(before.hamiltonian.entries - after.hamiltonian.entries).max() < 1e-5
