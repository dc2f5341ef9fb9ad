"""What `aiida-deeph reproduce` compares, and what it refuses; a real run is in test_provenance.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from click.testing import CliRunner

from aiida_deeph.cli.comparison import Tolerances, compare
from aiida_deeph.cli.main import command
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.deeph import write_deeph


@pytest.fixture
def process(aiida_profile_clean):
    """Function that makes a finished workflow with some outputs."""

    def make(status=0, state="finished", **outputs):
        node = orm.WorkChainNode(process_type="aiida.workflows:deeph.full").store()
        for label, value in outputs.items():
            stored = value if value.is_stored else value.store()
            stored.base.links.add_incoming(node, LinkType.RETURN, label)
        node.set_process_label("FullWorkChain")
        node.set_process_state(state)
        if state == "finished":
            node.set_exit_status(status)
        return node

    return make


def bands(shift=0.0, n=4):
    node = orm.BandsData()
    node.set_kpoints([[0.0, 0, 0], [0.5, 0, 0]])
    node.set_bands(np.arange(2.0 * n).reshape(2, n) + shift, units="eV")
    return node


def found(first, second, **tolerances):
    return {(row.output, row.quantity): row for row in compare(first, second, Tolerances(**tolerances))}


def test_bands_within_and_outside(process):
    first, second = process(bands__a=bands()), process(bands__a=bands(0.002))
    row = found(first, second)["bands.a", "largest |dE|"]
    assert row.value == pytest.approx(2.0) and row.unit == "meV" and row.outside
    assert not found(first, second, bands=3.0)["bands.a", "largest |dE|"].outside
    assert found(first, process(bands__a=bands(n=3)))["bands.a", "largest |dE|"].outside


def test_hamiltonians(process, hamiltonian, tmp_path):
    write_deeph(tmp_path / "a", hamiltonian)
    hamiltonian.hamiltonian.entries[3] += 0.005
    write_deeph(tmp_path / "b", hamiltonian)
    first, second = (process(hamiltonian__x=HamiltonianData(tmp_path / name)) for name in "ab")
    rows = found(first, second)
    assert rows["hamiltonian.x", "largest |dH|"].value == pytest.approx(5.0)
    assert rows["hamiltonian.x", "largest |dH|"].outside
    assert 0 < rows["hamiltonian.x", "mean |dH|"].value < 5.0 and not rows["hamiltonian.x", "mean |dH|"].outside
    assert rows["hamiltonian.x", "largest |dS|"].value == 0.0


def test_numbers_by_their_units(process):
    values = {
        "mae_eV": 0.004,
        "energy": -1.0,
        "energy_units": "eV",
        "n_labels": 4,
        "seconds": 3.0,
        "nested": {"a_meV": 1},
    }
    other = {**values, "mae_eV": 0.0055, "energy": -1.00001, "n_labels": 5, "seconds": 9.0, "nested": {"a_meV": 1.5}}
    rows = found(process(output_parameters=orm.Dict(values)), process(output_parameters=orm.Dict(other)))
    told = {key: (row.value, row.outside) for (output, key), row in rows.items() if output != "process"}
    assert told["mae_eV"] == (pytest.approx(1.5), True)
    assert told["energy"] == (pytest.approx(0.01), False)
    assert told["n_labels"] == ("5", True)
    assert told["a_meV"] == (pytest.approx(0.5), False)
    assert "seconds" not in told


def test_not_a_number_is_outside(process):
    first, second = process(bands__a=bands()), process(bands__a=bands(np.nan))
    assert found(first, second)["bands.a", "largest |dE|"].outside


def test_models_datasets_and_what_is_missing(process, make_model_folder, make_manifest):
    dataset = DatasetData(make_manifest(3)).store()
    first = process(model=DeepHModelData(make_model_folder(name="one")), dataset=dataset, bands__a=bands())
    second = process(model=DeepHModelData(make_model_folder(name="two")), dataset=DatasetData(make_manifest(4)))
    rows = found(first, second)
    assert rows["model", "weights"].value == "differ" and not rows["model", "weights"].outside
    assert rows["dataset", "structures"].outside
    assert rows["bands.a", "presence"].outside


@pytest.fixture
def run(aiida_profile_clean):
    return lambda *arguments: CliRunner().invoke(command, ["-p", aiida_profile_clean.name, *map(str, arguments)])


def test_exit_code_tells(run, process):
    first, near, far = process(bands__a=bands()), process(bands__a=bands(1e-4)), process(bands__a=bands(0.1))
    assert run("reproduce", first.pk, "--against", near.uuid).exit_code == 0
    done = run("reproduce", first.pk, "--against", far.pk)
    assert done.exit_code == 1 and "OUTSIDE" in done.output and "1 of 2 outside" in done.output
    values = json.loads(run("reproduce", first.pk, "--against", far.pk, "--bands", "200", "--json").output)
    assert values["outside"] == 0 and values["second"] == far.uuid


def test_what_cannot_be_reproduced(run, process, make_model_folder):
    failed, alive = process(status=310), process(state="waiting")
    orphan = DeepHModelData(make_model_folder()).store()
    for node, message in ((failed, "process failed"), (alive, "process has no result"), (orphan, "no process made it")):
        result = run("reproduce", node.pk)
        assert isinstance(result.exception, InputError) and message in str(result.exception)


@pytest.fixture
def imported(aiida_profile_clean, chain, tmp_path):
    """A label as an archive brings it: its computer is known, but not how it is reached."""
    computer = orm.Computer(
        label="far", hostname="far", transport_type="core.ssh", scheduler_type="core.slurm", workdir="/scratch"
    ).store()
    plugin = {"default_calc_job_plugin": "deeph.pyscf", "filepath_executable": "/opt/deeph-engine"}
    code = orm.InstalledCode(label="archived", computer=computer, **plugin).store()
    mesh = orm.KpointsData()
    mesh.set_kpoints_mesh([1, 1, 1])
    node = orm.WorkChainNode(process_type="aiida.workflows:deeph.label.pyscf")
    parameters = orm.Dict({"basis": "gth-szv"})
    for name, value in {"structure": chain, "code": code, "parameters": parameters, "kpoints": mesh}.items():
        node.base.links.add_incoming(value if value.is_stored else value.store(), LinkType.INPUT_WORK, name)
    node.store()
    node.set_process_label("PyscfLabelWorkChain")
    node.set_process_state("finished")
    node.set_exit_status(0)
    return node


def test_codes_that_cannot_run_here_are_named_before_anything_starts(run, imported):
    result = run("reproduce", imported.pk)
    assert isinstance(result.exception, InputError)
    text = str(result.exception)
    assert "code archived@far: computer far is not configured" in text
    assert "--code archived@far=LABEL" in text
    assert not orm.QueryBuilder().append(orm.CalcJobNode).count()


def test_codes_of_this_profile_stand_in_for_those_of_an_archive(imported, aiida_localhost, tmp_path):
    from aiida_deeph.cli.reproduce import restarted

    program = tmp_path / "deeph-engine"
    plugin = {"default_calc_job_plugin": "deeph.pyscf", "filepath_executable": str(program)}
    here = orm.InstalledCode(label="mine", computer=aiida_localhost, **plugin).store()
    with pytest.raises(InputError, match=r"no program .*deeph-engine"):
        restarted(imported, False, [f"archived={here.full_label}"])
    program.touch()
    for name in ("archived", "archived@far"):
        assert restarted(imported, False, [f"{name}={here.full_label}"]).code.pk == here.pk
    for pair, message in (
        ("other=mine", "no such recorded code.*NAME of archived@far"),
        ("archived", "no such recorded code"),
        ("archived=nowhere", "no such code here"),
    ):
        with pytest.raises(InputError, match=message):
            restarted(imported, False, [pair])
