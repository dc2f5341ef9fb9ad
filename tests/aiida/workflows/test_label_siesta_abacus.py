"""Labels of SIESTA and ABACUS: their inputs, and what is done when a run fails."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.plugins import WorkflowFactory

from aiida_deeph.codes.abacus.label import AbacusLabelWorkChain
from aiida_deeph.codes.siesta.label import SiestaLabelWorkChain
from aiida_deeph.data.pao import PaoFamily
from aiida_deeph.engine.dft.keywords import flat
from aiida_deeph.engine.errors import InputError
from tests.aiida.lcao_files import ABACUS_FAMILY, SIESTA_FAMILY, graphene, iron, orb_text

pytestmark = pytest.mark.usefixtures("lcao_families")
CLASSES = {"siesta": SiestaLabelWorkChain, "abacus": AbacusLabelWorkChain}


def started(start, step, code, structure, protocol="balanced", **parameters):
    """A label after its setup."""
    workchain = CLASSES[code.label]
    process = start(
        workchain.get_builder_from_protocol(
            code, structure, protocol, {"parameters": parameters} if parameters else None
        )
    )
    step(process, process.setup)
    return process


# inputs


def test_siesta_by_protocol(start, step, code_of):
    process = started(start, step, code_of("siesta"), graphene())
    inputs = process.ctx.inputs
    assert inputs["basis"].get_dict() == {"C": "DZP"} and inputs["pseudos"]["C"].filename == "C.psml"
    keywords = flat(inputs["parameters"].get_dict())
    assert keywords["MeshCutoff"] == "300 Ry" and keywords["PAO.EnergyShift"] == "100 meV"
    assert inputs["kpoints"].get_kpoints_mesh()[0] == [13, 13, 1] and "orbitals" not in inputs


def test_abacus_by_protocol(start, step, code_of):
    process = started(start, step, code_of("abacus"), graphene(), "fast")
    inputs = process.ctx.inputs
    assert inputs["orbitals"]["C"].name == "C_gga_6au_2s1p" and inputs["pseudos"]["C"].filename == "C.upf"
    assert inputs["parameters"]["ecutwfc"] == 60.0
    process = started(start, step, code_of("abacus"), graphene(), "stringent")
    assert process.ctx.inputs["orbitals"]["C"].name == "C_gga_6au_3s2p"
    process = started(start, step, code_of("abacus"), graphene(), basis={"C": "C_gga_6au_3s2p.orb"})
    assert process.ctx.inputs["orbitals"]["C"].name == "C_gga_6au_3s2p"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_spin_and_moments_reach_the_job(start, step, code_of, name):
    moments = {"Fe": [0.0, 1.0, 2.0], "H": 1.0}
    process = started(start, step, code_of(name), iron(), "fast", spin="noncollinear", spin_orbit=True, moments=moments)
    inputs = process.ctx.inputs
    assert inputs["spin"].value == "noncollinear" and inputs["spin_orbit"].value is True
    assert {kind: list(vector) for kind, vector in inputs["moments"].get_dict().items()} == {"Fe": [0.0, 1.0, 2.0]}


def test_siesta_basis_by_lines(start, step, code_of):
    rows = ["Fe 1", " n=4 0 1", "  0.0", "  1.0"]
    process = started(start, step, code_of("siesta"), iron(), basis={"Fe": rows})
    assert process.ctx.inputs["basis"].get_dict() == {"Fe": rows}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("siesta", {"pseudos_family": "none"}, r"no such family of pseudopotentials.*-P pseudo.psml"),
        ("siesta", {"size": "huge"}, r"basis is not understood.*basis.C.*one of SZ, DZ"),
        ("siesta", {"basis": {"C": ["H 1"]}}, r"basis is not understood"),
        ("siesta", {"spin": "up"}, r"wrong field.*spin"),
        ("abacus", {"orbitals_family": "none"}, r"no such family of orbitals.*found none.*abacus-sg15"),
        ("abacus", {"pseudos_family": "none"}, r"no such family of pseudopotentials.*-P pseudo.upf"),
        ("abacus", {"size": "huge"}, r"unknown size of the basis.*one of smallest, largest"),
        ("abacus", {"basis": {"C": "C_gga_9au"}}, r"no C_gga_9au.orb; expected one of C_gga_6au_2s1p"),
        ("abacus", {"xc": "PBE"}, r"wrong field.*xc"),
    ],
)
def test_wrong_settings(code_of, name, changes, message):
    with pytest.raises(InputError, match=message):
        CLASSES[name].get_builder_from_protocol(code_of(name), graphene(), "fast", {"parameters": changes})


def test_several_files_of_one_size(code_of, tmp_path):
    folder = tmp_path / "several"
    folder.mkdir()
    for radius in (7, 8):
        (folder / f"C_gga_{radius}au.orb").write_text(orb_text("C", radius=radius))
    PaoFamily.create_from_folder(folder, f"several-{tmp_path.name}")
    overrides = {"parameters": {"orbitals_family": f"several-{tmp_path.name}"}}
    with pytest.raises(InputError, match=r"several files of orbitals.*C_gga_7au, C_gga_8au.*basis.C"):
        AbacusLabelWorkChain.get_builder_from_protocol(code_of("abacus"), graphene(), "fast", overrides)


def test_wrong_keywords_are_refused_at_submission(start, code_of):
    for name, wrong in (("siesta", {"SaveHS": False}), ("abacus", {"gamma_only": 1})):
        builder = CLASSES[name].get_builder_from_protocol(
            code_of(name), graphene(), "fast", {"parameters": {"keywords": wrong}}
        )
        with pytest.raises(ValueError, match="keyword is not the user's"):
            start(builder)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_tiny_job_of_setup_codes(start, code_of, name):
    family = {"siesta": SIESTA_FAMILY, "abacus": ABACUS_FAMILY}[name]
    jobs = []
    CLASSES[name].prove({name: code_of(name)}, family, lambda title, job: jobs.append(job))
    assert start(jobs[0]).inputs.structure.get_formula() == "H2"
    with pytest.raises(InputError, match="no such family"):
        CLASSES[name].prove({name: code_of(name)}, "none", lambda title, job: jobs.append(job))


# recovery


def results(residual: float = 0.01, scf_ended: bool = True) -> orm.Dict:
    return orm.Dict({"converged": False, "scf_ended": scf_ended, "scf_history": {"residual": [residual]}})


def inspect(process, step, job):
    """One turn of the restart loop whose job is the given one."""
    process.ctx.iteration += 1
    process.ctx.setdefault("children", []).append(job)
    return step(process, process.inspect_process)


LADDERS = {
    "siesta": ("MaxSCFIterations", "SCF.Mixer.Weight", ("ElectronicTemperature", "1000.0 K"), 0.9),
    "abacus": ("scf_nmax", "mixing_beta", ("smearing_sigma", 0.004), 0.9),
}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_mixing_ladder(name, start, step, code_of, ended_job, remote):
    process = started(start, step, code_of(name), graphene())
    cycles, weight, (key, value), bad = LADDERS[name]
    before = flat(process.ctx.inputs["parameters"].get_dict())
    for attempt in (1, 2):
        folder = remote()
        job = ended_job(f"deeph.{name}", 410, outputs={"output_parameters": results(), "remote_folder": folder})
        assert inspect(process, step, job).status == 0
        now = flat(process.ctx.inputs["parameters"].get_dict())
        assert now[cycles] == 2**attempt * before[cycles] and now[weight] < before[weight]
        assert process.ctx.inputs["restart_folder"].uuid == folder.uuid
        before |= {weight: now[weight]}
    assert now[key] == value
    job = ended_job(f"deeph.{name}", 410, outputs={"output_parameters": results(bad), "remote_folder": remote()})
    assert inspect(process, step, job).status == process.exit_codes.ERROR_SCF_NOT_CONVERGED.status
    # A bad density is not started from.
    assert "restart_folder" not in process.ctx.inputs


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("status", [120, 420])
def test_out_of_walltime(name, start, step, code_of, ended_job, remote, status):
    process = started(start, step, code_of(name), graphene())
    outputs = {"output_parameters": results(), "remote_folder": remote()}
    assert inspect(process, step, ended_job(f"deeph.{name}", status, outputs=outputs)).status == 0
    assert process.ctx.inputs["metadata"]["options"]["max_wallclock_seconds"] == 28800
    assert "restart_folder" in process.ctx.inputs


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("status", [220, 310])
def test_what_would_fail_again_is_not_tried_again(name, start, step, code_of, ended_job, status):
    process = started(start, step, code_of(name), graphene())
    verdict = inspect(process, step, ended_job(f"deeph.{name}", status))
    assert verdict.status == process.exit_codes.ERROR_UNHANDLED_FAILURE.status


def test_bands_of_abacus_are_tried_again_and_given_up(start, step, code_of, ended_job, remote):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0], [0.5, 0, 0]])
    builder = AbacusLabelWorkChain.get_builder_from_protocol(
        code_of("abacus"), graphene(), "fast", bands_kpoints=kpoints
    )
    process = start(builder)
    step(process, process.setup)
    assert "bands_kpoints" not in process.ctx.inputs
    scf = ended_job("deeph.abacus", outputs={"remote_folder": remote(), "output_parameters": results()})
    process.ctx.iteration, process.ctx.children = 1, [scf]
    for status, done in ((400, None), (120, None), (400, 340)):
        assert process.bands_missing()
        job = step(process, process.run_bands)["bands"]
        assert job.inputs.restart_folder.uuid == scf.outputs.remote_folder.uuid
        assert job.inputs.bands_kpoints.uuid == process.inputs.bands_kpoints.uuid
        process.ctx.bands = ended_job("deeph.abacus", status)
        ended = step(process, process.inspect_bands)
        assert (ended.status if ended else None) == done


def test_full_disk_makes_the_bands_of_abacus_wait_without_counting(start, step, code_of, ended_job, remote):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0], [0.5, 0, 0]])
    process = start(
        AbacusLabelWorkChain.get_builder_from_protocol(code_of("abacus"), graphene(), "fast", bands_kpoints=kpoints)
    )
    step(process, process.setup)
    scf = ended_job("deeph.abacus", outputs={"remote_folder": remote(), "output_parameters": results()})
    process.ctx.iteration, process.ctx.children = 1, [scf]
    for status in (440, 440, 440, 400, 400):
        step(process, process.run_bands)
        process.ctx.bands = ended_job("deeph.abacus", status)
        assert step(process, process.inspect_bands) is None and process.bands_missing()
        assert process.paused == (status == 440)
        process.play()
    step(process, process.run_bands)
    assert step(process, process.inspect_bands).status == 340


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_families_of_the_protocols(name):
    parameters = WorkflowFactory(f"deeph.label.{name}").get_protocol_inputs("fast")["parameters"]
    assert parameters["pseudos_family"] == {"siesta": SIESTA_FAMILY, "abacus": ABACUS_FAMILY}[name]
