"""Freeing remote folders: what is shown, what is deleted, what a live process keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiida import orm
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


def test_sizes_are_readable():
    assert [readable(size) for size in (0, 1500, 2.5e9, 3e15)] == ["0 B", "1.5 kB", "2.5 GB", "3e+03 TB"]
