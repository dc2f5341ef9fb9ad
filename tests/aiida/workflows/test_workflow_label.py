"""Labels: the common interface, and what is done when a run fails."""

from __future__ import annotations

import io

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.calculations.space import NO_SPACE
from aiida_deeph.codes.cp2k.label import Cp2kLabelWorkChain, bands_of_cp2k
from aiida_deeph.codes.pyscf.label import PyscfLabelWorkChain
from aiida_deeph.engine.domain.kpoints import mesh_for_width
from aiida_deeph.engine.errors import InputError


@pytest.fixture
def pyscf(start, step, engine_code, hydrogen_chain):
    """A PySCF label after its setup."""
    process = start(PyscfLabelWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(), protocol="fast"))
    step(process, process.setup)
    return process


@pytest.fixture
def cp2k(start, step, cp2k_code, hydrogen_chain):
    """A CP2K label after its setup."""
    process = start(Cp2kLabelWorkChain.get_builder_from_protocol(cp2k_code, hydrogen_chain(), protocol="fast"))
    step(process, process.setup)
    return process


def run_and_inspect(process, step, job):
    """One turn of the restart loop whose job is the given one."""
    process.ctx.iteration += 1
    process.ctx.setdefault("children", []).append(job)
    return step(process, process.inspect_process)


def cp2k_output(text: str) -> orm.FolderData:
    node = orm.FolderData()
    node.base.repository.put_object_from_filelike(io.BytesIO(text.encode()), "aiida.out")
    return node


def test_mesh_covers_the_range_of_h():
    cell = [[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 15.0]]
    layer = orm.StructureData(cell=cell, pbc=(True, True, False))
    # Heights of the cell are 2.13 along both vectors: 20 / 2.13 = 9.4, 11 is the next odd number above.
    assert mesh_for_width(layer.cell, layer.pbc, 20.0) == (11, 11, 1)
    assert mesh_for_width(layer.cell, layer.pbc, 20.0, (5, 5, 1)) == (3, 3, 1)
    assert mesh_for_width(np.diag([30.0] * 3), (True,) * 3, 20.0) == (1, 1, 1)


@pytest.mark.parametrize("code", ["pyscf", "cp2k"])
def test_first_job_by_itself_is_that_of_the_workchain(code, request):
    process = request.getfixturevalue(code)
    inputs = {name: process.inputs[name] for name in process.inputs if name not in ("metadata", "max_iterations")}
    (job, alone), within = type(process).first_job(inputs), process.ctx.inputs
    assert job is type(process)._process_class
    assert set(alone) == set(within) and alone["metadata"] == within["metadata"]
    assert alone["parameters"].get_dict() == within["parameters"].get_dict()
    assert all(alone[name] is within[name] for name in ("code", "structure"))
    assert "missing file" in alone["metadata"]["options"]["append_text"]


def test_job_that_ended_before_is_the_first_iteration(start, step, engine_code, hydrogen_chain, ended_job):
    job = ended_job("deeph.pyscf", 410)
    builder = PyscfLabelWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain(), protocol="fast")
    builder.first_job = job.uuid
    process = start(builder)
    step(process, process.setup, process.run_process, process.inspect_process)
    assert process.ctx.iteration == 1
    assert process.ctx.inputs["parameters"]["max_cycle"] == 120
    step(process, process.run_process)
    assert process.child("iteration_02") is not None and process.child("iteration_01") is None


REFUSED = "the job refused its input: unknown basis gth-szvv; did you mean gth-szv"


def test_root_cause_of_a_refused_job_stands_in_the_message_of_its_label(pyscf, step, ended_job):
    job = ended_job("deeph.pyscf", 210)
    job.set_exit_message(REFUSED)
    verdict = run_and_inspect(pyscf, step, job)
    assert verdict.status == 402 and verdict.message.endswith(f"<{job.pk}>: [210] {REFUSED}")


def test_root_cause_of_an_scf_that_is_given_up_stands_in_the_message_of_its_label(pyscf, step, ended_job):
    job = ended_job("deeph.pyscf", 410)
    job.set_exit_message("120 cycles, gradient 3.0 Ha")
    verdicts = [run_and_inspect(pyscf, step, job) for _ in range(3)]
    assert verdicts[-1].status == 310 and "whatever was tried: [410] 120 cycles" in verdicts[-1].message


def test_root_cause_of_an_abort_of_cp2k_is_what_its_box_says(cp2k, step, ended_job):
    box = """
 *******************************************************************************
 *   ___                                                                       *
 *  /   \\                                                                      *
 * [ABORT]                                                                     *
 *  \\___/    The requested basis set <SZVV-MOLOPT-SR-GTH> for element <H> was  *
 *    |               not found in the basis set files <BASIS_MOLOPT>          *
 *  O/|                                                                        *
 * /| |                                                                        *
 * / \\                                          aobasis/basis_set_types.F:1509 *
 *******************************************************************************
"""
    job = ended_job("cp2k", 304, outputs={"retrieved": cp2k_output(box)})
    verdict = run_and_inspect(cp2k, step, job)
    expected = "basis set <SZVV-MOLOPT-SR-GTH> for element <H> was not found in the basis set files <BASIS_MOLOPT>"
    assert verdict.status == 402 and verdict.message.endswith(f"[304] The requested {expected}")


def test_pyscf_job_gets_the_common_inputs(pyscf):
    inputs = pyscf.ctx.inputs
    assert inputs["parameters"]["basis"] == "gth-szv"
    assert inputs["kpoints"].get_kpoints_mesh()[0] == [7, 1, 1]
    assert inputs["metadata"]["options"]["max_wallclock_seconds"] == 7200
    assert "bands_kpoints" not in inputs


def test_cp2k_job_writes_real_space_matrices(cp2k):
    parameters = cp2k.ctx.inputs["parameters"].get_dict()
    dft = parameters["FORCE_EVAL"]["DFT"]
    assert dft["KPOINTS"]["FULL_GRID"] is True
    assert dft["KPOINTS"]["SCHEME"].split()[-3:] == ["7", "1", "1"]
    assert dft["PRINT"]["KS_CSR_WRITE"]["REAL_SPACE"] is True
    kinds = parameters["FORCE_EVAL"]["SUBSYS"]["KIND"]
    assert kinds == [{"_": "H", "BASIS_SET": "SZV-MOLOPT-SR-GTH", "POTENTIAL": "GTH-PBE"}]
    # aiida-cp2k's own k-point input would take half of the mesh away.
    assert "kpoints" not in cp2k.ctx.inputs


def test_cp2k_bands_are_asked_for_and_brought_back(start, step, cp2k_code, hydrogen_chain):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0], [0.25, 0, 0], [0.5, 0, 0]])
    builder = Cp2kLabelWorkChain.get_builder_from_protocol(cp2k_code, hydrogen_chain(), "fast", bands_kpoints=kpoints)
    process = start(builder)
    step(process, process.setup)
    assert process.ctx.inputs["settings"].get_dict() == {"additional_retrieve_list": ["bands.bs"]}
    assert "BAND_STRUCTURE" in process.ctx.inputs["parameters"]["FORCE_EVAL"]["DFT"]["PRINT"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"basis_set": "SZVV-MOLOPT-SR-GTH"}, "unknown basis set SZVV-MOLOPT-SR-GTH; did you mean SZV-MOLOPT-SR-GTH"),
        (
            {"FORCE_EVAL": {"DFT": {"XC": {"XC_FUNCTIONAL": {"_": "PBEE"}}}}},
            "unknown functional PBEE; did you mean PBE",
        ),
    ],
)
def test_a_misspelt_name_is_told_before_cp2k_runs(start, cp2k_code, hydrogen_chain, parameters, message):
    overrides = {"parameters": parameters}
    builder = Cp2kLabelWorkChain.get_builder_from_protocol(cp2k_code, hydrogen_chain(), "fast", overrides)
    with pytest.raises(ValueError, match=message):
        start(builder)


def test_a_kind_that_is_given_stays(cp2k_code, hydrogen_chain):
    kind = {"_": "H", "BASIS_SET": "DZVP-MOLOPT-SR-GTH", "POTENTIAL": "GTH-PBE-q1"}
    overrides = {"parameters": {"FORCE_EVAL": {"SUBSYS": {"KIND": [kind]}}}}
    builder = Cp2kLabelWorkChain.get_builder_from_protocol(cp2k_code, hydrogen_chain(), "fast", overrides)
    assert builder.parameters["FORCE_EVAL"]["SUBSYS"]["KIND"] == [kind]
    assert Cp2kLabelWorkChain.overlap_basis(builder.parameters.get_dict(), {"H"}) == {"H": "pyscf:gth-dzvp-molopt-sr"}


def test_unconverged_pyscf_is_tried_with_more_cycles_then_smearing_then_given_up(pyscf, step, ended_job):
    job = ended_job("deeph.pyscf", 410)
    assert run_and_inspect(pyscf, step, job).status == 0
    assert pyscf.ctx.inputs["parameters"]["max_cycle"] == 120
    assert "smearing" not in pyscf.ctx.inputs["parameters"].get_dict()
    assert run_and_inspect(pyscf, step, job).status == 0
    assert pyscf.ctx.inputs["parameters"]["smearing"] == 0.05
    assert run_and_inspect(pyscf, step, job).status == pyscf.exit_codes.ERROR_SCF_NOT_CONVERGED.status


def test_unconverged_cp2k_that_claims_success_is_not_believed(cp2k, step, ended_job, remote):
    silent = ended_job("cp2k", 0, outputs={"retrieved": cp2k_output("*** WARNING: SCF run NOT converged ***")})
    assert run_and_inspect(cp2k, step, silent).status == 0
    scf = cp2k.ctx.inputs["parameters"]["FORCE_EVAL"]["DFT"]["SCF"]
    assert (scf["MAX_SCF"], scf["MIXING"]["ALPHA"], scf["MIXING"]["METHOD"]) == (200, 0.2, "BROYDEN_MIXING")
    assert not cp2k.ctx.is_finished
    output = cp2k_output("*** SCF run converged in 12 steps ***")
    lost = ended_job("cp2k", 0, outputs={"retrieved": output})
    assert not cp2k.has_succeeded(lost) and run_and_inspect(cp2k, step, lost).status == 0
    assert not cp2k.ctx.is_finished, "without its folder there is nothing to read"
    fine = ended_job("cp2k", 0, outputs={"retrieved": output.clone(), "remote_folder": remote()})
    assert run_and_inspect(cp2k, step, fine) is None
    assert cp2k.ctx.is_finished


def test_smearing_is_added_only_where_there_is_none(cp2k):
    parameters = cp2k.ctx.inputs["parameters"].get_dict()
    del parameters["FORCE_EVAL"]["DFT"]["SCF"]["SMEAR"]
    improved = cp2k.improve_scf(parameters, 2)["FORCE_EVAL"]["DFT"]["SCF"]
    assert improved["SMEAR"]["METHOD"] == "FERMI_DIRAC"
    assert improved["ADDED_MOS"] == 20
    assert cp2k.improve_scf(parameters, 3) is None


@pytest.mark.parametrize("status", [100, 140, 400])
def test_retryable_failures_are_retried_twice(pyscf, step, ended_job, status):
    before = pyscf.ctx.inputs["parameters"].get_dict()
    for _ in range(2):
        assert run_and_inspect(pyscf, step, ended_job("deeph.pyscf", status)).status == 0
        assert pyscf.ctx.inputs["metadata"]["disable_cache"], "the failed job itself would be taken from the cache"
    assert pyscf.ctx.inputs["parameters"].get_dict() == before
    last = run_and_inspect(pyscf, step, ended_job("deeph.pyscf", status))
    assert last.status == pyscf.exit_codes.ERROR_JOB_FAILED.status


def test_out_of_walltime_gets_twice_the_time(pyscf, step, ended_job):
    assert run_and_inspect(pyscf, step, ended_job("deeph.pyscf", 120)).status == 0
    assert pyscf.ctx.inputs["metadata"]["options"]["max_wallclock_seconds"] == 14400


def test_full_disk_makes_the_label_wait(pyscf, step, ended_job):
    assert run_and_inspect(pyscf, step, ended_job("deeph.pyscf", 440)).status == 0
    assert pyscf.paused and "no space left" in pyscf.node.process_status
    assert pyscf.ctx.retries == 0


@pytest.mark.parametrize("status", [0, 303])
def test_full_disk_that_only_the_job_script_saw_makes_the_label_wait(pyscf, step, ended_job, monkeypatch, status):
    job = ended_job("deeph.pyscf", status)
    monkeypatch.setattr(type(job), "get_scheduler_stdout", lambda self: f"missing file: pyscf.h5\n{NO_SPACE}\n")
    assert not pyscf.has_succeeded(job)
    assert run_and_inspect(pyscf, step, job).status == 0
    assert pyscf.paused and "no space left" in pyscf.node.process_status
    assert pyscf.ctx.retries == 0 and not job.base.caching.is_valid_cache


def test_wrong_input_of_the_engine_is_not_retried(pyscf, step, ended_job):
    last = run_and_inspect(pyscf, step, ended_job("deeph.pyscf", 210))
    assert last.status == pyscf.exit_codes.ERROR_UNHANDLED_FAILURE.status


def test_a_run_that_was_submitted_before_a_kill_is_taken_up(pyscf, step):
    step(pyscf, pyscf.run_process)
    first = pyscf.child("iteration_01")
    pyscf.ctx.iteration = 0
    step(pyscf, pyscf.run_process)
    assert pyscf.ctx.iteration == 1
    assert len(pyscf.node.called) == 1
    assert first.label == pyscf.node.label


def test_codes_of_other_plugins_are_refused(engine_code, cp2k_code, hydrogen_chain):
    with pytest.raises(InputError, match=r"code cp2k@.* runs the plugin `cp2k`, expected one of `deeph`"):
        PyscfLabelWorkChain.get_builder_from_protocol(cp2k_code, hydrogen_chain())
    with pytest.raises(InputError, match=r"code deeph-engine@.* runs the plugin `deeph.train`, expected one of `cp2k`"):
        Cp2kLabelWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain())


def test_code_of_another_plugin_is_refused_at_submission_too(start, engine_code, cp2k_code, hydrogen_chain):
    builder = PyscfLabelWorkChain.get_builder_from_protocol(engine_code, hydrogen_chain())
    builder.code = cp2k_code
    with pytest.raises(ValueError, match=r"runs the plugin `cp2k`"):
        start(builder)


@pytest.mark.parametrize(
    ("workflow", "protocol", "symbol"), [(PyscfLabelWorkChain, "stringent", "Fe"), (Cp2kLabelWorkChain, "fast", "U")]
)
def test_element_without_basis(workflow, protocol, symbol, engine_code, cp2k_code, hydrogen_chain):
    code = engine_code if workflow is PyscfLabelWorkChain else cp2k_code
    with pytest.raises(InputError, match=rf"element without basis.*found {symbol}"):
        workflow.get_builder_from_protocol(code, hydrogen_chain(symbol=symbol), protocol)


BANDS = """# Set 1: 2 special points, 2 k-points, 2 bands
#  Special point 1    0.00000000  0.00000000  0.00000000  K1
#  Point 1  Spin 1:   0.00000000  0.00000000  0.00000000  0.50000000
#   Band    Energy [eV]     Occupation
       1    -5.00000000     2.00000000
       2     1.00000000     0.00000000
#  Point 2  Spin 1:   0.50000000  0.00000000  0.00000000  0.50000000
#   Band    Energy [eV]     Occupation
       1    -4.00000000     2.00000000
       2     0.50000000     0.00000000
"""


def test_bands_of_cp2k_at_other_points_are_refused():
    folder = orm.FolderData()
    folder.base.repository.put_object_from_filelike(io.BytesIO(BANDS.encode()), "bands.bs")
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0], [0.25, 0, 0]])
    with pytest.raises(ValueError, match="2 k-points that are not the 2 asked for"):
        bands_of_cp2k(folder, kpoints)
