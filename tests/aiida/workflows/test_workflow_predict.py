"""Predictions and bands: refused inputs, smaller chunks, k-points, and outputs that survive a failure."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.workflows.bands import BandsWorkChain
from aiida_deeph.workflows.model_basis import basis_of
from aiida_deeph.workflows.predict import PredictWorkChain

BASIS = "pyscf:gth-szv"


@pytest.fixture
def model(make_model_folder):
    return DeepHModelData(make_model_folder())


@pytest.fixture
def predict(start, step, engine_code, model, hydrogen_chain):
    """A prediction after its setup."""
    builder = PredictWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(), model, "fast", basis=BASIS)
    process = start(builder)
    step(process, process.setup)
    return process


def test_element_unknown_to_the_model(start, engine_code, model, hydrogen_chain):
    with pytest.raises(InputError, match=r"element unknown to the model.*found Si; expected C, H"):
        PredictWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(symbol="Si"), model, basis=BASIS)
    builder = PredictWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(), model, basis=BASIS)
    builder.structure = hydrogen_chain(symbol="Si")
    with pytest.raises(ValueError, match="the model was not trained on Si, only on C, H"):
        start(builder)


def test_basis_comes_from_the_model_or_has_to_be_given(engine_code, model, make_model_folder, hydrogen_chain):
    with pytest.raises(InputError, match=r"basis of the overlap unknown.*remedy: give the basis"):
        PredictWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(), model)
    known = DeepHModelData(make_model_folder(name="known", data={"overlap_basis": BASIS}))
    builder = PredictWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(), known)
    assert builder.overlap.parameters["basis"] == BASIS
    labels = {"code": "pyscf", "settings": {"basis": "gth-dzvp"}}
    said = DeepHModelData(make_model_folder(name="said", data={"labels": labels}))
    builder = PredictWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(), said)
    assert builder.overlap.parameters["basis"] == "pyscf:gth-dzvp"


def test_basis_of_the_dft_runs_behind_a_model(make_model_folder, make_remote, make_manifest, ended_job):
    kinds = [{"_": symbol, "BASIS_SET": "SZV-MOLOPT-SR-GTH", "POTENTIAL": "GTH-PBE"} for symbol in ("C", "H")]
    run = make_remote("cell", creator="cp2k", parameters=orm.Dict({"FORCE_EVAL": {"SUBSYS": {"KIND": kinds}}}))
    dataset = DatasetData(make_manifest())
    ended_job("deeph.preprocess", inputs={"labels__a": run, "reader": orm.Str("cp2k")}, outputs={"dataset": dataset})
    model = DeepHModelData(make_model_folder(name="m", data={"labels": {"code": "cp2k", "settings": {}}}))
    ended_job("deeph.train", inputs={"dataset": dataset}, outputs={"model": model})
    basis = "pyscf:gth-szv-molopt-sr"
    assert basis_of(model) == {"C": basis, "H": basis}


def test_prediction_uses_the_overlap_where_it_lies(predict, step, ended_job, remote):
    job = step(predict, predict.run_overlap)["overlap"]
    assert job.inputs.model.uuid == predict.inputs.model.uuid
    predict.ctx.overlap = ended_job("deeph.overlap", 0, outputs={"remote_folder": remote()})
    assert step(predict, predict.inspect_overlap) is None
    assert not predict.overlap_missing()
    job = step(predict, predict.run_predict)["predict"]
    assert job.inputs.overlap_folder.uuid == predict.ctx.overlap.outputs.remote_folder.uuid


def test_out_of_memory_takes_smaller_chunks(predict, step, ended_job, remote):
    predict.ctx.overlap = ended_job("deeph.overlap", 0, outputs={"remote_folder": remote()})
    for n, edges in enumerate((20000, 5000, 1250, 312)):
        job = step(predict, predict.run_predict)["predict"]
        assert job.inputs.parameters["edges_per_chunk"] == edges
        predict.ctx.predict = ended_job("deeph.predict", 430)
        verdict = step(predict, predict.inspect_predict)
        assert (verdict is None) == (n < 3)
    assert verdict.status == PredictWorkChain.exit_codes.ERROR_PREDICTION_FAILED.status


@pytest.mark.parametrize(("status", "again"), [(140, True), (400, True), (210, False), (310, False)])
def test_overlap_is_tried_again_only_where_that_may_help(predict, step, ended_job, status, again):
    step(predict, predict.run_overlap)
    predict.ctx.overlap = ended_job("deeph.overlap", status)
    verdict = step(predict, predict.inspect_overlap)
    assert (verdict is None) == again
    if not again:
        assert verdict.status == PredictWorkChain.exit_codes.ERROR_OVERLAP_FAILED.status


def test_a_prediction_that_was_submitted_before_a_kill_is_taken_up(predict, step):
    first = step(predict, predict.run_overlap)["overlap"]
    predict.ctx.overlap_attempts = 0
    assert step(predict, predict.run_overlap)["overlap"].pk == first.pk


@pytest.mark.parametrize("status", [430, 440])
def test_full_machine_makes_the_overlap_wait_without_counting(predict, step, ended_job, status):
    predict.ctx.overlap_attempts = predict.inputs.max_attempts.value - 1
    first = step(predict, predict.run_overlap)["overlap"]
    predict.ctx.overlap = ended_job("deeph.overlap", status)
    assert step(predict, predict.inspect_overlap) is None
    words = {430: "out of memory on ", 440: "no space left on "}[status]
    assert predict.paused and predict.node.process_status.startswith(words) and predict.overlap_missing()
    assert not predict.ctx.overlap.base.caching.is_valid_cache
    predict.play()
    assert step(predict, predict.run_overlap)["overlap"].pk != first.pk
    predict.ctx.overlap = ended_job("deeph.overlap", 400)
    assert step(predict, predict.inspect_overlap).status == 310


def test_full_disk_makes_the_prediction_wait_without_counting(predict, step, ended_job, remote):
    predict.ctx.overlap = ended_job("deeph.overlap", 0, outputs={"remote_folder": remote()})
    predict.ctx.predict_attempts = predict.inputs.max_attempts.value - 1
    first = step(predict, predict.run_predict)["predict"]
    predict.ctx.predict = ended_job("deeph.predict", 440)
    assert step(predict, predict.inspect_predict) is None
    assert predict.paused and "no space left" in predict.node.process_status and predict.prediction_missing()
    predict.play()
    assert step(predict, predict.run_predict)["predict"].pk != first.pk
    predict.ctx.predict = ended_job("deeph.predict", 400)
    assert step(predict, predict.inspect_predict).status == 320


@pytest.mark.slow
def test_bands_and_density_of_states(engine_code, deeph_folder):
    node = HamiltonianData(deeph_folder)
    overrides = {"points_per_segment": 2, "dos": {"parameters": {"n_points": 11}}}
    builder = BandsWorkChain.get_builder_from_protocol(engine_code, node, "fast", overrides, kpath="G-X")
    results, process = run_get_node(builder)
    assert process.is_finished_ok, process.exit_message
    assert np.shape(results["bands"].get_bands()) == (3, 5)
    assert results["bands"].labels == [(0, "G"), (2, "X")]
    assert len(results["dos"].get_array("energies")) == 11
    assert results["output_parameters"]["n_occupied"] == 3


def test_bands_without_density_of_states(start, step, engine_code, deeph_folder):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0]])
    builder = BandsWorkChain.get_builder_from_protocol(
        engine_code, HamiltonianData(deeph_folder), overrides={"dos": None}, kpoints=kpoints
    )
    process = start(builder)
    step(process, process.choose_kpoints)
    assert set(step(process, process.run_jobs)) == {"bands"}
    assert process.ctx.kpoints.uuid == process.inputs.kpoints.uuid


@pytest.mark.slow
def test_unfolded_bands_and_wavefunctions(engine_code, deeph_folder):
    node = HamiltonianData(deeph_folder)
    overrides = {"points_per_segment": 2, "dos": None, "bands": {"parameters": {"wavefunctions": [0]}}}
    builder = BandsWorkChain.get_builder_from_protocol(engine_code, node, "fast", overrides, kpath="G-X")
    builder.bands.primitive = node.get_structure()  # the smallest supercell there is
    results, process = run_get_node(builder)
    assert process.is_finished_ok, process.exit_message
    assert results["bands"].get_array("spectral_weights") == pytest.approx(np.ones((3, 5)))
    assert results["wavefunctions"].filename == "wavefunctions.h5"
    assert results["output_parameters"]["unfolding"]["supercell"] == np.eye(3).tolist()


@pytest.mark.slow
def test_any_observable_can_be_wanted_beside_the_bands(engine_code, deeph_folder):
    node = HamiltonianData(deeph_folder)
    unfold = {"parameters": {"kpath": "G-X", "points_per_segment": 2}}
    overrides = {"points_per_segment": 2, "dos": None, "unfold": unfold, "compare": {}}
    builder = BandsWorkChain.get_builder_from_protocol(engine_code, node, "fast", overrides, kpath="G-X")
    builder.unfold.primitive = node.get_structure()
    builder.compare.reference = node
    results, process = run_get_node(builder)
    assert process.is_finished_ok, process.exit_message
    assert results["unfold"].get_array("spectral_weights") == pytest.approx(np.ones((3, 5)))
    assert results["unfold_parameters"]["unfolding"]["supercell"] == np.eye(3).tolist()
    assert results["compare_parameters"]["bands"]["max"] == 0


def test_killed_bands_go_on_where_they_stopped(start, step, engine_code, deeph_folder, ended_job, remote):
    overrides = {"dos": None}
    process = start(
        BandsWorkChain.get_builder_from_protocol(engine_code, HamiltonianData(deeph_folder), overrides=overrides)
    )
    step(process, process.choose_kpoints)
    folder = remote()
    process.ctx.bands = ended_job("deeph.bands", 120, outputs={"remote_folder": folder})
    assert process.has_work()
    job = step(process, process.run_jobs)["bands"]
    assert job.inputs.restart_folder.uuid == folder.uuid
    assert step(process, process.run_jobs)["bands"].pk != job.pk  # a second restart is another job
    process.ctx.tries = {"bands": 4}
    assert not process.has_work()
    process.ctx.tries = {}
    process.ctx.bands = ended_job("deeph.bands", 310, outputs={"remote_folder": remote()})
    assert not process.has_work()


@pytest.mark.slow
@pytest.mark.parametrize("status", [430, 440])
@pytest.mark.parametrize("name", ["bands", "dos"])
def test_full_machine_makes_any_observable_wait(
    start, step, engine_code, deeph_folder, ended_job, remote, name, status
):
    process = start(BandsWorkChain.get_builder_from_protocol(engine_code, HamiltonianData(deeph_folder)))
    step(process, process.choose_kpoints)
    jobs = step(process, process.run_jobs)
    process.ctx.update({key: ended_job(f"deeph.{key}", 0, outputs={"remote_folder": remote()}) for key in jobs})
    process.ctx.tries = {name: 4}  # restarts of other kinds are used up
    for _ in range(2):
        process.ctx[name] = full = ended_job(f"deeph.{name}", status, outputs={"remote_folder": remote()})
        assert process.has_work() and step(process, process.run_jobs) is None
        words = {430: "out of memory on ", 440: "no space left on "}[status]
        assert process.paused and process.node.process_status.startswith(words)
        assert not full.base.caching.is_valid_cache
        process.play()
        assert process.has_work()
        again = step(process, process.run_jobs)
        assert set(again) == {name} and again[name].pk != jobs[name].pk
        # What was solved before the disk was full is taken over.
        assert again[name].inputs.restart_folder.uuid == full.outputs.remote_folder.uuid
    process.ctx[name] = ended_job(f"deeph.{name}", 400, outputs={"remote_folder": remote()})
    assert not process.has_work()


def test_failed_density_of_states_leaves_the_bands(start, step, engine_code, deeph_folder, ended_job):
    process = start(BandsWorkChain.get_builder_from_protocol(engine_code, HamiltonianData(deeph_folder)))
    bands = orm.BandsData()
    bands.set_kpoints([[0.0, 0, 0]])
    bands.set_bands(np.zeros((1, 2)), units="eV")
    outputs = {"bands": bands, "output_parameters": orm.Dict({"fermi_level": 0.0})}
    process.ctx.bands = ended_job("deeph.bands", 0, outputs=outputs)
    process.ctx.dos = ended_job("deeph.dos", 310)
    verdict = step(process, process.results)
    assert verdict.status == BandsWorkChain.exit_codes.ERROR_OBSERVABLE_FAILED.status
    assert "The density of states failed with exit status 310" in verdict.message
    assert process.outputs["bands"].uuid == bands.uuid


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b, remote: b.pop("hamiltonian"), "give one of hamiltonian and hamiltonian_folder, found none"),
        (lambda b, remote: b.update(hamiltonian_folder=remote), "found hamiltonian and hamiltonian_folder"),
        (lambda b, remote: b.update(kpath=orm.Str("G-X")), "give kpoints or kpath, not both"),
    ],
)
def test_unclear_inputs_of_bands(start, engine_code, deeph_folder, make_remote, change, message):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0]])
    builder = BandsWorkChain.get_builder_from_protocol(engine_code, HamiltonianData(deeph_folder), kpoints=kpoints)
    inputs = builder._inputs(prune=True)
    change(inputs, make_remote())
    with pytest.raises(ValueError, match=message):
        start(BandsWorkChain, **inputs)
