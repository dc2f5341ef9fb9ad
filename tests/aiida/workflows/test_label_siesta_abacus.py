"""Labels of SIESTA and ABACUS: their inputs, what is done when a run fails, every step through a real scheduler with
stand-ins that do nothing but copy what real runs left, and the orbitals of the labels in the overlaps of a model."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory, DataFactory, WorkflowFactory

from aiida_deeph.codes.abacus.label import AbacusLabelWorkChain
from aiida_deeph.codes.siesta.label import SiestaLabelWorkChain
from aiida_deeph.data.pao import PaoData, PaoFamily
from aiida_deeph.engine.dft.keywords import flat
from aiida_deeph.engine.dft.siesta.reader import SiestaReader
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.orbitals import orbitals_of_basis
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.model_basis import basis_of
from aiida_deeph.workflows.predict import PredictWorkChain
from tests.aiida.lcao_files import ABACUS_FAMILY, SIESTA_FAMILY, install_families, orb_text

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLASSES = {"siesta": SiestaLabelWorkChain, "abacus": AbacusLabelWorkChain}


@pytest.fixture(autouse=True)
def _families(aiida_profile, tmp_path):
    """The families that the protocols name."""
    install_families(tmp_path / "orb", ("H", "C", "Fe"))


@pytest.fixture
def code_of(aiida_code_installed):
    """Function that makes a code which is never run."""

    def make(name: str) -> orm.InstalledCode:
        plugin = f"deeph.{name}"
        return aiida_code_installed(label=name, default_calc_job_plugin=plugin, filepath_executable="/bin/true")

    return make


def graphene(height: float = 14.0) -> orm.StructureData:
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, height]])
    node = orm.StructureData(cell=cell.tolist(), pbc=(True, True, False))
    for third in (1, 2):
        node.append_atom(symbols="C", position=(np.array([third / 3, 2 * third / 3 % 1, 0.5]) @ cell).tolist())
    return node


def iron() -> orm.StructureData:
    node = orm.StructureData(cell=(1.435 * np.array([[1, 1, -1], [-1, 1, 1], [1, -1, 1]])).tolist())
    node.append_atom(symbols="Fe", position=(0.0, 0.0, 0.0))
    return node


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


# orbitals of a model


def siesta_orbitals(text: str | None = None) -> PaoData:
    """Those of the recorded run of graphene, or of iron."""
    return PaoData(io.BytesIO((text or read("siesta", "graphene", "C.ion.xml")).encode()), filename="C.ion.xml")


def read(code: str, run: str, name: str) -> str:
    with tarfile.open(FIXTURES / code / f"{run}.tar.xz") as archive:
        return archive.extractfile(f"{run}/{name}").read().decode()


@pytest.fixture
def model_of(aiida_localhost, make_manifest, make_model_folder, make_remote):
    """Function that makes a model trained on labels of SIESTA whose runs made some orbitals."""

    def make(*made: PaoData) -> orm.Data:
        preprocess = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.preprocess")
        reader = orm.Str("siesta").store()
        preprocess.base.links.add_incoming(reader, LinkType.INPUT_CALC, "reader")
        for n, orbitals in enumerate(made):
            folder = make_remote(f"run{n}", creator="deeph.siesta")
            orbitals.base.links.add_incoming(folder.creator, LinkType.CREATE, "orbitals__C")
            orbitals.store()
            preprocess.base.links.add_incoming(folder, LinkType.INPUT_CALC, f"labels__run{n}")
        preprocess.store()
        dataset = DataFactory("deeph.dataset")(make_manifest(basis={"C": (0, 1)}, pair_cutoffs={"C-C": 4.2}))
        dataset.base.links.add_incoming(preprocess, LinkType.CREATE, "dataset")
        dataset.store()
        train = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.train")
        train.base.links.add_incoming(dataset, LinkType.INPUT_CALC, "dataset")
        train.store()
        labels = {"code": "siesta", "settings": {}}
        model = DataFactory("deeph.model")(make_model_folder(("C",), data={"labels": labels}))
        model.base.links.add_incoming(train, LinkType.CREATE, "model")
        return model.store()

    return make


def test_orbitals_that_the_labels_made(model_of, engine_code, code_of):
    model = model_of(siesta_orbitals(), siesta_orbitals())
    basis = basis_of(model)
    assert basis == {"C": "siesta:orbitals:C"}
    assert orbitals_of_basis(basis, model)["C"].filename == "C.ion.xml"
    builder = PredictWorkChain.get_builder_from_protocol(engine_code, graphene(), model, "fast")
    assert builder.overlap.orbitals["C"].name == "C"
    # Before the labels are there, nothing of another run is taken.
    assert orbitals_of_basis(basis) == {}


def test_orbitals_of_labels_that_differ(model_of):
    other = siesta_orbitals(read("siesta", "graphene", "C.ion.xml").replace("0.748323984364", "0.748323984365"))
    with pytest.raises(InputError, match=r"labels of the model have different orbitals.*C.ion.xml"):
        model = model_of(siesta_orbitals(), other)
        orbitals_of_basis(basis_of(model), model)


def test_full_workflow_leaves_the_orbitals_to_the_labels(start, step, code_of, engine_code, model_of):
    codes = {"engine": engine_code, "dft": code_of("siesta")}
    values = {"dataset": {"perturbation": {"n": 4, "amplitude": 0.05, "seed": 1}}}
    values["train"] = {"train": {"parameters": {"split": {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 1}}}}
    structures, targets = {"graphene": graphene()}, {"large": graphene()}
    process = start(
        FullWorkChain.get_builder_from_protocol(
            codes, structures, targets, None, "fast", values, label="deeph.label.siesta"
        )
    )
    assert {name for name in process.inputs.dataset.label.files} == {"pseudo_C"}
    predict = process.inputs.predict
    assert predict.overlap.parameters["basis"] == {"C": "siesta:orbitals:C"}
    assert not predict.overlap.get("orbitals")
    # The prediction finds them when there is a model.
    model = model_of(siesta_orbitals())
    prediction = start(PredictWorkChain, structure=graphene(), model=model, **predict)
    job = step(prediction, prediction.setup, prediction.run_overlap)["overlap"]
    assert job.inputs.orbitals.C.filename == "C.ion.xml"


# through the scheduler

SIESTA = """#!/bin/bash
# Copies what a real run left, but for what the file `without` names.
cat > /dev/null
test -f siesta.DM || touch siesta.DM
cp {folder}/run/* .
for name in $(cat {folder}/without 2>/dev/null); do rm -f $name; done
cat {folder}/siesta.out
"""
ABACUS = """#!/bin/bash
# Copies what a real run left: an SCF, one that starts from a density, or bands.
kind=first
grep -q 'init_chg *file' INPUT && kind=restart && test -d RESTART
grep -q 'calculation *nscf' INPUT && kind=bands && test -f RESTART/SPIN1_CHG.cube
mkdir OUT.ABACUS && cp {folder}/$kind/* OUT.ABACUS/ && cp INPUT OUT.ABACUS/ && touch OUT.ABACUS/SPIN1_CHG.cube
echo done
"""


@pytest.fixture
def stand_in(aiida_code_installed, tmp_path):
    """Function that makes a code of a script."""

    def make(name: str, script: str) -> orm.InstalledCode:
        path = tmp_path / name
        path.write_text(script.format(folder=tmp_path))
        path.chmod(0o755)
        code = aiida_code_installed(
            label=f"{name}-{tmp_path.name}", default_calc_job_plugin=f"deeph.{name}", filepath_executable=str(path)
        )
        code.computer.set_minimum_job_poll_interval(0.2)
        return code

    return make


def unpack(code: str, run: str, folder: Path) -> Path:
    with tarfile.open(FIXTURES / code / f"{run}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in [folder / run, *(folder / run).rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / run


@pytest.fixture
def siesta_stand_in(stand_in, tmp_path):
    """A code that leaves the recorded run of iron with noncollinear spins."""
    known = unpack("siesta", "fenc", tmp_path / "recorded")
    (tmp_path / "run").mkdir()
    for path in known.glob("fenc.*"):
        if path.suffix not in (".out", ".fdf"):
            path.rename(tmp_path / "run" / f"siesta{path.suffix}")
    for variant, name in (("v2.HSX", "siesta.HSX"), ("TSHS", "siesta.TSHS")):
        (known / "variants" / variant).rename(tmp_path / "run" / name)
    (known / "Fe.ion.xml").rename(tmp_path / "run" / "Fe.ion.xml")
    (known / "fenc.out").rename(tmp_path / "siesta.out")
    return stand_in("siesta", SIESTA)


OPTIONS = {"withmpi": False, "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}


def iron_label(code, **extra):
    return SiestaLabelWorkChain.get_builder_from_protocol(
        code, iron(), "fast", {"parameters": {"spin": "noncollinear"}}, OPTIONS, **extra
    )


def points(rows) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints(rows)
    return node


@pytest.mark.slow
def test_siesta_label_dataset_and_overlap(siesta_stand_in, engine_code, tmp_path):
    kpoints = points([[0, 0, 0], [0.123, 0.234, 0.345], [0.5, -0.5, 0.5], [0.071, -0.21, 0.44]])
    outputs, node = run_get_node(iron_label(siesta_stand_in, bands_kpoints=kpoints))
    assert node.is_finished_ok, node.exit_message
    assert outputs["output_parameters"]["converged"] is True
    assert outputs["output_band"].get_bands().shape == (4, 18)
    run = node.called[0]
    assert run.outputs.orbitals.Fe.filename == "Fe.ion.xml"

    engine_code.computer.set_minimum_job_poll_interval(0.2)
    made, job = run_get_node(
        CalculationFactory("deeph.preprocess"),
        code=engine_code,
        labels={"iron": outputs["remote_folder"]},
        reader=orm.Str("siesta"),
    )
    assert job.is_finished_ok, job.exit_message
    settings = made["dataset"].manifest.source["labels"]["settings"]
    basis = SiestaLabelWorkChain.overlap_basis(settings, {"Fe"})
    assert settings["spin"] == "non-collinear" and basis == {"Fe": "siesta:orbitals:Fe"}

    # S of the same crystal from the orbitals that came back, without a DFT run.
    computed, job = run_get_node(
        CalculationFactory("deeph.overlap"),
        code=engine_code,
        structure=iron(),
        parameters=orm.Dict({"basis": basis}),
        orbitals={"Fe": run.outputs.orbitals.Fe},
        retrieve=orm.Bool(True),
    )
    assert job.is_finished_ok, job.exit_message
    ours = computed["overlap"].load()
    known = SiestaReader().read(Path(outputs["remote_folder"].get_remote_path()))
    pairs = ours.overlap.atom_pairs
    difference = ours.overlap - known.overlap.aligned_to(pairs, known.orbitals_per_atom)
    assert np.abs(difference.entries).max() < 1e-5
    assert ours.n_electrons == 8.0


@pytest.mark.slow
def test_siesta_run_without_its_matrices(siesta_stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(SiestaLabelWorkChain, "max_retries", 0)
    (tmp_path / "without").write_text("siesta.HSX siesta.TSHS")
    _, node = run_get_node(iron_label(siesta_stand_in))
    assert node.exit_status == 330 and "siesta.[HT]S*" in node.exit_message


@pytest.fixture
def abacus_stand_in(stand_in, tmp_path):
    """Function: a code that leaves the recorded run of graphene; its first SCF may be one that did not converge."""

    def make(converged: bool = True) -> orm.InstalledCode:
        known = unpack("abacus", "graphene", tmp_path / "recorded")
        (known / "nscf").rename(tmp_path / "bands")
        for kind in ("first", "restart"):
            (tmp_path / kind).mkdir()
            for path in (known / "scf").iterdir():
                (tmp_path / kind / path.name).write_bytes(path.read_bytes())
        if not converged:
            log = read("abacus", "gaas_soc_trs", "scf/running_scf.log")
            (tmp_path / "first" / "running_scf.log").write_text(log)
        return stand_in("abacus", ABACUS)

    return make


def graphene_label(code, **extra):
    return AbacusLabelWorkChain.get_builder_from_protocol(code, graphene(), "fast", None, OPTIONS, **extra)


@pytest.mark.slow
def test_abacus_label_with_bands_and_dataset(abacus_stand_in, engine_code):
    kpoints = points(
        [[0, 0, 0], [0.137, 0.2113, 0], [0.31, -0.173, 0], [0.5, 0.25, 0], [0.05, 0.41, 0.29], [0.2, 0, 0]]
    )
    outputs, node = run_get_node(graphene_label(abacus_stand_in(), bands_kpoints=kpoints))
    assert node.is_finished_ok, node.exit_message
    assert [child.exit_status for child in node.called] == [0, 0]
    assert outputs["output_parameters"]["energy"] == pytest.approx(-309.99230796)
    assert outputs["output_band"].get_bands().shape == (6, 20)
    assert outputs["output_band"].base.attributes.get("fermi_energy") == pytest.approx(-1.5362495995)

    engine_code.computer.set_minimum_job_poll_interval(0.2)
    made, job = run_get_node(
        CalculationFactory("deeph.preprocess"),
        code=engine_code,
        labels={"graphene": outputs["remote_folder"]},
        reader=orm.Str("abacus"),
    )
    assert job.is_finished_ok, job.exit_message
    source = made["dataset"].manifest.source["labels"]
    basis = AbacusLabelWorkChain.overlap_basis(source["settings"], {"C"})
    assert basis == {"C": "abacus:orbitals:C_gga_6au_2s1p"}
    values = PredictWorkChain.predict_inputs(engine_code, "fast", basis=basis)
    assert values["overlap"]["orbitals"]["C"].filename == "C_gga_6au_2s1p.orb"


@pytest.mark.slow
def test_abacus_run_that_did_not_converge_is_continued(abacus_stand_in):
    _, node = run_get_node(graphene_label(abacus_stand_in(converged=False)))
    assert node.is_finished_ok, node.exit_message
    assert [child.exit_status for child in node.called] == [410, 0]
    second = node.called[1]
    assert second.inputs.restart_folder.uuid == node.called[0].outputs.remote_folder.uuid
    assert second.inputs.parameters["scf_nmax"] == 200


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_families_of_the_protocols(name):
    parameters = WorkflowFactory(f"deeph.label.{name}").get_protocol_inputs("fast")["parameters"]
    assert parameters["pseudos_family"] == {"siesta": SIESTA_FAMILY, "abacus": ABACUS_FAMILY}[name]
