"""A model on one structure: what is submitted, and what survives a failure."""

from __future__ import annotations

import pytest
from aiida import orm

from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.workflows.target import TargetWorkChain

BASIS = "pyscf:gth-szv"


@pytest.fixture
def target(start, engine_code, hydrogen_chain, make_model_folder):
    """Function that makes the process."""

    def make(**arguments):
        model = DeepHModelData(make_model_folder(elements=("H",)))
        builder = TargetWorkChain.get_builder_from_protocol(
            {"engine": engine_code}, hydrogen_chain(6), model, "fast", basis=BASIS, **arguments
        )
        return start(builder)

    return make


def test_a_structure_without_label_is_predicted_alone(target, step):
    process = target()
    assert set(step(process, process.run_prediction)) == {"predict"}


def test_label_and_prediction_run_side_by_side_at_the_same_kpoints(target, step, ended_job, remote):
    process = target(label="deeph.label.pyscf", overrides={"bands": {"points_per_segment": 5, "kpath": "G-X"}})
    children = step(process, process.run_prediction)
    label = children["label"]
    assert (label.label, label.description) == ("label", "DFT bands of H6")
    kpoints = label.inputs.bands_kpoints
    assert kpoints.labels == [(0, "G"), (5, "X")]
    # Again after a kill: nothing new.
    assert step(process, process.run_prediction)["label"].pk == label.pk
    process.ctx.update(children)
    process.ctx.predict = ended_job("deeph.predict", outputs={"remote_folder": remote()})
    bands = step(process, process.inspect_prediction, process.run_bands)["bands"]
    assert bands.inputs.kpoints.uuid == kpoints.uuid and "kpath" not in bands.inputs


def test_failed_prediction_keeps_the_dft_bands(target, step, ended_job):
    process = target(label="deeph.label.pyscf")
    dft = orm.BandsData()
    dft.set_kpoints([[0.0, 0, 0]])
    dft.set_bands([[0.0, 1.0]], units="eV")
    process.ctx.label = ended_job("deeph.pyscf", outputs={"output_band": dft})
    process.ctx.predict = ended_job("deeph.predict", 430)
    verdict = step(process, process.inspect_prediction)
    assert verdict.status == TargetWorkChain.exit_codes.ERROR_PREDICTION_FAILED.status and "[430]" in verdict.message
    assert process.outputs["dft_bands"].uuid == dft.uuid


def test_failed_label_does_not_take_the_bands_away(target, step, ended_job):
    process = target(label="deeph.label.pyscf")
    process.ctx.label = ended_job("deeph.pyscf", 410)
    bands = orm.BandsData()
    bands.set_kpoints([[0.0, 0, 0]])
    bands.set_bands([[0.0, 1.0]], units="eV")
    process.ctx.bands = ended_job("deeph.bands", outputs={"bands": bands})
    verdict = step(process, process.compare, process.results)
    assert verdict.status == TargetWorkChain.exit_codes.ERROR_LABEL_FAILED.status and "[410]" in verdict.message
    assert process.outputs["bands"].uuid == bands.uuid
