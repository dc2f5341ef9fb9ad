"""k-points split over jobs by one input: the bands of one job, and shares that go on where they were killed."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.engine.domain.kpoints import gamma_mesh, mesh_for_spacing
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.observables.dos import DensityOfStates, DosConfig
from aiida_deeph.workflows.bands import BandsWorkChain


@pytest.fixture
def builder(engine_code, deeph_folder):
    """Bands of three k-points in jobs of at most two."""
    overrides = {"points_per_segment": 2, "dos": None, "max_kpoints_per_job": 2}
    node = HamiltonianData(deeph_folder)
    return BandsWorkChain.get_builder_from_protocol(engine_code, node, "fast", overrides, kpath="G-X")


@pytest.mark.slow
def test_joined_bands_are_those_of_one_job(builder, deeph_folder, tmp_path):
    results, process = run_get_node(builder)
    assert process.is_finished_ok, process.exit_message
    jobs = {job.label: job for job in process.called if isinstance(job, orm.CalcJobNode)}
    links = {
        link.link_label: link.node
        for link in process.base.links.get_outgoing().all()
        if isinstance(link.node, orm.CalcJobNode)
    }
    assert set(links) == {"bands_share_000", "bands_share_001", "bands"} and set(jobs) == {"bands"}
    shares = [links[f"bands_share_{n:03d}"].outputs.output_parameters.get_dict() for n in range(2)]
    assert [(share["share"], share["n_solved"]) for share in shares] == [([0, 2], 2), ([1, 2], 1)]
    assert "bands" not in links["bands_share_000"].outputs
    assert (
        links["bands"].inputs.share_folders.bands_share_001.uuid == links["bands_share_001"].outputs.remote_folder.uuid
    )

    config = BandsConfig(
        folder=str(deeph_folder), kpath="G-X", points_per_segment=2, output=str(tmp_path / "bands.json")
    )
    whole = json.loads(Bands.run(config).read_text())
    np.testing.assert_allclose(results["bands"].get_bands(), whole["energies"][0], atol=1e-9)
    assert results["bands"].labels == [(0, "G"), (2, "X")]
    assert results["output_parameters"]["fermi_level"] == pytest.approx(whole["fermi_level"])
    # Nothing was left for the job that joined them, and it leaves nothing behind.
    assert "bands.json.partial" in links["bands_share_000"].outputs.remote_folder.listdir()
    assert "bands.json.partial" not in links["bands"].outputs.remote_folder.listdir()


KILLED = """#!{python}
import os, signal
from aiida_deeph.engine.linalg import kpoint_loop as kloop, solvers
from aiida_deeph.engine.cli.main import main

kloop.WORTH_KEEPING = 0.0
solve, count = solvers.solve_dense, 0
def counted(*args, **options):
    global count
    if count == 2 and not os.path.exists("restart"):
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    return solve(*args, **options)
solvers.solve_dense = counted
try:
    main()
finally:
    print("solved", count)
"""


@pytest.mark.slow
def test_job_that_was_killed_loses_one_kpoint(aiida_code_installed, deeph_folder, tmp_path):
    """The engine is killed for real at its third k-point; the next job solves that one and those after it."""
    script = tmp_path / "killed"
    script.write_text(KILLED.format(python=sys.executable))
    script.chmod(0o755)
    code = aiida_code_installed(
        label="killed", default_calc_job_plugin="deeph.bands", filepath_executable=str(script), use_double_quotes=False
    )
    overrides = {"points_per_segment": 4, "dos": None}
    builder = BandsWorkChain.get_builder_from_protocol(
        code, HamiltonianData(deeph_folder), "fast", overrides, kpath="G-X"
    )
    results, process = run_get_node(builder)
    assert process.is_finished_ok, process.exit_message
    first, second = sorted(process.called_descendants[-2:], key=lambda job: job.pk)
    assert (first.exit_status, second.exit_status) == (400, 0)
    config = BandsConfig(
        folder=str(deeph_folder), kpath="G-X", points_per_segment=4, output=str(tmp_path / "bands.json")
    )
    whole = json.loads(Bands.run(config).read_text())
    np.testing.assert_allclose(results["bands"].get_bands(), whole["energies"][0], atol=1e-9)
    solved = int(second.outputs.retrieved.base.repository.get_object_content("deeph.out").split()[-1])
    n_mesh = len(gamma_mesh(whole["fermi"]["mesh"])[0])
    assert solved == len(whole["kpoints"]) + n_mesh - 2


def test_killed_share_goes_on_alone(start, step, builder, ended_job, remote):
    process = start(builder)
    step(process, process.choose_kpoints)
    assert process.shares("bands") == ["bands_share_000", "bands_share_001"]
    jobs = step(process, process.run_jobs)
    assert {job.inputs.parameters["share"][0] for job in jobs.values()} == {0, 1}
    folder = remote()
    process.ctx.bands_share_000 = ended_job("deeph.bands", 120, outputs={"remote_folder": folder})
    process.ctx.bands_share_001 = ended_job("deeph.bands", 0, outputs={"remote_folder": remote()})
    assert process.has_work()
    again = step(process, process.run_jobs)
    assert set(again) == {"bands_share_000"}
    assert again["bands_share_000"].inputs.restart_folder.uuid == folder.uuid
    assert again["bands_share_000"].inputs.parameters["share"] == [0, 2]
    process.ctx.bands_share_000 = ended_job("deeph.bands", 0, outputs={"remote_folder": remote()})
    assert process.due("bands") == ["bands"]
    job = step(process, process.run_jobs)["bands"]
    assert job.inputs.share_folders.bands_share_000.uuid == process.ctx.bands_share_000.outputs.remote_folder.uuid
    # Even the last job, when it is killed, keeps what the shares did.
    process.ctx.bands = ended_job("deeph.bands", 140, outputs={"remote_folder": remote()})
    assert process.due("bands") == ["bands"]
    job = step(process, process.run_jobs)["bands"]
    assert set(job.inputs.share_folders) == {"bands_share_000", "bands_share_001"}
    assert job.inputs.restart_folder.uuid == process.ctx.bands.outputs.remote_folder.uuid


def test_failed_share_fails_the_bands(start, step, builder, ended_job, remote):
    process = start(builder)
    step(process, process.choose_kpoints)
    process.ctx.bands_share_000 = ended_job("deeph.bands", 0, outputs={"remote_folder": remote()})
    process.ctx.bands_share_001 = ended_job("deeph.bands", 210, outputs={"remote_folder": remote()})
    assert not process.has_work()
    verdict = step(process, process.results)
    assert verdict.status == BandsWorkChain.exit_codes.ERROR_BANDS_FAILED.status
    assert "210" in verdict.message


def test_few_kpoints_are_one_job_and_meshes_are_counted(start, step, engine_code, deeph_folder):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints_mesh([2, 3, 1])
    for most, expected in ((6, 1), (4, 2), (1, 6)):
        overrides = {"dos": {"parameters": {"spacing": 0.6}}, "max_kpoints_per_job": most}
        process = start(
            BandsWorkChain.get_builder_from_protocol(
                engine_code, HamiltonianData(deeph_folder), overrides=overrides, kpoints=kpoints
            )
        )
        step(process, process.choose_kpoints)
        assert (process.n_shares("bands"), len(process.shares("bands"))) == (expected, expected if expected > 1 else 0)
        structure = process.inputs.hamiltonian.get_structure()
        mesh = mesh_for_spacing(structure.cell, structure.pbc, 0.6)
        assert process.n_kpoints("dos") == np.prod(mesh)


@pytest.mark.slow
def test_density_of_states_in_shares_is_that_of_one_job(engine_code, deeph_folder, tmp_path):
    """What holds for the bands holds for every observable: here shares, and a job that goes on where one was killed."""
    mesh = orm.KpointsData()
    mesh.set_kpoints_mesh([4, 1, 1])
    overrides = {"points_per_segment": 2, "max_kpoints_per_job": 3, "dos": {"parameters": {"n_points": 21}}}
    builder = BandsWorkChain.get_builder_from_protocol(
        engine_code, HamiltonianData(deeph_folder), "fast", overrides, kpath="G-X"
    )
    builder.dos.kpoints = mesh
    results, process = run_get_node(builder)
    assert process.is_finished_ok, process.exit_message
    labels = {link.link_label for link in process.base.links.get_outgoing(node_class=orm.CalcJobNode).all()}
    assert labels == {"bands", "dos_share_000", "dos_share_001", "dos"}
    config = DosConfig(folder=str(deeph_folder), mesh=(4, 1, 1), n_points=21, output=str(tmp_path / "dos.json"))
    whole = json.loads(DensityOfStates.run(config).read_text())
    np.testing.assert_allclose(results["dos"].get_array("dos"), whole["dos"], atol=1e-9)
    assert results["dos"].base.attributes.get("units")["dos"] == "states/eV/cell"


def test_killed_density_of_states_goes_on(start, step, engine_code, deeph_folder, ended_job, remote):
    process = start(BandsWorkChain.get_builder_from_protocol(engine_code, HamiltonianData(deeph_folder)))
    step(process, process.choose_kpoints)
    process.ctx.bands = ended_job("deeph.bands", 0, outputs={"remote_folder": remote()})
    process.ctx.dos = ended_job("deeph.dos", 120, outputs={"remote_folder": remote()})
    job = step(process, process.run_jobs)["dos"]
    assert job.inputs.restart_folder.uuid == process.ctx.dos.outputs.remote_folder.uuid


def test_no_kpoints_per_job_is_refused(start, builder):
    builder.max_kpoints_per_job = 1
    inputs = {**builder._inputs(prune=True), "max_kpoints_per_job": orm.Int(0)}
    with pytest.raises(ValueError, match="at least 1, found 0"):
        start(BandsWorkChain, **inputs)
