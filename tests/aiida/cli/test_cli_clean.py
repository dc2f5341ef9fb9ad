"""Freeing remote folders: what is shown, what is deleted, what a live process keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiida import orm
from aiida.common.datastructures import StashMode
from aiida.common.links import LinkType
from click.testing import CliRunner

from aiida_deeph.cli.clean import readable
from aiida_deeph.cli.main import command


@pytest.fixture
def folders(aiida_profile_clean, aiida_localhost, tmp_path):
    """A finished workflow with a DFT and a preprocess job, each with a folder of 100 kB."""
    workflow = orm.WorkChainNode().store()
    found = {}
    for name in ("pyscf", "preprocess"):
        job = orm.CalcJobNode(computer=aiida_localhost, process_type=f"aiida.calculations:deeph.{name}")
        job.base.links.add_incoming(workflow, LinkType.CALL_CALC, name)
        job.store()
        (tmp_path / name).mkdir()
        (tmp_path / name / "matrix").write_bytes(bytes(100_000))
        found[name] = orm.RemoteData(remote_path=str(tmp_path / name), computer=aiida_localhost)
        found[name].base.links.add_incoming(job, LinkType.CREATE, "remote_folder")
        found[name].store()
        job.set_process_state("finished")
        job.set_process_label(name)
        job.set_exit_status(0)
    workflow.set_process_state("finished")
    return workflow, found


@pytest.fixture
def clean(aiida_profile_clean):
    """Function that runs `aiida-deeph data clean ARGUMENTS` and returns what it says."""

    def run(*arguments):
        result = CliRunner().invoke(
            command, ["-p", aiida_profile_clean.name, "data", "clean", *map(str, arguments)], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return result.output

    return run


def content(folder):
    return list(Path(folder.get_remote_path()).glob("*"))


def test_nothing_is_deleted_unasked(clean, folders):
    workflow, found = folders
    shown = clean(workflow.pk)
    assert shown.count("would delete") == 2 and "would be freed; --force does it" in shown
    assert all(content(folder) for folder in found.values())


def test_forced(clean, folders):
    workflow, found = folders
    assert "kept, a dataset: preprocess" in clean(workflow.pk, "--force", "--keep-datasets")
    assert found["pyscf"].is_cleaned and not content(found["pyscf"])
    assert not found["pyscf"].creator.base.caching.is_valid_cache
    assert not found["preprocess"].is_cleaned and content(found["preprocess"])
    # What is clean is not listed again.
    assert "pyscf" not in clean(workflow.pk)


def test_folder_of_a_live_process_is_kept(clean, folders, aiida_localhost):
    workflow, found = folders
    alive = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.train")
    alive.base.links.add_incoming(found["preprocess"], LinkType.INPUT_CALC, "dataset_folder")
    alive.store()
    alive.set_process_state("running")
    alive.set_process_label("TrainCalculation")
    assert f"kept, TrainCalculation<{alive.pk}> needs it: preprocess" in clean(workflow.pk, "--force")
    assert content(found["preprocess"]) and not content(found["pyscf"])


def test_jobs_of_a_live_workflow_are_kept(clean, folders):
    workflow, found = folders
    workflow.set_process_state("waiting")
    assert clean(workflow.pk, "--force").count("kept, ") == 2
    assert all(content(folder) for folder in found.values())


@pytest.fixture
def cached(folders, aiida_localhost):
    """A job whose outputs were taken from the cache: it has the folder of the DFT job."""
    _, found = folders
    job = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.pyscf").store()
    twin = orm.RemoteData(remote_path=found["pyscf"].get_remote_path(), computer=aiida_localhost)
    twin.base.links.add_incoming(job, LinkType.CREATE, "remote_folder")
    twin.store()
    job.set_process_state("finished")
    job.set_process_label("pyscf")
    job.set_exit_status(0)
    return job, twin


def test_folder_that_a_cached_job_shares_is_one(clean, folders, cached):
    workflow, found = folders
    job, twin = cached
    assert clean(workflow.pk, job.pk).count("would delete") == 2
    shown = clean(job.pk, "--force")
    assert shown.count("deleted") == 1 and f"pyscf<{found['pyscf'].creator.pk}> = pyscf<{job.pk}>" in shown
    assert found["pyscf"].is_cleaned and twin.is_cleaned
    assert not job.base.caching.is_valid_cache and not found["pyscf"].creator.base.caching.is_valid_cache


def test_folder_that_is_needed_by_another_name_is_kept(clean, folders, cached, aiida_localhost):
    workflow, found = folders
    _, twin = cached
    alive = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.preprocess")
    alive.base.links.add_incoming(twin, LinkType.INPUT_CALC, "labels__a")
    alive.store()
    alive.set_process_state("waiting")
    assert clean(workflow.pk, "--force").count("kept, ") == 1
    assert content(found["pyscf"])


def test_dataset_that_was_stashed_may_go(clean, folders, aiida_localhost, tmp_path):
    workflow, found = folders
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "matrix").write_bytes(bytes(10))
    stash = orm.RemoteStashFolderData(
        StashMode.COPY, str(tmp_path / "archive"), ["dataset"], computer=aiida_localhost
    ).store()
    stash.base.links.add_incoming(found["preprocess"].creator, LinkType.CREATE, "remote_stash")
    assert "(stashed)" in clean(workflow.pk, "--force", "--keep-datasets")
    assert found["preprocess"].is_cleaned and (tmp_path / "archive" / "matrix").is_file()


def test_sizes_are_readable():
    assert [readable(size) for size in (0, 1500, 2.5e9, 3e15)] == ["0 B", "1.5 kB", "2.5 GB", "3e+03 TB"]
