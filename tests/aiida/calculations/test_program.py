"""What the cache may give back: results of the same program, however many threads it had."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from aiida.common.datastructures import CalcJobState
from aiida.common.folders import SandboxFolder
from aiida.engine.persistence import get_object_loader
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.manage.caching import enable_caching
from aiida.plugins import CalculationFactory
from aiida.plugins.entry_point import get_entry_point_names as get_entry_points
from plumpy.persistence import Bundle, LoadSaveContext

from aiida_deeph.calculations import program
from aiida_deeph.calculations.program import MARK, PROGRAM, ask_program, program_of, with_program
from aiida_deeph.codes.cp2k.label import Cp2kLabelWorkChain
from aiida_deeph.codes.pyscf.calculation import PyscfCalculation
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig

SCRIPT = '#!/bin/sh\n# {bytes}\n[ "$1" = --version ] && cat {version}\n'
PARAMETERS = {"basis": "gth-szv", "threads": 1}


@pytest.fixture
def install(tmp_path) -> Callable[..., Path]:
    """Function that puts a program at one path: other bytes, or another version behind the same bytes."""
    path, version = tmp_path / "deeph-engine", tmp_path / "version"

    def make(bytes: str = "first", says: str = "deeph-engine, version 1.0") -> Path:
        version.write_text(says)
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(SCRIPT.format(bytes=bytes, version=version))
        path.chmod(0o755)
        # As a later installation: the clock of a file system may be coarser than a test is fast.
        os.utime(path, ns=(before + 10**9, max(before + 10**9, path.stat().st_mtime_ns)))
        return path

    return make


@pytest.fixture
def code(install, aiida_profile_clean, aiida_localhost) -> orm.InstalledCode:
    return orm.InstalledCode(
        label="engine",
        computer=aiida_localhost,
        filepath_executable=str(install()),
        default_calc_job_plugin="deeph.train",
    ).store()


@pytest.fixture
def job(code, chain) -> Callable[..., orm.CalcJobNode]:
    """Function that makes a job of fixed structure; what is not from the cache ends well at once."""
    kpoints = orm.KpointsData()
    kpoints.set_kpoints_mesh([1, 1, 1])
    inputs: dict[str, Any] = {"code": code, "structure": chain.store(), "kpoints": kpoints.store()}

    def make(parameters: dict[str, Any] = PARAMETERS, **further: Any) -> orm.CalcJobNode:
        with enable_caching():
            runner = get_manager().get_runner()
            node = instantiate_process(
                runner, PyscfCalculation, parameters=orm.Dict(parameters), **inputs, **further
            ).node
        if not node.base.caching.is_created_from_cache:
            node.set_process_state("finished")
            node.set_exit_status(0)
        node.seal()
        return node

    return make


def cached(node: orm.CalcJobNode) -> bool:
    return node.base.caching.is_created_from_cache


def test_the_same_program_gives_its_result_again(job, install):
    first = job()
    assert not cached(first) and cached(job())
    install()
    assert cached(job()), "installed again, the same"


@pytest.mark.parametrize("change", [{"bytes": "second"}, {"says": "deeph-engine, version 1.1"}])
def test_another_program_at_the_same_path_has_results_of_its_own(job, install, change):
    job()
    install(**change)
    assert not cached(job()) and cached(job())
    install()
    assert cached(job()), "the first is there again, and so are its results"


def test_threads_are_not_hashed_and_reach_the_program(job):
    first, second = job(), job({**PARAMETERS, "basis": "gth-dzvp", "threads": 2})
    assert not cached(second) and "threads" not in second.inputs.parameters.get_dict()
    assert cached(job({**PARAMETERS, "threads": 2}))
    assert cached(job({"basis": "gth-szv"})), "threads left to the program"
    for node, threads in ((first, 1), (second, 2)):
        builder = node.get_builder_restart()
        assert builder.runtime == {"threads": threads}
        with SandboxFolder() as folder:
            instantiate_process(get_manager().get_runner(), builder).prepare_for_submission(folder)
            with folder.open("config.json") as file:
                assert json.load(file)["threads"] == threads


def test_jobs_that_share_their_parameters_share_what_is_left_of_them(code, chain):
    """A thousand labels of one dataset make no thousand nodes of the same parameters."""
    kpoints = orm.KpointsData()
    kpoints.set_kpoints_mesh([1, 1, 1])
    inputs = {"code": code, "structure": chain, "kpoints": kpoints, "parameters": orm.Dict(PARAMETERS).store()}
    runner = get_manager().get_runner()
    first, second = (instantiate_process(runner, PyscfCalculation, **inputs).node for _ in range(2))
    assert first.inputs.parameters.pk == second.inputs.parameters.pk != inputs["parameters"].pk


def test_every_field_of_this_kind_is_known():
    plugins = [name for name in get_entry_points("aiida.calculations") if name.startswith("deeph.")]
    fields = {
        field for name in plugins for field in getattr(CalculationFactory(name), "CONFIG", PyscfConfig).model_fields
    }
    assert {"threads", "device", "loader_workers"} <= program.RUNTIME & fields


def test_wrong_threads_are_refused(job, code):
    inputs = job().get_builder_restart()
    inputs.runtime.threads = 0
    with pytest.raises(ValueError, match="threads"):
        instantiate_process(get_manager().get_runner(), inputs)


def test_a_program_that_is_not_there_hides_nothing(code, install, tmp_path):
    shutil.move(tmp_path / "deeph-engine", tmp_path / "elsewhere")
    assert program_of(code) is None
    assert with_program({"withmpi": False}, code) == {"withmpi": False}


def test_a_mark_of_another_time_is_replaced(code):
    options = with_program({"prepend_text": f"module load x\n{MARK}old"}, code)
    assert options["prepend_text"] == f"module load x\n{MARK}{program_of(code)}"
    assert with_program(options, code) == options
    assert program_of(code).startswith("deeph-engine, version 1.0 sha256:")


def test_on_a_cluster_the_program_is_what_was_found_there_last(code, monkeypatch, install):
    here = program_of(code)
    # A computer that this machine cannot look at otherwise than through its transport.
    monkeypatch.setattr(program, "LOCAL", "another")
    assert program_of(code) is None
    assert ask_program(code) == code.base.extras.get(PROGRAM) == program_of(code) == here
    install("second")
    assert program_of(code) == here
    assert ask_program(code) == program_of(code) != here
    install().unlink()
    assert ask_program(code) is None


def test_programs_of_other_plugins_are_in_their_jobs_too(aiida_localhost, install, chain):
    code = orm.InstalledCode(
        computer=aiida_localhost, filepath_executable=str(install()), default_calc_job_plugin="cp2k", label="cp2k"
    ).store()
    options = Cp2kLabelWorkChain.job_settings({"code": code})["metadata"]["options"]
    # Programs of others are not asked for a version, which some take for an input file.
    assert options["prepend_text"].splitlines()[-1].startswith(f"{MARK}sha256:")


def test_a_job_that_was_killed_when_it_was_uploaded_has_its_folder(code, chain, aiida_localhost):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints_mesh([1, 1, 1])
    runner = get_manager().get_runner()
    inputs = {"code": code, "structure": chain, "kpoints": kpoints, "parameters": orm.Dict({"basis": "gth-szv"})}
    process = instantiate_process(runner, PyscfCalculation, **inputs)
    bundle = Bundle(process, LoadSaveContext(loader=get_object_loader()))
    process.close()
    node = process.node
    node.set_remote_workdir("/scratch/somewhere")
    for state, folders in ((CalcJobState.UPLOADING, 0), (CalcJobState.UNSTASHING, 1), (CalcJobState.UNSTASHING, 1)):
        node.set_state(state)
        context = LoadSaveContext(runner=runner, loader=get_object_loader())
        bundle.unbundle(context).close()
        assert len(node.base.links.get_outgoing(link_label_filter="remote_folder").all()) == folders
    assert node.outputs.remote_folder.get_remote_path() == "/scratch/somewhere"
    assert node.outputs.remote_folder.computer.pk == aiida_localhost.pk
