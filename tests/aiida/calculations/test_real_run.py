"""Every CalcJob once for real: hydrogen chains from DFT to bands, then all of it again from the cache."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.cmdline.commands.cmd_verdi import verdi
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import CalculationFactory
from click.testing import CliRunner

N_LABELS = 4
NETWORK = {"irreps_embed": "8x0e", "irreps_mid": "8x0e+4x1o", "lmax": 1, "n_blocks": 1, "n_gaussians": 16}


def hydrogen_chain(bond, n_cells=1):
    """H2 molecules along z."""
    node = orm.StructureData(cell=[[5.0, 0, 0], [0, 5.0, 0], [0, 0, 2.2 * n_cells]], pbc=(False, False, True))
    for n in range(n_cells):
        node.append_atom(symbols="H", position=(0.0, 0.0, 2.2 * n))
        node.append_atom(symbols="H", position=(0.0, 0.0, 2.2 * n + bond))
    return node


def mesh(*divisions):
    node = orm.KpointsData()
    node.set_kpoints_mesh(divisions)
    return node


def path():
    node = orm.KpointsData()
    node.set_kpoints(np.array([[0.0, 0, z] for z in np.linspace(0, 0.5, 6)]), labels=[(0, "G"), (5, "Z")])
    return node


def pipeline(code):
    """All jobs in their order; returns their nodes by name."""
    jobs = {}

    def submit(name, command, **inputs):
        _, jobs[name] = run_get_node(CalculationFactory(f"deeph.{command}"), code=code, **inputs)
        node = jobs[name]
        assert node.is_finished_ok, f"{name}: [{node.exit_status}] {node.exit_message}"
        return node.outputs

    dft = {"ke_cutoff": 30.0, "threads": 1}
    for n, bond in enumerate(np.linspace(0.7, 0.9, N_LABELS)):
        inputs = {"bands_kpoints": path()} if n == 0 else {}
        submit(
            f"label_{n}",
            "pyscf",
            structure=hydrogen_chain(bond),
            kpoints=mesh(1, 1, 9),
            parameters=orm.Dict(dft),
            **inputs,
        )
    labels = {name: node.outputs.remote_folder for name, node in jobs.items()}
    prepared = submit("preprocess", "preprocess", labels=labels, reader=orm.Str("pyscf"))
    data = {"dataset": prepared.dataset, "dataset_folder": prepared.remote_folder}
    settings = {"network": NETWORK, "epochs": 8, "threads": 1, "device": "cpu", "checkpoint_every": 2}
    model = submit("train", "train", **data, parameters=orm.Dict(settings)).model
    submit("evaluate", "evaluate", **data, model=model, parameters=orm.Dict({"threads": 1}))
    overlap = submit(
        "overlap",
        "overlap",
        structure=hydrogen_chain(0.8, 3),
        model=model,
        parameters=orm.Dict({"basis": "pyscf:gth-szv"}),
        retrieve=orm.Bool(True),
    )
    predicted = submit("predict", "predict", model=model, overlap_folder=overlap.remote_folder)
    submit("bands", "bands", hamiltonian_folder=predicted.remote_folder, kpoints=path())
    submit("dos", "dos", hamiltonian=predicted.hamiltonian, kpoints=mesh(1, 1, 4))
    return jobs


@pytest.mark.slow
@pytest.mark.integration
def test_from_dft_to_bands_and_again_from_the_cache(aiida_profile_clean, engine_code):
    engine_code.computer.set_minimum_job_poll_interval(0.5)
    jobs = pipeline(engine_code)

    label = jobs["label_0"].outputs
    assert label.output_parameters["converged"] is True and label.output_parameters["energy_units"] == "eV"
    assert label.output_band.get_bands().shape == (6, 2)

    preprocess = jobs["preprocess"].outputs
    assert preprocess.output_parameters["n_members"] == N_LABELS
    assert [member.name for member in preprocess.dataset.members] == [f"label_{n}" for n in range(N_LABELS)]

    train = jobs["train"].outputs
    assert train.history.get_array("epoch").tolist() == list(range(8))
    assert train.output_parameters["status"] == "finished"
    assert train.model.elements == ("H",)

    evaluate = jobs["evaluate"].outputs
    assert evaluate.output_parameters["mae_eV"] > 0
    assert set(evaluate.errors["members"]) == {member["name"] for member in train.output_parameters["split"]["test"]}

    assert jobs["overlap"].outputs.overlap.n_atoms == 6
    hamiltonian = jobs["predict"].outputs.hamiltonian
    assert hamiltonian.has_hamiltonian and hamiltonian.has_overlap and hamiltonian.elements == ("H",)
    assert jobs["predict"].outputs.output_parameters["n_atoms"] == 6

    bands = jobs["bands"].outputs.bands
    assert bands.get_bands().shape == (6, 6)
    assert bands.labels == [(0, "G"), (5, "Z")]
    for node in (bands, label.output_band):
        assert_verdi_shows(node)
    assert jobs["dos"].outputs.dos.get_array("dos").max() > 0

    with enable_caching():
        again = pipeline(engine_code)
    for name, node in again.items():
        assert node.base.caching.get_cache_source() == jobs[name].uuid, name


def assert_verdi_shows(bands):
    """`verdi data core.bands show` and `export` handle the node."""
    for words in (
        ["show", "--format", "mpl_singlefile"],
        ["export", "--format", "json"],
        ["export", "--format", "agr"],
    ):
        command, option, form = words
        arguments = ["data", "core.bands", "export", option, form, str(bands.pk)]
        result = CliRunner().invoke(verdi, arguments)
        assert result.exit_code == 0, f"{command} {form}: {result.output}"
        assert result.output.strip()
