"""Labels by Quantum ESPRESSO: their inputs, and every step through a real scheduler, with stand-ins that do nothing but
copy what real runs left."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.qe.label import QeLabelWorkChain
from aiida_deeph.codes.qe.programs import find_code
from aiida_deeph.engine.dft.qe.code import ARTEFACTS
from aiida_deeph.engine.dft.qe.reader import QeReader
from aiida_deeph.engine.dft.qe.xml_output import read_pw_xml
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.orbitals import orbitals_of_basis
from aiida_deeph.workflows.dataset import DatasetWorkChain
from tests.aiida.qe_files import install_families, other_codes

ARCHIVE = Path(__file__).parents[2] / "fixtures" / "qe" / "polyacetylene.tar.xz"
SHELL = "#!/bin/sh\nset -e\n"
PW = """cat {run}/pw.out
mkdir -p out/pwscf.save
if grep -q "'bands'" pw.in; then test -f out/pwscf.save/data-file-schema.xml; xml=bands; else xml=data-file-schema; fi
cp {run}/$xml.xml out/pwscf.save/data-file-schema.xml
"""
PW2BGW = "cat {run}/pw2bgw.out\nprintf '\\140\\0\\0\\0VXC-Complex' > out/VSC\n"
HPRO = "test -s VSC\ntest -f hpro_driver.py\ncp -r {run}/deeph {run}/hpro_result.json .\n"


@pytest.fixture(autouse=True)
def _families(aiida_profile):
    """The families that the protocols name."""
    install_families("C", "H")


@pytest.fixture
def recorded(tmp_path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "polyacetylene"


@pytest.fixture
def programs(recorded, tmp_path, aiida_code_installed, aiida_computer_local):
    """Function that makes codes of the stand-ins, each of which may be given other shell lines.

    On a computer of their own: the only codes of a computer are found by themselves.
    """
    options = {"computer": aiida_computer_local()}
    options["computer"].set_minimum_job_poll_interval(0.1)

    def make(**changes: str) -> dict[str, orm.InstalledCode]:
        lines = {"pw": PW, "pw2bgw": PW2BGW, "hpro": HPRO, **changes}
        codes = {}
        for name, text in lines.items():
            path = tmp_path / (f"{name}.x" if name != "hpro" else "python")
            path.write_text(SHELL + text.format(run=recorded))
            path.chmod(0o755)
            plugin = "deeph.hpro" if name == "hpro" else "deeph.pw"
            names = {"label": f"{options['computer'].label}-{name}", "default_calc_job_plugin": plugin}
            codes[name] = aiida_code_installed(**names, filepath_executable=str(path), **options)
        return codes

    return make


def chain() -> orm.StructureData:
    """The cell of the recorded run, in another order of the atoms."""
    node = orm.StructureData(cell=[[2.46, 0, 0], [0.1, 5.0, 0], [0, 0.15, 4.6]])
    sites = {"C": ((0.03, -0.33, 0.02), (1.27, 0.36, -0.04)), "H": ((-0.02, -1.42, -0.05), (1.22, 1.46, 0.06))}
    for n in range(2):
        for symbol in "CH":
            node.append_atom(symbols=symbol, position=sites[symbol][n])
    return node


def builder_of(codes, bands=None, options=None, **parameters):
    overrides = {"codes": {name: codes[name] for name in ("pw2bgw", "hpro")}, "parameters": parameters}
    return QeLabelWorkChain.get_builder_from_protocol(codes["pw"], chain(), "fast", overrides, options, bands)


def test_inputs(programs):
    builder = builder_of(programs())
    parameters = builder.parameters.get_dict()
    assert parameters["orbitals"] == {s: f"{s}_gth-szv-molopt-sr_10au.orb" for s in "CH"}
    assert set(builder.files) == {"orb_C", "orb_H", "upf_C", "upf_H"}
    assert builder.files["upf_C"].filename == "C.gth-pbe-q4.upf"
    assert parameters["namelists"]["SYSTEM"]["ecutwfc"] == 80
    basis = QeLabelWorkChain.overlap_basis(parameters, {"C", "H"})
    assert basis == {s: f"abacus:orbitals:{s}_gth-szv-molopt-sr_10au" for s in "CH"}
    files = orbitals_of_basis(basis)
    assert {s: node.filename for s, node in files.items()} == parameters["orbitals"]


def test_largest_basis_of_the_family(programs):
    codes = programs()
    overrides = {"codes": {name: codes[name] for name in ("pw2bgw", "hpro")}}
    builder = QeLabelWorkChain.get_builder_from_protocol(codes["pw"], chain(), "stringent", overrides)
    assert builder.parameters["orbitals"]["C"] == "C_gth-dzvp-molopt-sr_10au.orb"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"namelists": {"SYSTEM": {"nspin": 2}}}, "not supported.*magnets"),
        ({"hpro": {"cutof": 3}}, "wrong field.*cutof"),
        ({"orbitals": {"C": "C_other.orb"}}, r"not in the family.*no C_other"),
        ({"orbitals_family": "nowhere"}, "no such family of orbitals.*found nowhere"),
        ({"pseudos_family": "nowhere"}, "no such family of pseudopotentials.*found nowhere"),
        ({"size": "huge"}, "unknown size of the basis.*found huge"),
    ],
)
def test_refused(programs, parameters, message):
    with pytest.raises(InputError, match=message):
        builder_of(programs(), **parameters)


def test_other_programs_are_found_on_the_computer(aiida_code_installed, aiida_computer_local):
    options = {"computer": aiida_computer_local()}
    name = options["computer"].label
    pw = aiida_code_installed(
        label=f"{name}-pw", default_calc_job_plugin="quantumespresso.pw", filepath_executable="/bin/pw.x", **options
    )
    with pytest.raises(InputError, match=rf"no code of hpro.*setup codes --computer {name} --hpro-python PATH"):
        find_code("hpro", pw)
    codes = other_codes(aiida_code_installed, name, **options)
    assert {program: find_code(program, pw).pk for program in codes} == {p: code.pk for p, code in codes.items()}
    assert find_code("hpro", pw, f"{name}-hpro").pk == codes["hpro"].pk
    aiida_code_installed(
        label=f"{name}-2", default_calc_job_plugin="deeph.hpro", filepath_executable="/bin/true", **options
    )
    with pytest.raises(InputError, match=rf"several codes could be hpro.*{name}-hpro@.*{name}-2@.*hpro: LABEL"):
        find_code("hpro", pw)
    with pytest.raises(InputError, match=r"no such code.*found third"):
        find_code("hpro", pw, "third")


def test_codes_and_files_are_checked(programs, start):
    builder = builder_of(programs())
    for missing, message in (("hpro", "program is missing.*no hpro"), ("upf_C", "file is missing.*no upf_C")):
        inputs = builder._inputs(prune=True)
        inputs["codes" if missing == "hpro" else "files"].pop(missing)
        with pytest.raises(ValueError, match=message):
            start(QeLabelWorkChain, **inputs)


def test_dataset_takes_the_programs_along(programs, engine_code):
    codes = programs()
    overrides = {"label": {"codes": {name: codes[name] for name in ("pw2bgw", "hpro")}}}
    builder = DatasetWorkChain.get_builder_from_protocol(
        {"engine": engine_code, "dft": codes["pw"]}, {"chain": chain()}, "fast", overrides, label="deeph.label.qe"
    )
    assert builder.label.codes["hpro"].pk == codes["hpro"].pk
    assert builder.label.code.pk == codes["pw"].pk and builder.label_workchain.value == "deeph.label.qe"


@pytest.mark.slow
def test_both_jobs_of_a_label_run_without_a_workchain_around_them(programs, engine_code, fake_preprocess):
    """Where the second fails, the workchain goes on from both, and runs neither again."""
    codes, options = programs(), {"withmpi": False}
    overrides = {"label": {"codes": {name: codes[name] for name in ("pw2bgw", "hpro")}}}
    builder_of = DatasetWorkChain.get_builder_from_protocol
    arguments = ({"engine": engine_code, "dft": codes["pw"]}, {"chain": chain()}, "fast", overrides, options)
    _, node = run_get_node(builder_of(*arguments, label="deeph.label.qe"))
    assert node.is_finished_ok, node.exit_message
    jobs = {link.link_label: link.node for link in node.base.links.get_outgoing(node_class=orm.CalcJobNode).all()}
    assert set(jobs) == {"label_chain", "next_chain"}
    assert jobs["next_chain"].inputs.pw_folder.creator == jobs["label_chain"]
    assert not jobs["label_chain"].get_option("append_text")
    assert not any(child.process_class is QeLabelWorkChain for child in node.called)

    overrides["label"]["parameters"] = {"hpro": {"max_error": 0.07}}
    _, node = run_get_node(builder_of(*arguments, label="deeph.label.qe"))
    (recovery,) = (child for child in node.called if child.process_class is QeLabelWorkChain)
    assert node.exit_status == 310 and recovery.exit_status == 340 and "76 meV" in recovery.exit_message
    assert not recovery.called and sum(isinstance(child, orm.CalcJobNode) for child in node.called) == 2


@pytest.mark.slow
@pytest.mark.parametrize("full", [("bands",), ("hpro",), ("bands", "hpro")], ids=" and ".join)
def test_full_disk_makes_bands_and_projection_wait_and_runs_only_them_again(programs, start, step, ended_job, full):
    points = orm.KpointsData()
    points.set_kpoints([[0.0, 0.0, 0.0]])
    process = start(builder_of(programs(), points, {"withmpi": False}))
    step(process, process.setup)
    folder = orm.RemoteData(remote_path="/nowhere", computer=process.inputs.code.computer)
    process.ctx.iteration, process.ctx.children = 1, [ended_job("deeph.pw", outputs={"remote_folder": folder})]
    step(process, process.start_projection)
    first = step(process, process.run_projection)
    assert set(first) == {"hpro", "bands"}
    for _ in range(4):  # more often than anything is tried
        ended = {name: ended_job(f"deeph.{'pw' if name == 'bands' else name}", 440) for name in full}
        process.ctx.update({"hpro": ended_job("deeph.hpro"), "bands": ended_job("deeph.pw"), **ended})
        assert step(process, process.inspect_projection) is None
        assert process.paused and "no space left" in process.node.process_status and process.projection_open()
        process.play()
        again = step(process, process.run_projection)
        assert set(again) == set(full) and not {job.pk for job in again.values()} & {job.pk for job in first.values()}
        first |= again
    process.ctx.update({"hpro": ended_job("deeph.hpro"), "bands": ended_job("deeph.pw")})
    assert step(process, process.inspect_projection) is None and not process.projection_open()


@pytest.mark.slow
def test_label(programs, recorded):
    expected = read_pw_xml(recorded / "bands.xml")
    points = orm.KpointsData()
    points.set_kpoints(expected.kpoints)
    outputs, node = run_get_node(builder_of(programs(), points, {"withmpi": False}))
    assert node.is_finished_ok, (node.exit_message, [child.exit_message for child in node.called])
    values = outputs["output_parameters"].get_dict()
    assert values["energy"] == pytest.approx(-340.829510, abs=1e-5)
    assert values["projection"]["mean_error"] == pytest.approx(0.0755, abs=1e-4)
    assert np.array_equal(outputs["output_band"].get_bands(), expected.energies[0])
    # On the same zero as the bands of every code, under the same key.
    assert outputs["output_band"].base.attributes.get("fermi_energy") == values["fermi_energy"]
    folder = Path(outputs["remote_folder"].get_remote_path())
    assert all((folder / name).is_file() for name in ARTEFACTS)
    data = QeReader().read(folder)
    # HPRO takes each element in one piece.
    sites = np.array([site.position for site in chain().sites])[[0, 2, 1, 3]]
    assert data.structure.symbols == ("C", "C", "H", "H") and data.structure.positions == pytest.approx(sites, abs=1e-7)
    jobs = {link.link_label: link.node for link in node.base.links.get_outgoing().all()}
    assert {"iteration_01", "projection_01", "bands", "results"} <= set(jobs)
    # The script and tables of HPRO's job travel with it, and say nothing of where it runs.
    uploaded = jobs["projection_01"].base.repository
    names = set(uploaded.list_object_names())
    assert {"hpro.json", "hpro_driver.py", "orbitals", "pseudo"} <= names
    assert str(folder) not in uploaded.get_object_content("hpro.json")


@pytest.mark.slow
def test_projection_that_fails_for_good(programs):
    _, node = run_get_node(builder_of(programs(), None, {"withmpi": False}, hpro={"max_error": 0.07}))
    assert node.exit_status == 340 and "exit status 330" in node.exit_message and "76 meV" in node.exit_message


@pytest.mark.slow
def test_missing_files_are_looked_for_again(programs):
    codes = programs(hpro=HPRO + "rm deeph/overlap.h5\n")
    _, node = run_get_node(builder_of(codes, None, {"withmpi": False}))
    assert node.exit_status == 330 and node.exit_message.endswith("left no deeph/overlap.h5.")
    projections = [child for child in node.called if child.process_class is CalculationFactory("deeph.hpro")]
    assert len(projections) == 3 and not any(child.base.caching.is_valid_cache for child in projections)


@pytest.mark.slow
def test_bands_that_fail(programs):
    points = orm.KpointsData()
    points.set_kpoints([[0.0, 0.0, 0.0]])
    _, node = run_get_node(builder_of(programs(), points, {"withmpi": False}))
    assert node.exit_status == 350 and "other k-points" in node.exit_message


@pytest.mark.slow
def test_scf_that_does_not_converge(programs, recorded):
    failed = recorded / "failures" / "unconverged"
    lines = f"cat {failed}/pw.out\nmkdir -p out/pwscf.save\ncp {failed}/data-file-schema.xml out/pwscf.save\n"
    _, node = run_get_node(builder_of(programs(pw=lines), None, {"withmpi": False}))
    assert node.exit_status == 310
    runs = [child for child in node.called if child.process_class is CalculationFactory("deeph.pw")]
    electrons = [run.inputs.parameters["ELECTRONS"] for run in sorted(runs, key=lambda run: run.pk)]
    assert [values.get("mixing_beta") for values in electrons] == [None, 0.3, 0.15]
    assert "mixing_mode" not in electrons[1] and electrons[2]["mixing_mode"] == "local-TF"
