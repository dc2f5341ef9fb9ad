"""Labels and bands that others computed: as nodes, as the start of a full run, and what a single target changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.orm.utils.serialize import deserialize_unsafe, serialize

from aiida_deeph.cli.imported import imported_bands, label_nodes, member_name, origin_of
from aiida_deeph.cli.inputs import StructureSource
from aiida_deeph.cli.sources import structure_node
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.structures.layers import honeycomb, stacked
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.target import TargetSettings, TargetWorkChain, validate_settings

BASIS = "pyscf:gth-szv"


@pytest.fixture
def folders(deeph_folder, tmp_path) -> Path:
    """Two folders with a label, one without."""
    for name in ("0100", "first"):
        shutil.copytree(deeph_folder, tmp_path / "labels" / name)
    (tmp_path / "labels" / "notes").mkdir()
    return tmp_path / "labels"


@pytest.fixture
def label(deeph_folder):
    return HamiltonianData(deeph_folder)


def dft_bands() -> orm.BandsData:
    node = orm.BandsData()
    node.set_kpoints([[0.0, 0, 0], [0.5, 0, 0]])
    node.set_bands([[0.0, 1.0], [0.1, 0.9]], units="eV")
    return node


def test_folders_become_nodes_once_and_say_where_they_are_from(folders, aiida_profile_clean):
    nodes = label_nodes(folders)
    assert sorted(nodes) == ["cell_0100", "first"]
    assert nodes["first"].base.extras.get("origin") == "labels/first"
    assert str(folders.parent) not in nodes["first"].description
    nodes["first"].store()
    assert label_nodes(folders, "f*")["first"].uuid == nodes["first"].uuid
    with pytest.raises(InputError, match="no labels"):
        label_nodes(folders, "none*")


def test_names_of_members():
    assert [member_name(name) for name in ("0100", "a-b", "x.1")] == ["cell_0100", "a_b", "x_1"]
    # Link labels of AiiDA: ASCII, no two underscores in a row.
    assert [member_name(name) for name in ("my cell -1", "\u00e9tape", "__")] == ["my_cell_1", "tape", "cell"]
    assert origin_of(Path("/somewhere/set/0100")) == "set/0100"


def test_bands_of_openmx(shared, tmp_path):
    folder = shared / "fixtures" / "bilayer-graphene" / "twisted_28"
    structure = structure_node(StructureSource(file=str(folder)), tmp_path, "cell")
    node = imported_bands(folder / "openmx.Band", structure)
    assert node.get_bands().shape == (12, 364)
    assert node.labels == [(0, "G"), (5, "K"), (6, "K"), (11, "M")]
    assert node.base.attributes.get("fermi_energy") == pytest.approx(-3.743010, abs=1e-5)
    assert node.base.extras.get("origin") == "twisted_28/openmx.Band"
    np.testing.assert_allclose(node.get_kpoints()[-1], [0.5, 0, 0])
    (tmp_path / "cut.Band").write_text((folder / "openmx.Band").read_text()[:5000])
    for name, message in (("cut.Band", "damaged"), ("absent.Band", "cannot be read")):
        with pytest.raises(DeepHError, match=message):
            imported_bands(tmp_path / name, structure)


@pytest.mark.parametrize("store", [True, False])
def test_a_twist_in_an_inputs_file_is_a_process(aiida_profile, tmp_path, store):
    layer = honeycomb("graphene")
    write_structure(tmp_path / "bilayer.xyz", stacked(layer.cell, layer, layer, 3.35))
    source = StructureSource.model_validate({"file": "bilayer.xyz", "twist": {"m": 1}})
    node = structure_node(source, tmp_path, "small", store=store)
    assert len(node.sites) == 28 and node.is_stored == store
    if store:
        assert node.creator.inputs.settings["m"] == 1 and len(node.creator.inputs.bilayer.sites) == 4


def test_dataset_of_labels_alone(start, step, engine_code, label):
    builder = DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, {}, "fast", labels={"known": label})
    process = start(builder)
    step(process, process.setup, process.start_pool)
    assert not process.pool_open() and process.inspect_labels() is None
    job = step(process, process.run_preprocess)["preprocess"]
    assert job.inputs.hamiltonians.known.uuid == label.uuid
    assert "reader" not in job.inputs and "labels" not in job.inputs


@pytest.mark.parametrize(("status", "words"), [(430, "out of memory"), (440, "no space left")])
def test_full_machine_makes_the_preprocessing_wait_and_run_again(
    start, step, engine_code, label, ended_job, status, words
):
    builder = DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, {}, "fast", labels={"known": label})
    process = start(builder)
    step(process, process.setup, process.start_pool)
    first = step(process, process.run_preprocess)["preprocess"]
    process.ctx.preprocess = ended_job("deeph.preprocess", status)
    step(process, process.inspect_preprocess)
    assert process.paused and words in process.node.process_status and process.preprocess_open()
    second = step(process, process.run_preprocess)["preprocess"]
    assert second.pk != first.pk
    process.ctx.preprocess = ended_job("deeph.preprocess", 0)
    step(process, process.inspect_preprocess)
    assert not process.preprocess_open()


def test_datasets_that_cannot_be(start, engine_code, label, hydrogen_chain):
    def make(structures, **arguments):
        return start(
            DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, structures, "fast", **arguments)
        )

    with pytest.raises(InputError, match="no structures"):
        make({})
    with pytest.raises(ValueError, match="a name stands in both structures and labels: a"):
        make({"a": hydrogen_chain()}, labels={"a": label})
    with pytest.raises(ValueError, match="`perturbation` without `structures`"):
        make({}, labels={"a": label}, overrides={"perturbation": {"n": 3}})


@pytest.fixture
def full(start, engine_code, deeph_folder, chain):
    """Function that starts a full run from five labels."""

    def make(**arguments):
        labels = {f"cell_{n}": HamiltonianData(deeph_folder) for n in range(5)}
        given = {"targets": {"long": chain}, "basis": BASIS, "protocol": "fast", **arguments}
        return start(FullWorkChain.get_builder_from_protocol({"engine": engine_code}, {}, labels=labels, **given))

    return make


def test_full_run_from_labels_takes_known_bands(full, chain, step, ended_job, make_model_folder):
    bands = dft_bands()
    process = full(
        validation={"small": chain},
        reference_bands={"small": bands},
        settings={"long": {"bands": False, "retrieve": False}},
    )
    process.ctx.failed = {}
    process.ctx.train = ended_job("deeph.train", outputs={"model": DeepHModelData(make_model_folder())})
    small, long = (process.submit_member(name) for name in ("small", "long"))
    assert small.inputs.reference_bands.uuid == bands.uuid and "label" not in small.inputs
    assert "bands" not in long.inputs and long.inputs.predict.predict.retrieve.value is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": {"other": {"dos": False}}}, "settings of no target or validation structure: other"),
        ({"settings": {"long": {"bonds": False}}}, "bonds"),
        ({"reference_bands": {"long": dft_bands}}, "reference_bands of no validation structure: long"),
        ({"validation": True}, "nothing labels the validation structures small"),
    ],
)
def test_full_runs_that_cannot_be(full, chain, arguments, message):
    if "validation" in arguments:
        arguments = {"validation": {"small": chain}}
    if "reference_bands" in arguments:
        arguments = {"reference_bands": {"long": dft_bands()}}
    with pytest.raises((ValueError, InputError), match=message):
        full(**arguments)


def test_settings_change_one_target_alone():
    job = {"parameters": orm.Dict({"num_bands": 8, "smearing": 0.1})}
    inputs = {"predict": {"predict": job}, "bands": {"bands": job, "dos": job, "kpath": orm.Str("G-M")}}
    settings = TargetSettings(bands={"num_bands": 4}, dos=False, kpath="G-K", points_per_segment=3, retrieve=False)
    changed = settings.applied(inputs)
    assert changed["bands"]["bands"]["parameters"].get_dict() == {"num_bands": 4, "smearing": 0.1}
    assert "dos" not in changed["bands"] and changed["bands"]["kpath"].value == "G-K"
    assert changed["predict"]["predict"]["retrieve"].value is False
    assert inputs["bands"]["bands"]["parameters"]["num_bands"] == 8 and "dos" in inputs["bands"]
    assert "bands" not in TargetSettings(bands=False).applied(inputs)
    assert "smering" in validate_settings({"a": orm.Dict({"smering": 1})}, None)


def test_known_bands_are_what_a_prediction_is_compared_with(
    start, step, engine_code, chain, make_model_folder, ended_job, remote
):
    bands, model = dft_bands(), DeepHModelData(make_model_folder())
    arguments = ({"engine": engine_code}, chain, model, "fast")
    process = start(
        TargetWorkChain.get_builder_from_protocol(*arguments, basis=BASIS, reference_bands=bands),
    )
    assert set(step(process, process.run_prediction)) == {"predict"}
    process.ctx.predict = ended_job("deeph.predict", outputs={"remote_folder": remote()})
    job = step(process, process.inspect_prediction, process.run_bands)["bands"]
    assert job.inputs.kpoints.uuid == bands.uuid
    outputs = {"bands": dft_bands(), "output_parameters": orm.Dict({"n_occupied": 1})}
    process.ctx.bands = ended_job("deeph.bands", outputs=outputs)
    step(process, process.compare, process.results)
    assert process.outputs["comparison"]["band_mae_meV"] == pytest.approx(0)
    assert process.outputs["dft_bands"].uuid == bands.uuid
    with pytest.raises(ValueError, match="label_workchain or reference_bands, not both"):
        start(
            TargetWorkChain.get_builder_from_protocol(
                *arguments, basis=BASIS, reference_bands=bands, label="deeph.label.pyscf"
            )
        )


def test_the_first_label_that_failed_is_named_after_a_checkpoint_too(
    start, step, engine_code, hydrogen_chain, ended_job
):
    structures = {name: hydrogen_chain() for name in ("a", "b", "c")}
    codes = {"engine": engine_code, "dft": engine_code}
    process = start(DatasetWorkChain.get_builder_from_protocol(codes, structures, "fast"))
    step(process, process.setup)
    for name, status in (("b", 310), ("a", 320)):
        node = orm.WorkChainNode(process_type="aiida.workflows:deeph.label.pyscf").store()
        node.set_process_state("finished")
        node.set_exit_status(status)
        node.set_exit_message(f"why {name} failed")
        assert step(process, lambda name=name, node=node: process.member_ended(name, node)) is None
    process.ctx.failed = deserialize_unsafe(serialize(process.ctx.failed))
    assert process.first_failure().startswith("b: ") and "why b failed" in process.first_failure()
