"""OpenMX labels: their inputs, what is done when a run fails, and every step through a real scheduler, with a stand-in
for OpenMX that does nothing but copy what a real run left."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.openmx.label import OpenmxBaseWorkChain, OpenmxLabelWorkChain, recommended
from aiida_deeph.data.pao import PaoData
from aiida_deeph.engine.dft.keywords import flat
from aiida_deeph.engine.dft.openmx.band_file import parse_bands
from aiida_deeph.engine.dft.openmx.reader import OpenmxReader
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.orbitals import orbitals_of_basis
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.predict import PredictWorkChain
from tests.aiida.openmx_files import FAMILY, install_families

FIXTURES = Path(__file__).parents[2] / "fixtures" / "openmx"


@pytest.fixture(autouse=True)
def _families(aiida_profile, tmp_path):
    """The families that the protocols name."""
    orbitals = ("C6.0", "H5.0", "H6.0", "H7.0", "Fe5.5H", "Bi8.0")
    install_families(tmp_path / "pao", orbitals, ("C_PBE19", "H_PBE19", "Fe_PBE19H", "Bi_PBE19"), "labels")


FAMILIES = {"orbitals_family": "labels", "pseudos_family": "labels"}


@pytest.fixture
def openmx_code(aiida_code_installed):
    """A code of OpenMX that is never run."""
    return aiida_code_installed(label="openmx", default_calc_job_plugin="deeph.openmx", filepath_executable="/bin/true")


def graphene() -> orm.StructureData:
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, 20]])
    node = orm.StructureData(cell=cell.tolist(), pbc=(True, True, False))
    for third in (0, 1):
        node.append_atom(symbols="C", position=(np.array([third / 3, 2 * third / 3, 0.5]) @ cell).tolist())
    return node


def iron() -> orm.StructureData:
    node = orm.StructureData(cell=(1.435 * np.array([[1, 1, -1], [-1, 1, 1], [1, -1, 1]])).tolist())
    node.append_atom(symbols="Fe", position=(0.0, 0.0, 0.0))
    return node


def overrides(**parameters) -> dict:
    return {"parameters": {**FAMILIES, **parameters}}


@pytest.fixture
def label(start, step, openmx_code):
    """A label of graphene after its setup."""
    builder = OpenmxLabelWorkChain.get_builder_from_protocol(openmx_code, graphene(), "balanced", overrides())
    process = start(builder)
    step(process, process.setup)
    return process


@pytest.fixture
def base(start, step, openmx_code):
    """The base workchain of graphene after its setup."""
    builder = OpenmxBaseWorkChain.get_builder_from_protocol(openmx_code, graphene(), "balanced", overrides())
    process = start(builder)
    step(process, process.setup)
    return process


def run_and_inspect(process, step, job):
    """One turn of the restart loop whose job is the given one."""
    process.ctx.iteration += 1
    process.ctx.setdefault("children", []).append(job)
    return step(process, process.inspect_process)


def keywords(process) -> dict:
    return flat(process.ctx.inputs["parameters"].get_dict())


def test_full_disk_makes_the_label_wait(label, step, ended_job):
    assert run_and_inspect(label, step, ended_job("deeph.openmx", 440)).status == 0
    assert label.paused and "no space left" in label.node.process_status
    assert label.ctx.retries == 0


# inputs


def test_settings_of_the_deeph_papers(label):
    inputs = label.ctx.inputs
    assert inputs["basis"].get_dict() == {"C": "s2p2d1"}
    assert inputs["orbitals"]["C"].filename == "C6.0.pao" and inputs["pseudos"]["C"].filename == "C_PBE19.vps"
    assert keywords(label)["scf.XcType"] == "GGA-PBE" and keywords(label)["scf.criterion"] == 1e-8
    assert inputs["kpoints"].get_kpoints_mesh()[0] == [13, 13, 1]
    assert inputs["metadata"]["options"]["max_wallclock_seconds"] == 14400
    table = recommended()
    papers = {"C": "C6.0-s2p2d1", "Mo": "Mo7.0-s3p2d2", "S": "S7.0-s2p2d1", "Te": "Te7.0-s3p2d2", "Bi": "Bi8.0-s3p2d2"}
    assert {symbol: table[symbol]["standard"] for symbol in papers} == papers


def test_spin_and_moments_reach_the_job(start, step, openmx_code):
    values = overrides(spin="noncollinear", spin_orbit=True, moments={"Fe": [0.0, 0.0, 2.2], "H": 1.0})
    process = start(OpenmxLabelWorkChain.get_builder_from_protocol(openmx_code, iron(), "fast", values))
    step(process, process.setup)
    inputs = process.ctx.inputs
    assert inputs["spin"].value == "noncollinear" and inputs["spin_orbit"].value is True
    assert list(inputs["moments"]["Fe"]) == [0.0, 0.0, 2.2] and list(inputs["moments"].get_dict()) == ["Fe"]
    assert inputs["basis"].get_dict() == {"Fe": "s2p2d1"}


def test_orbitals_that_are_given_stay(openmx_code):
    builder = OpenmxLabelWorkChain.get_builder_from_protocol(
        openmx_code, graphene(), "stringent", overrides(basis={"C": "C6.0-s1p1"})
    )
    assert builder.parameters["basis"] == {"C": "C6.0-s1p1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orbitals_family": "none"}, r"no such family of orbitals.*aiida-deeph data pao install"),
        ({"pseudos_family": "none"}, r"no such family of pseudopotentials.*aiida-pseudo install family"),
        ({"basis": {"C": "C7.0-s2p2d1"}}, r"orbitals are not in the family.*no C7.0.pao; expected one of C6.0"),
        ({"basis": {"C": "good"}}, r"basis name is not understood"),
        ({"size": "huge"}, r"unknown size of the basis.*one of quick, standard, precise"),
        ({"spin": "up"}, r"wrong field.*spin"),
        ({"xc": "PBE"}, r"wrong field.*xc"),
    ],
)
def test_wrong_settings(openmx_code, changes, message):
    with pytest.raises(InputError, match=message):
        OpenmxLabelWorkChain.get_builder_from_protocol(openmx_code, graphene(), "fast", overrides(**changes))


def test_wrong_keywords_and_files_are_refused_at_submission(start, openmx_code):
    wrong = overrides(keywords={"HS.fileout": True})
    builder = OpenmxLabelWorkChain.get_builder_from_protocol(openmx_code, graphene(), "fast", wrong)
    with pytest.raises(ValueError, match="keyword is not the user's"):
        start(builder)
    builder = OpenmxLabelWorkChain.get_builder_from_protocol(openmx_code, graphene(), "fast", overrides())
    builder.files = {"vps_C": builder.files["vps_C"]}
    with pytest.raises(ValueError, match="no pao_C"):
        start(builder)


def test_codes_of_other_programs_are_refused(openmx_code, engine_code):
    from aiida_deeph.codes.pyscf.label import PyscfLabelWorkChain

    with pytest.raises(InputError, match=r"runs the plugin `deeph.train`, expected one of `deeph.openmx`"):
        OpenmxLabelWorkChain.get_builder_from_protocol(engine_code, graphene(), "fast", overrides())
    with pytest.raises(InputError, match=r"runs the plugin `deeph.openmx`, expected one of `deeph`"):
        PyscfLabelWorkChain.get_builder_from_protocol(openmx_code, graphene(), "fast")


# recovery


def results(converged: bool, scf_ended: bool, residual: float) -> orm.Dict:
    history = {"band_energy": [-1.0], "residual": [residual]}
    return orm.Dict({"converged": converged, "scf_ended": scf_ended, "scf_history": history})


@pytest.mark.parametrize("name", ["label", "base"])
def test_mixing_ladder(name, request, step, ended_job, remote):
    process = request.getfixturevalue(name)
    before = keywords(process)
    for attempt in (1, 2):
        folder = remote()
        outputs = {"output_parameters": results(False, True, 0.01), "remote_folder": folder}
        assert run_and_inspect(process, step, ended_job("deeph.openmx", 410, outputs=outputs)).status == 0
        now = keywords(process)
        assert now["scf.maxIter"] == 2**attempt * before["scf.maxIter"]
        assert now["scf.Max.Mixing.Weight"] < before["scf.Max.Mixing.Weight"]
        assert now["scf.Mixing.History"] >= before["scf.Mixing.History"]
        assert now["scf.energycutoff"] == before["scf.energycutoff"]
        assert process.ctx.inputs["restart_folder"].uuid == folder.uuid
        before |= {"scf.Max.Mixing.Weight": now["scf.Max.Mixing.Weight"]}
    assert keywords(process)["scf.ElectronicTemperature"] == 600.0
    outputs = {"output_parameters": results(False, True, 0.01), "remote_folder": remote()}
    last = run_and_inspect(process, step, ended_job("deeph.openmx", 410, outputs=outputs))
    assert last.status == process.exit_codes.ERROR_SCF_NOT_CONVERGED.status


def test_a_bad_density_is_not_started_from(base, step, ended_job, remote):
    outputs = {"output_parameters": results(False, True, 0.8), "remote_folder": remote()}
    run_and_inspect(base, step, ended_job("deeph.openmx", 410, outputs=outputs))
    assert "restart_folder" not in base.ctx.inputs


@pytest.mark.parametrize("status", [120, 420])
@pytest.mark.parametrize("scf_ended", [True, False])
def test_out_of_walltime(base, step, ended_job, remote, status, scf_ended):
    """Twice the time; and the density of the run before, if it came so far as to write it."""
    outputs = {"output_parameters": results(False, scf_ended, 1e-9), "remote_folder": remote()}
    assert run_and_inspect(base, step, ended_job("deeph.openmx", status, outputs=outputs)).status == 0
    assert base.ctx.inputs["metadata"]["options"]["max_wallclock_seconds"] == 28800
    assert ("restart_folder" in base.ctx.inputs) is scf_ended


@pytest.mark.parametrize("status", [210, 220, 230, 310, 320])
def test_what_would_fail_again_is_not_tried_again(base, step, ended_job, status):
    last = run_and_inspect(base, step, ended_job("deeph.openmx", status))
    assert last.status == base.exit_codes.ERROR_UNHANDLED_FAILURE.status


# overlaps of a model


def test_dataset_and_everything_after_it_get_the_files(start, openmx_code, engine_code):
    codes = {"engine": engine_code, "dft": openmx_code}
    perturbation = {"n": 4, "amplitude": 0.05, "seed": 1}
    values = {"dataset": {"perturbation": perturbation, "label": overrides()}}
    values["train"] = {"train": {"parameters": {"split": {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 1}}}}
    structures = {"graphene": graphene()}
    process = start(
        FullWorkChain.get_builder_from_protocol(
            codes, structures, {"large": graphene()}, None, "fast", values, label="deeph.label.openmx"
        )
    )
    files = process.inputs.dataset.label.files
    assert {name: node.filename for name, node in files.items()} == {"pao_C": "C6.0.pao", "vps_C": "C_PBE19.vps"}
    assert process.inputs.predict.overlap.parameters["basis"] == {"C": "openmx:orbitals:C6.0-s2p2"}
    assert process.inputs.predict.overlap.orbitals.C.filename == "C6.0.pao"


def test_overlap_of_the_labels(openmx_code, engine_code):
    inputs = OpenmxLabelWorkChain.label_inputs(openmx_code, [graphene()], "fast", overrides())
    basis = OpenmxLabelWorkChain.overlap_basis(inputs["parameters"], {"C"})
    assert basis == {"C": "openmx:orbitals:C6.0-s2p2"}
    # The same from what the reader of a run records.
    settings = {"species": {"C": ["C6.0-s2p2", "C_PBE19"]}}
    assert OpenmxLabelWorkChain.overlap_basis(settings, {"C"}) == basis
    values = PredictWorkChain.predict_inputs(engine_code, "fast", basis=basis)
    assert values["overlap"]["orbitals"]["C"].filename == "C6.0.pao"


def test_orbitals_that_the_database_does_not_hold():
    with pytest.raises(InputError, match=r"orbitals of the model are not known.*no Xe9.0.pao.*data pao install"):
        orbitals_of_basis({"Xe": "openmx:orbitals:Xe9.0-s1"})
    assert orbitals_of_basis("pyscf:gth-szv") == {} and orbitals_of_basis({"H": "pyscf:gth-szv"}) == {}


# through the scheduler

STAND_IN = """#!/bin/bash
# Copies what a real run left; on a restart the converged one, else the one of the folder `first`.
folder={folder}/first
grep -q '^scf.restart on' "$1" && folder={folder}/restart && test -d openmx_rst
for file in openmx.out openmx.Band openmx.scfout; do test -f $folder/$file && cp $folder/$file .; done
mkdir -p openmx_rst && cat $folder/openmx.std
"""


def unpack(archive: str, run: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(FIXTURES / f"{archive}.tar.xz") as file:
        for member in file.getmembers():
            if Path(member.name).parent.name == run and member.isfile():
                (folder / Path(member.name).name).write_bytes(file.extractfile(member).read())
    return folder


@pytest.fixture
def stand_in(aiida_code_installed, tmp_path):
    """Function that makes a code which leaves the files of a recorded run of the fixtures."""

    def make(first: tuple[str, str]) -> orm.InstalledCode:
        for name in ("first", "restart"):
            archive, run = first if name == "first" else ("graphene", "graphene")
            unpack(archive, run, tmp_path / name)
            if archive != "failures":
                unpack("stdout", run, tmp_path / name)
        script = tmp_path / "openmx"
        script.write_text(STAND_IN.format(folder=tmp_path))
        script.chmod(0o755)
        code = aiida_code_installed(
            label=f"openmx-{tmp_path.name}", default_calc_job_plugin="deeph.openmx", filepath_executable=str(script)
        )
        code.computer.set_minimum_job_poll_interval(0.2)
        return code

    return make


def recorded_inputs(code, **extra):
    options = {"withmpi": False, "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}
    return OpenmxLabelWorkChain.get_builder_from_protocol(
        code, graphene(), "fast", overrides(basis={"C": "C6.0-s2p2d1"}), options, **extra
    )


@pytest.mark.slow
def test_label_and_dataset_through_the_scheduler(stand_in, engine_code, tmp_path):
    code = stand_in(("graphene", "graphene"))
    kpoints = orm.KpointsData()
    kpoints.set_kpoints(parse_bands((tmp_path / "first" / "openmx.Band").read_text()).kpoints)
    outputs, node = run_get_node(recorded_inputs(code, bands_kpoints=kpoints))
    assert node.is_finished_ok, node.exit_message
    assert outputs["output_parameters"]["converged"] is True
    assert outputs["output_band"].get_bands().shape == (15, 26)
    folder = Path(outputs["remote_folder"].get_remote_path())
    assert {"openmx.dat", "openmx.scfout", "openmx.out", "DFT_DATA"} <= {path.name for path in folder.iterdir()}
    assert (folder / "DFT_DATA/PAO/C6.0.pao").is_file() and (folder / "DFT_DATA/VPS/C_PBE19.vps").is_file()

    # Made up, so not the basis of the recorded matrices, as the gates would see.
    (folder / "DFT_DATA/PAO/C6.0.pao").unlink()
    engine_code.computer.set_minimum_job_poll_interval(0.2)
    labels = {"graphene": outputs["remote_folder"]}
    made, job = run_get_node(
        CalculationFactory("deeph.preprocess"), code=engine_code, labels=labels, reader=orm.Str("openmx")
    )
    assert job.is_finished_ok, job.exit_message
    assert made["dataset"].manifest.members[0].n_atoms == 2
    source = made["dataset"].manifest.source["labels"]
    assert OpenmxLabelWorkChain.overlap_basis(source["settings"], {"C"}) == {"C": "openmx:orbitals:C6.0-s2p2d1"}


@pytest.mark.slow
def test_overlap_of_uploaded_orbitals_is_that_of_the_run(engine_code, tmp_path, shared):
    """S of graphene from OpenMX's own orbitals, without a DFT run, against the recorded run."""
    engine_code.computer.set_minimum_job_poll_interval(0.2)
    computed, job = run_get_node(
        CalculationFactory("deeph.overlap"),
        code=engine_code,
        structure=graphene(),
        parameters=orm.Dict({"basis": {"C": "openmx:orbitals:C6.0-s2p2d1"}}),
        orbitals={"C": PaoData(shared / "reference/openmx-data/C6.0.pao")},
        retrieve=orm.Bool(True),
    )
    assert job.is_finished_ok, job.exit_message
    known = OpenmxReader().read(unpack("graphene", "graphene", tmp_path / "run"))
    ours = computed["overlap"].load()
    pairs = ours.overlap.atom_pairs
    difference = ours.overlap - known.overlap.aligned_to(pairs, known.orbitals_per_atom)
    assert np.abs(difference.entries).max() < 5e-5
    assert ours.n_electrons == 8.0


@pytest.mark.slow
def test_unconverged_run_is_continued_from_its_density(stand_in):
    code = stand_in(("failures", "unconverged"))
    outputs, node = run_get_node(recorded_inputs(code))
    assert node.is_finished_ok, node.exit_message
    assert [child.exit_status for child in node.called] == [410, 0]
    second = node.called[1]
    assert second.inputs.restart_folder.uuid == node.called[0].outputs.remote_folder.uuid
    assert flat(second.inputs.parameters.get_dict())["scf.maxIter"] == 400
    assert outputs["output_parameters"]["converged"] is True


def test_tiny_job_of_setup_codes(start, openmx_code, tmp_path):
    jobs = []
    OpenmxLabelWorkChain.prove({"openmx": openmx_code}, "labels", lambda title, job: jobs.append(job))
    process = start(jobs[0])
    assert process.inputs.basis.get_dict() == {"H": "s2"} and process.inputs.pseudos.H.filename == "H_PBE19.vps"
    with pytest.raises(InputError, match="no such family of orbitals"):
        OpenmxLabelWorkChain.prove({"openmx": openmx_code}, "none", lambda title, job: jobs.append(job))


def test_family_name_of_the_protocols():
    assert OpenmxLabelWorkChain.get_protocol_inputs("fast")["parameters"]["orbitals_family"] == FAMILY
