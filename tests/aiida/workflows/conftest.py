"""Processes that are stepped by hand, children that only pretend, structures that cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import Process
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.tools import pytest_fixtures

from aiida_deeph.calculations.preprocess import PreprocessCalculation
from aiida_deeph.workflows.dataset import DatasetWorkChain
from tests.aiida.lcao_files import install_families
from tests.aiida.workflows.fakes import FakeLabelWorkChain, FakePreprocess


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


@pytest.fixture
def hydrogen_chain() -> Callable[..., orm.StructureData]:
    """Function that makes a dimerised chain of hydrogen along x."""

    def make(n_atoms: int = 4, spacing: float = 0.9, symbol: str = "H") -> orm.StructureData:
        node = orm.StructureData(cell=np.diag([n_atoms * spacing, 7.0, 7.0]).tolist(), pbc=(True, False, False))
        for n in range(n_atoms):
            node.append_atom(symbols=symbol, position=(n * spacing + (0.05 if n % 2 else -0.05), 3.5, 3.5))
        return node

    return make


@pytest.fixture
def cp2k_code(aiida_code_installed):
    """A code of CP2K's plugin that is never run."""
    return aiida_code_installed(label="cp2k", default_calc_job_plugin="cp2k", filepath_executable="/bin/true")


@pytest.fixture
def lcao_families(aiida_profile, tmp_path):
    """The families that the protocols of SIESTA and ABACUS name."""
    install_families(tmp_path / "orb", ("H", "C", "Fe"))


@pytest.fixture
def code_of(aiida_code_installed) -> Callable[[str], orm.InstalledCode]:
    """Function that makes a code which is never run."""

    def make(name: str) -> orm.InstalledCode:
        plugin = f"deeph.{name}"
        return aiida_code_installed(label=name, default_calc_job_plugin=plugin, filepath_executable="/bin/true")

    return make


@pytest.fixture
def start(monkeypatch) -> Callable[..., Any]:
    """Function that makes a process from a class or builder, ready to be stepped by hand; inputs are validated.

    What it submits is made and linked, but never runs.
    """
    runner = get_manager().get_runner()

    def submit(process: Any, inputs: Any = None, **kwargs: Any) -> orm.ProcessNode:
        return instantiate_process(runner, process, **{**(inputs or {}), **kwargs}).node

    monkeypatch.setattr(runner, "submit", submit)

    def make(process: Any, **inputs: Any) -> Process:
        return instantiate_process(runner, process, **inputs)

    return make


@pytest.fixture
def step() -> Callable[..., Any]:
    """Function that runs methods of a process as its outline would; returns the result of the last."""

    def run(process: Process, *methods: Callable[[], Any]) -> Any:
        result = None
        with process._process_scope():
            for method in methods:
                result = method()
        return result

    return run


@pytest.fixture
def ended_job(aiida_localhost) -> Callable[..., orm.CalcJobNode]:
    """Function that makes a job which ended with a status and some outputs."""

    def make(
        entry_point: str,
        status: int = 0,
        *,
        outputs: dict[str, orm.Data] | None = None,
        inputs: dict[str, orm.Data] | None = None,
        caller: orm.ProcessNode | None = None,
        name: str = "job",
    ) -> orm.CalcJobNode:
        job = orm.CalcJobNode(computer=aiida_localhost, process_type=f"aiida.calculations:{entry_point}")
        for label, node in (inputs or {}).items():
            job.base.links.add_incoming(node.store(), LinkType.INPUT_CALC, label)
        if caller is not None:
            job.base.links.add_incoming(caller, LinkType.CALL_CALC, name)
        job.set_option("output_filename", "aiida.out")
        job.store()
        job.set_process_state("finished")
        job.set_exit_status(status)
        for label, node in (outputs or {}).items():
            node.base.links.add_incoming(job, LinkType.CREATE, label)
            node.store()
        return job

    return make


@pytest.fixture
def remote(aiida_localhost) -> Callable[[], orm.RemoteData]:
    """Function that makes an unstored remote folder."""
    return lambda: orm.RemoteData(remote_path="/nowhere", computer=aiida_localhost)


# AiiDA's own fixture under its own name: it registers entry points for the time of a test.
entry_points = pytest_fixtures.entry_points


@pytest.fixture
def fake_label(entry_points) -> type[FakeLabelWorkChain]:
    """The pretending labelling workchain, registered as `deeph.label.fake`."""
    entry_points.add(FakeLabelWorkChain, "aiida.workflows:deeph.label.fake")
    FakeLabelWorkChain.diary.clear()
    return FakeLabelWorkChain


@pytest.fixture
def fake_preprocess(monkeypatch) -> None:
    """Preprocess jobs that pretend."""
    submit_once = DatasetWorkChain.submit_once

    def submit(self: Any, process_class: Any, inputs: Any, **names: Any) -> Any:
        if process_class is PreprocessCalculation:
            process_class, inputs = FakePreprocess, {"labels": inputs["labels"], "reader": inputs["reader"]}
        return submit_once(self, process_class, inputs, **names)

    monkeypatch.setattr(DatasetWorkChain, "submit_once", submit)
