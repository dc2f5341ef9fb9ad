"""A DFT code is a reader and a labelling workchain: both keep the common interface, whichever code it is."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.registry import label_class, label_entry_points
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.dft.base import get_reader, records
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.overlap.config import OverlapConfig
from tests.aiida import lcao_files, openmx_files, qe_files

PROTOCOLS = ("fast", "balanced", "stringent")


def jobs_of(workchain: type[LabelWorkChain], code: orm.AbstractCode, structure: orm.StructureData) -> list[tuple]:
    """All jobs of a label that succeeds, each after one that pretends to have succeeded: class and inputs."""
    builder = workchain.get_builder_from_protocol(code, structure, "fast")
    inputs = {**builder._inputs(prune=True)}
    jobs = [workchain.first_job(inputs)]
    while True:
        node = orm.CalcJobNode(computer=code.computer, process_type=jobs[-1][0].build_process_type()).store()
        folder = orm.RemoteData(remote_path="/nowhere", computer=code.computer)
        folder.base.links.add_incoming(node, LinkType.CREATE, "remote_folder")
        folder.store()
        following = workchain.next_job(inputs, node)
        if following is None:
            return jobs
        jobs.append(following)


@pytest.fixture(autouse=True)
def _profile(aiida_profile, tmp_path):
    """A profile for all tests, with the families that the protocols name."""
    openmx_files.install_families(tmp_path / "pao", ("H5.0", "H6.0", "H7.0"), ("H_PBE19",))
    lcao_files.install_families(tmp_path / "orb", ("H",))
    qe_files.install_families("H")


@pytest.fixture
def structure() -> orm.StructureData:
    """Two hydrogen atoms in a chain: every code has a basis for them."""
    node = orm.StructureData(cell=np.diag([2.0, 7.0, 7.0]).tolist(), pbc=(True, False, False))
    node.append_atom(symbols="H", position=(0.0, 3.5, 3.5))
    node.append_atom(symbols="H", position=(0.8, 3.5, 3.5))
    return node


@pytest.fixture
def code_of(aiida_code_installed):
    """Function that makes a code (never run) of the plugin of a labelling workchain."""

    def make(workchain: type[LabelWorkChain]) -> orm.InstalledCode:
        plugin = workchain.record.plugin
        if plugin == "deeph.pw":
            qe_files.other_codes(aiida_code_installed)
        return aiida_code_installed(
            label=f"contract-{plugin}", default_calc_job_plugin=plugin, filepath_executable="/bin/true"
        )

    return make


@pytest.mark.parametrize("code", records())
def test_reader_names_itself_and_refuses_an_empty_folder(code, tmp_path):
    reader = get_reader(code)
    assert reader.record.name == code
    with pytest.raises(DeepHError) as error:
        reader.read(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_every_label_workchain_has_a_reader():
    assert label_entry_points()
    for name in label_entry_points():
        workchain = label_class(name)
        assert records()[workchain.record.name] is workchain.record
        assert name == f"deeph.label.{workchain.record.name}"


@pytest.mark.parametrize("name", label_entry_points())
def test_common_interface(name):
    workchain = WorkflowFactory(name)
    assert issubclass(workchain, LabelWorkChain)
    common, own = LabelWorkChain.spec(), workchain.spec()
    assert set(common.inputs) <= set(own.inputs)
    assert set(common.outputs) <= set(own.outputs)
    required = {key for key, port in own.inputs.items() if port.required}
    assert required == {"structure", "code", "parameters", "kpoints"}
    assert set(common.exit_codes) <= set(own.exit_codes)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", label_entry_points())
def test_protocol_gives_a_job_that_can_be_submitted(name, protocol, code_of, structure):
    workchain = WorkflowFactory(name)
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0], [0.5, 0, 0]])
    builder = workchain.get_builder_from_protocol(code_of(workchain), structure, protocol, bands_kpoints=kpoints)
    runner = get_manager().get_runner()
    process = instantiate_process(runner, builder)
    with process._process_scope():
        process.setup()
    # Validated as at submission.
    instantiate_process(runner, workchain._process_class, **process.ctx.inputs)
    # Three tries at most to converge an SCF, each with something changed.
    parameters = process.ctx.inputs["parameters"].get_dict()
    tries = [process.improve_scf(parameters, attempt) for attempt in (1, 2, 3)]
    assert tries[0] != parameters
    assert tries[2] is None


@pytest.mark.parametrize("name", label_entry_points())
def test_files_that_the_reader_needs_are_looked_for_after_the_run(name, code_of, structure):
    workchain = WorkflowFactory(name)
    assert workchain.record.raw_files
    # Where a label takes several jobs, the last one leaves the files.
    text = jobs_of(workchain, code_of(workchain), structure)[-1][1]["metadata"]["options"]["append_text"]
    assert all(PurePosixPath(pattern).name in text for pattern in workchain.record.raw_files)


@pytest.mark.parametrize("name", label_entry_points())
def test_jobs_of_a_label_need_no_workchain(name, code_of, structure):
    """Each can be submitted as it is, and the workchain would submit the same first one."""
    workchain = WorkflowFactory(name)
    jobs = jobs_of(workchain, code_of(workchain), structure)
    for process, inputs in jobs:
        instantiate_process(get_manager().get_runner(), process, **inputs)
    process = instantiate_process(
        get_manager().get_runner(), workchain.get_builder_from_protocol(code_of(workchain), structure, "fast")
    )
    with process._process_scope():
        process.setup()
    (job, alone), within = jobs[0], process.ctx.inputs
    assert job is workchain._process_class and set(alone) == set(within) and alone["metadata"] == within["metadata"]
    assert alone["parameters"].get_dict() == within["parameters"].get_dict()


@pytest.mark.parametrize("name", label_entry_points())
def test_basis_of_the_labels_can_be_used_for_overlaps(name, code_of, structure):
    workchain = WorkflowFactory(name)
    inputs = workchain.label_inputs(code_of(workchain), [structure], "fast")
    basis = workchain.overlap_basis(inputs["parameters"], {"H"})
    parse_config(OverlapConfig, {"structure": "structure.xyz", "basis": basis})


@pytest.mark.parametrize("name", label_entry_points())
def test_element_without_basis_is_refused_by_name(name, code_of, structure):
    workchain = WorkflowFactory(name)
    structure.append_atom(symbols="Lr", position=(1.5, 3.5, 5.0))
    with pytest.raises(InputError, match=r"element without basis.*found Lr"):
        workchain.get_builder_from_protocol(code_of(workchain), structure)


@pytest.mark.parametrize("name", label_entry_points())
def test_code_of_another_plugin_is_refused_by_name(name, aiida_code_installed, structure):
    code = aiida_code_installed(
        label="contract-other", default_calc_job_plugin="core.arithmetic.add", filepath_executable="/bin/true"
    )
    with pytest.raises(InputError, match=r"code contract-other@.* runs the plugin `core.arithmetic.add`"):
        WorkflowFactory(name).get_builder_from_protocol(code, structure)


def test_registry_and_entry_points_agree():
    registered = {name for name in get_entry_point_names("aiida.workflows") if name.startswith("deeph.label.")}
    assert registered == set(label_entry_points())
