"""Labels on a cluster that is cleaned up: what is kept, what is looked for, and what is not computed twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_deeph.calculations.space import NO_SPACE
from aiida_deeph.codes.pyscf.label import PyscfLabelWorkChain
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.folders import MISSING, Keep, checking, kept_options, label_options, stash_of
from aiida_deeph.processes.pool import at_most
from aiida_deeph.workflows.dataset import DatasetWorkChain

CUTOFF = {"label": {"parameters": {"ke_cutoff": 20.0}}}


def jobs_of(process, label="PyscfCalculation"):
    return [node for node in process.called_descendants if node.process_label == label]


def folder_of_job(job):
    return Path(job.outputs.remote_folder.get_remote_path())


# what the options of a job become


def test_stash_is_filled_in():
    options = label_options({"stash": {"target_base": "/archive"}}, ("a.h5",))
    assert options["stash"] == {"target_base": "/archive", "stash_mode": "copy", "source_list": ["a.h5"]}
    packed = stash_of({"stash": {"target_base": "/archive", "stash_mode": "tar.gz"}}, ("a.h5",))["stash"]
    assert packed["stash_mode"] == "tar.gz" and packed["dereference"] is False
    with pytest.raises(InputError, match=r"no place to stash; in options.stash.target_base; found 'archive'"):
        stash_of({"stash": {"target_base": "archive"}}, ("a.h5",))


def test_all_retrieves_the_raw_files_and_stays_as_it_is():
    once = kept_options({"append_text": "date"}, ("a.h5", "*.csr"), Keep.ALL)
    assert once["additional_retrieve_list"] == ["a.h5", "*.csr"]
    assert label_options(once, ("a.h5",))["append_text"].startswith("date\n")
    assert kept_options(once, ("a.h5", "*.csr"), Keep.ALL) == once
    assert "additional_retrieve_list" not in kept_options({}, ("a.h5",), Keep.HAMILTONIAN)


def test_shell_names_what_is_missing_or_empty(tmp_path):
    (tmp_path / "x-1.csr").write_text("full")
    (tmp_path / "empty.h5").touch()
    script = checking(("*-1.csr", "empty.h5", "no such.out"))
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{MISSING}empty.h5", f"{MISSING}no such.out"]


def test_shell_says_that_the_disk_is_full_to_the_last_byte(tmp_path):
    """A disk of one MiB that the program fills: neither it nor its exit status says a word."""
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", tmp_path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("AIIDA_DEEPH_REQUIRE_ALL") == "1":
            pytest.fail(f"no file system can be mounted ({error}), and AIIDA_DEEPH_REQUIRE_ALL=1")
        pytest.skip("file systems cannot be mounted here")
    options = label_options({}, ("a.csr",))
    fill = "head -c 2000000 /dev/zero > big 2>/dev/null; : > a.csr"
    try:
        for program, expected in (
            ("echo 1 > a.csr", []),
            (fill, [NO_SPACE, f"{MISSING}a.csr"]),
            ("rm -f big; echo 1 > a.csr", []),
        ):
            # As a scheduler does: what the script says goes to a file on the same disk.
            script = f"{options['prepend_text']}\n{program}\n{options['append_text']}"
            subprocess.run(["bash", "-c", f"({script}\n) > said"], cwd=tmp_path, check=True)
            assert (tmp_path / "said").read_text().splitlines() == expected
            assert not (tmp_path / ".reserve").exists() and not (tmp_path / ".probe").exists()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(("slots", "wanted", "fits"), [(200, 8, 8), (200, 500, 95), (12, 50, 4), (1, 5, 1)])
def test_labels_leave_slots_for_their_jobs(monkeypatch, slots, wanted, fits):
    monkeypatch.setattr("aiida_deeph.processes.pool.get_config_option", lambda name: slots)
    assert at_most(wanted, 2) == fits


# for real


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Output of one PySCF run of a chain of two hydrogen atoms."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "structure.xyz").write_text(
        '2\nLattice="5 0 0 0 5 0 0 0 2.2" Properties=species:S:1:pos:R:3 pbc="F F T"\nH 0 0 0\nH 0 0 0.8\n'
    )
    config = {"structure": "structure.xyz", "kmesh": [1, 1, 7], "basis": "gth-szv", "ke_cutoff": 30.0, "threads": 1}
    (folder / "config.json").write_text(json.dumps(config))
    engine = Path(sys.executable).with_name("deeph-engine")
    subprocess.run([engine, "pyscf", "config.json"], cwd=folder, check=True, capture_output=True)
    return folder


def recorded_structure() -> orm.StructureData:
    """The structure of that run."""
    node = orm.StructureData(cell=np.diag([5.0, 5.0, 2.2]).tolist(), pbc=(False, False, True))
    for z in (0.0, 0.8):
        node.append_atom(symbols="H", position=(0.0, 0.0, z))
    return node


@pytest.fixture
def stand_in(engine_code, recorded, tmp_path):
    """Function that makes a code which runs a few shell lines instead of PySCF."""

    def make(label, lines):
        script = tmp_path / label
        script.write_text(f"#!/bin/bash\nrecorded={recorded}\n{lines}\n")
        script.chmod(0o755)
        engine_code.computer.set_minimum_job_poll_interval(0.1)
        return orm.InstalledCode(
            engine_code.computer, str(script), label=label, default_calc_job_plugin="deeph.pyscf"
        ).store()

    return make


@pytest.fixture
def dataset(engine_code, hydrogen_chain):
    """Function that runs a dataset; cells of one chain unless structures are given."""

    def run(dft=None, options=None, extend=None, structures=None, **overrides):
        builder = DatasetWorkChain.get_builder_from_protocol(
            {"engine": engine_code, "dft": dft or engine_code},
            structures or {"parent": hydrogen_chain()},
            protocol="fast",
            overrides={**CUTOFF, **overrides},
            options=options,
            extend=extend,
        )
        return run_get_node(builder)

    return run


@pytest.mark.slow
@pytest.mark.integration
def test_a_first_job_that_failed_is_not_run_again(stand_in, dataset):
    """SCF not converged: the workchain that recovers takes the failed job as its first iteration."""
    lines = """
cp $recorded/pyscf.h5 $recorded/results.json .
grep -q '"max_cycle": 60' config.json && sed -i 's/"converged": true/"converged": false/' results.json
exit 0"""
    results, node = dataset(stand_in("unconverged", lines), structures={"a": recorded_structure()})
    assert node.is_finished_ok, node.exit_message
    first, second = sorted(jobs_of(node), key=lambda job: job.pk)
    assert (first.exit_status, second.exit_status) == (410, 0)
    (recovery,) = jobs_of(node, "PyscfLabelWorkChain")
    assert second.caller == recovery and first.caller == node
    assert "goes on from PyscfCalculation" in recovery.description
    (preprocess,) = jobs_of(node, "PreprocessCalculation")
    assert preprocess.inputs.labels["a"] == second.outputs.remote_folder
    assert results["output_parameters"]["n_members"] == 1


@pytest.mark.slow
@pytest.mark.integration
def test_a_label_of_one_structure_with_the_result_of_another_fails_by_name(stand_in, dataset):
    """A program that reads another input than it was given: its matrices are sound, but of other positions."""
    shifted = recorded_structure()
    shifted.set_cell(np.diag([5.0, 5.0, 2.3]).tolist())
    code = stand_in("elsewhere", "cp $recorded/pyscf.h5 $recorded/results.json .")
    _, node = dataset(code, structures={"first": shifted, "second": recorded_structure()}, max_failed_fraction=0.0)
    assert node.exit_status == DatasetWorkChain.exit_codes.ERROR_PREPROCESS_FAILED.status
    assert "1 of 2 members rejected" in node.exit_message
    assert "first: run of another structure" in node.exit_message
    assert "found a lattice vector 0.1000 Angstrom off" in node.exit_message


@pytest.mark.slow
@pytest.mark.integration
def test_a_label_without_its_files_is_named(stand_in, dataset, hydrogen_chain):
    """The job ends well, but the matrices are not there: again, then given up, and never taken from the cache."""
    results, node = dataset(stand_in("forgetful", "cp $recorded/results.json ."), structures={"a": hydrogen_chain()})
    assert node.exit_status == DatasetWorkChain.exit_codes.ERROR_TOO_MANY_FAILED_LABELS.status
    assert "[330] The job ended well, but left no pyscf.h5." in results["output_parameters"]["failed"]["a"]
    jobs = jobs_of(node)
    assert len(jobs) == 1 + PyscfLabelWorkChain.max_retries
    assert all(job.is_finished_ok and not job.base.caching.is_valid_cache for job in jobs)


@pytest.mark.slow
@pytest.mark.integration
def test_what_is_kept_outlives_the_cluster_and_is_extended(dataset, engine_code, tmp_path):
    engine_code.computer.set_minimum_job_poll_interval(0.1)
    perturbation = {"n": 2, "amplitude": 0.03, "seed": 5}
    stash = {"target_base": str(tmp_path / "archive"), "stash_mode": "tar.gz"}
    results, node = dataset(perturbation=perturbation, keep="all", options={"stash": stash})
    assert node.is_finished_ok, node.exit_message
    assert sorted(results["hamiltonians"]) == ["cell_0000", "cell_0001"]
    labels = jobs_of(node)
    assert all("pyscf.h5" in job.outputs.retrieved.base.repository.list_object_names() for job in labels)
    # The reader took the packed stash, not the working directory.
    (preprocess,) = jobs_of(node, "PreprocessCalculation")
    assert {type(folder) for folder in preprocess.inputs.labels.values()} == {orm.RemoteStashCompressedData}
    members = {member.name: member for member in results["dataset"].members}
    for name, hamiltonian in results["hamiltonians"].items():
        assert hamiltonian.base.attributes.get("files") == members[name].sha256
    assert isinstance(results["dataset_folder"], orm.RemoteStashFolderData)

    # The cluster is cleaned up. More cells of the same design: none of the old ones is labelled or converted again.
    for job in (*labels, preprocess):
        shutil.rmtree(folder_of_job(job))
    results, node = dataset(perturbation={**perturbation, "n": 3}, keep="hamiltonian", extend=results["dataset"])
    assert node.is_finished_ok, node.exit_message
    assert len(jobs_of(node)) == 1
    extended = {member.name: member for member in results["dataset"].members}
    assert sorted(extended) == ["cell_0000", "cell_0001", "cell_0002"]
    assert all(extended[name].sha256 == member.sha256 for name, member in members.items())
    assert list(results["hamiltonians"]) == ["cell_0002"]
    report = results["output_parameters"]
    numbers = {key: report[key] for key in ("n_labels", "n_extended", "n_not_labelled_again", "n_members")}
    assert numbers == {"n_labels": 1, "n_extended": 2, "n_not_labelled_again": 2, "n_members": 3}

    # Another seed draws other cells under the names that are taken.
    results, node = dataset(perturbation={**perturbation, "n": 1, "seed": 6}, extend=results["dataset"])
    assert node.is_finished_ok, node.exit_message
    assert [job.label for job in jobs_of(node)] == ["label cell_0000_2"]
    assert len(results["dataset"].members) == 4
