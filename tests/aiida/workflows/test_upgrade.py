"""Processes that wait while the package is upgraded: checkpoints of outlines of version 0.1.0 are taken up."""

from __future__ import annotations

import pytest
from aiida.engine import while_
from aiida.engine.persistence import get_object_loader
from aiida.manage import get_manager
from plumpy.persistence import Bundle, LoadSaveContext
from plumpy.workchains import _Block

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.workflows.bands import BandsWorkChain
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.train import TrainWorkChain


@pytest.fixture
def revived():
    """Function that gives a process a further life, from a checkpoint whose outline was another one, at a place."""

    def make(process, outline, place):
        process._stepper = _Block(outline).create_stepper(process)
        for _ in range(place):
            process._stepper.next_instruction()
        bundle = Bundle(process, LoadSaveContext(loader=get_object_loader()))
        assert bundle["stepper_state"]["_pos"] == place
        runner = get_manager().get_runner()
        return bundle.unbundle(LoadSaveContext(loader=get_object_loader(), runner=runner, loop=runner.loop))

    return make


def next_step(process) -> str:
    """Name of the step that an outline stands at."""
    stepper = process._stepper
    while getattr(stepper, "_child_stepper", None) is not None:
        stepper = stepper._child_stepper
    return str(stepper)


@pytest.fixture
def dataset(start, engine_code, deeph_folder):
    """A dataset of a label that is there."""
    labels = {"known": HamiltonianData(deeph_folder).store()}
    return start(DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, {}, "fast", labels=labels))


OLD_DATASET = [
    DatasetWorkChain.setup,
    while_(DatasetWorkChain.cells_missing)(DatasetWorkChain.perturb),
    DatasetWorkChain.start_pool,
    while_(DatasetWorkChain.pool_open)(DatasetWorkChain.fill_pool),
    DatasetWorkChain.inspect_labels,
    DatasetWorkChain.run_preprocess,
    DatasetWorkChain.results,
]


@pytest.mark.parametrize(
    ("place", "expected"), [(4, "inspect_labels"), (5, "0:run_preprocess"), (6, "results"), (2, "start_pool")]
)
def test_a_dataset_stands_where_it_stood(dataset, revived, place, expected):
    assert next_step(revived(dataset, OLD_DATASET, place)) in (expected, expected.partition(":")[2])


def test_a_dataset_that_waits_for_its_preprocessing_ends(dataset, revived, step, ended_job):
    step(dataset, dataset.setup, dataset.start_pool)
    first = step(dataset, dataset.run_preprocess)["preprocess"]
    first.set_process_state("waiting")
    del dataset.ctx["n_preprocess"]  # which 0.1.0 did not count
    process = revived(dataset, OLD_DATASET, 5)
    # The step is repeated: the job is found again.
    assert step(process, process.run_preprocess)["preprocess"].pk == first.pk
    process.ctx.preprocess = ended_job("deeph.preprocess", 440)
    step(process, process.inspect_preprocess)
    assert process.paused and process.preprocess_open()
    assert step(process, process.run_preprocess)["preprocess"].pk != first.pk


def test_a_training_that_is_about_to_be_tested(start, step, engine_code, make_manifest, make_remote, revived):
    manifest, folder = DatasetData(make_manifest()), make_remote("dataset")
    process = start(TrainWorkChain.get_builder_from_protocol(engine_code, manifest, folder, protocol="fast"))
    step(process, process.setup)
    old = [
        TrainWorkChain.setup,
        while_(TrainWorkChain.should_run_process)(TrainWorkChain.run_process, TrainWorkChain.inspect_process),
        TrainWorkChain.results,
        TrainWorkChain.run_evaluate,
        TrainWorkChain.inspect_evaluate,
    ]
    assert next_step(revived(process, old, 4)) == "inspect_evaluate"
    assert next_step(revived(process, old, 3)) == "run_evaluate"
    assert next_step(revived(process, old, 1)).startswith("while")


def test_where_no_step_is_known_the_outline_begins_anew(start, step, engine_code, deeph_folder, revived):
    """Bands of 0.1.0 were five steps, now three; what was submitted is found again."""
    process = start(BandsWorkChain.get_builder_from_protocol(engine_code, HamiltonianData(deeph_folder)))
    step(process, process.choose_kpoints)
    jobs = step(process, process.run_jobs)
    for job in jobs.values():
        job.set_process_state("waiting")

    def was_killed(self):
        """A step that is no more."""

    old = [BandsWorkChain.choose_kpoints, was_killed, BandsWorkChain.run_jobs, while_(was_killed)(was_killed)]
    process = revived(process, [*old, BandsWorkChain.results], 3)
    assert next_step(process) == "choose_kpoints"
    kpoints = process.ctx.kpoints.pk
    step(process, process.choose_kpoints)
    assert process.ctx.kpoints.pk == kpoints
    assert {name: job.pk for name, job in step(process, process.run_jobs).items()} == {
        name: job.pk for name, job in jobs.items()
    }
