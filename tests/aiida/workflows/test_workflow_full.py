"""The whole pipeline: what is refused, what reads like a plan, and one small run through everything."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_deeph.cli.nodes import DFT_BANDS, find_output
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.report.curves import aligned, bands_values, fermi_level_of, kind_of
from aiida_deeph.workflows.full import FullWorkChain


@pytest.fixture
def full(engine_code, hydrogen_chain):
    """Function that makes a builder; overrides are merged into a perturbation of ten cells."""

    def make(overrides=None, **arguments):
        dataset = {"perturbation": {"n": 10}, **(overrides or {}).pop("dataset", {})}
        given = {
            "codes": {"engine": engine_code},
            "structures": {"parent": hydrogen_chain()},
            "targets": {"long": hydrogen_chain(8)},
            "validation": {"held_out": hydrogen_chain(6)},
            "protocol": "fast",
            **arguments,
        }
        return FullWorkChain.get_builder_from_protocol(overrides={**(overrides or {}), "dataset": dataset}, **given)

    return make


def jobs_of(builder):
    """All inputs of CalcJobs in a builder by their place."""
    places = (
        "dataset.preprocess",
        "train.train",
        "train.evaluate",
        "predict.overlap",
        "predict.predict",
        "bands.bands",
        "bands.dos",
    )
    result = {}
    for place in places:
        inputs = builder
        for part in place.split("."):
            inputs = inputs[part]
        result[place] = inputs
    return result


def test_options_reach_every_job(full):
    builder = full(options={"account": "me", "max_wallclock_seconds": 99})
    for place, job in jobs_of(builder).items():
        assert job["metadata"]["options"]["account"] == "me", place
        assert job["metadata"]["options"]["max_wallclock_seconds"] == 99, place
        assert job["code"] == builder.train.train.code
    assert builder.dataset.label.options["account"] == "me"


def test_basis_of_the_labels_is_that_of_the_overlap(full):
    assert full().predict.overlap.parameters["basis"] == "pyscf:gth-szv"
    builder = full({"dataset": {"label": {"parameters": {"basis": "gth-dzvp"}}}})
    assert builder.predict.overlap.parameters["basis"] == "pyscf:gth-dzvp"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"dataset": {"perturbation": {"n": 2}}}, "no test member: 2 labels"),
        ({"train": {"train": {"parameters": {"split": {"test": 0.001}}}}}, "no test member"),
        ({"train": {"train": {"parameters": {"epochs": 0}}}}, "epochs"),
        ({"trian": {}}, "unknown key; in overrides; found trian"),
        ({"dataset": {"lable": {}}}, "found lable"),
    ],
)
def test_wrong_input_is_refused_before_submission(full, overrides, message):
    with pytest.raises(InputError, match=message):
        full(overrides)


def test_a_share_of_nothing_is_a_choice(full):
    split = {"train": 0.8, "validation": 0.2, "test": 0.0}
    builder = full({"train": {"train": {"parameters": {"split": split}}}})
    assert builder.train.train.parameters["split"]["test"] == 0


def test_split_is_checked_at_submission_too(start, full):
    builder = full()
    builder.dataset.perturbation = orm.Dict({"n": 2})
    with pytest.raises(ValueError, match="the split leaves no test member: 2 labels"):
        start(builder)


def test_target_of_unknown_element(start, full, hydrogen_chain):
    with pytest.raises(ValueError, match=r"targets.long holds He, which the model would not know"):
        start(full(targets={"long": hydrogen_chain(symbol="He")}))


def test_names_are_unique_and_kpoints_belong_to_something(start, full, hydrogen_chain):
    with pytest.raises(ValueError, match="a name stands in both targets and validation: same"):
        start(full(targets={"same": hydrogen_chain()}, validation={"same": hydrogen_chain()}))
    builder = full()
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0]])
    builder.kpoints = {"other": kpoints}
    with pytest.raises(ValueError, match="kpoints of no target or validation structure: other"):
        start(builder)


def test_path_is_checked_at_every_structures_own_cell_before_any_dft(start, full, hydrogen_chain):
    """A chain has G and X alone: a path through K ends the whole pipeline before its first job, not after hours."""
    with pytest.raises(ValueError, match=r"targets\.long: k-path leaves .*found point K.*settings\.long\.kpath"):
        start(full({"bands": {"kpath": "G-K"}}))
    with pytest.raises(ValueError, match=r"validation\.held_out: k-path leaves the Brillouin zone"):
        start(full({"bands": {"kpath": "G-X"}}, settings={"held_out": {"kpath": "G-M"}}))
    # One that is without bands, or brings its own k-points, needs no path.
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0, 0]])
    builder = full({"bands": {"kpath": "G-K"}}, settings={"long": {"bands": False}})
    builder.kpoints = {"held_out": kpoints}
    start(builder)


def test_code_of_another_plugin(full, cp2k_code, engine_code):
    with pytest.raises(InputError, match="runs the plugin `cp2k`"):
        full(codes={"engine": engine_code, "dft": cp2k_code})
    with pytest.raises(InputError, match="code is not deeph-engine"):
        full(codes={"engine": cp2k_code, "dft": engine_code})


@pytest.mark.slow
def test_steps_read_like_a_plan(start, step, full, ended_job, make_model_folder):
    process = start(full())
    node = step(process, process.run_dataset)["dataset"]
    assert (node.label, node.description) == ("1 dataset", "perturb, label by DFT, gate and convert")
    # Again after a kill: nothing new.
    assert step(process, process.run_dataset)["dataset"].pk == node.pk
    model = DeepHModelData(make_model_folder(elements=("H",)))
    process.ctx.train = ended_job("deeph.train", outputs={"model": model})
    step(process, process.start_pool, process.fill_pool)
    target, validation = (orm.load_node(process.ctx.pool_running[name]) for name in ("long", "held_out"))
    assert (target.label, target.description) == ("3 target long", "H(R), bands and DOS of H8")
    assert (validation.label, validation.description) == ("3 validate held_out", "predicted bands against DFT of H6")
    assert "label_workchain" not in target.inputs
    assert validation.inputs.label_workchain.value == "deeph.label.pyscf"
    assert process.pool_status() == "0 of 2 done, 2 running"


def test_failed_dataset_and_training_say_why(start, step, full):
    process = start(full())
    process.ctx.failed = {}
    failed = orm.WorkChainNode()
    failed.store()
    failed.set_process_state("finished")
    failed.set_exit_status(310)
    failed.set_exit_message("7 of 10 labels failed")
    process.ctx.dataset = failed
    verdict = step(process, process.inspect_dataset)
    assert verdict.status == FullWorkChain.exit_codes.ERROR_DATASET_FAILED.status
    assert "[310] 7 of 10 labels failed" in verdict.message
    process.ctx.train = failed
    assert step(process, process.inspect_train).status == FullWorkChain.exit_codes.ERROR_TRAINING_FAILED.status


@pytest.mark.slow
@pytest.mark.integration
def test_everything_once(full, hydrogen_chain):
    network = {"irreps_embed": "4x0e", "irreps_mid": "4x0e+2x1o", "lmax": 1, "n_blocks": 1, "n_gaussians": 8}
    overrides = {
        "dataset": {
            "perturbation": {"n": 5, "amplitude": 0.03},
            "max_concurrent": 2,
            "label": {"parameters": {"ke_cutoff": 20.0}},
        },
        "train": {"train": {"parameters": {"network": network, "epochs": 3, "threads": 1}}},
        "bands": {"points_per_segment": 3},
    }
    results, node = run_get_node(full(overrides))
    assert node.is_finished_ok, node.exit_message
    numbers = results["output_parameters"].get_dict()
    assert {key: numbers[key] for key in ("n_labels", "n_failed", "n_train", "n_validation", "n_test")} == {
        "n_labels": 5,
        "n_failed": 0,
        "n_train": 3,
        "n_validation": 1,
        "n_test": 1,
    }
    assert numbers["band_mae_meV"] == results["comparison"]["held_out"]["band_mae_meV"] > 0
    assert numbers["test_mae_meV"] == pytest.approx(1000 * results["evaluation"]["mae_eV"])
    assert set(numbers["seconds"]) >= {"dataset", "train", "target_long", "validate_held_out"}
    assert results["hamiltonian"]["long"].n_atoms == 8
    assert results["bands"]["long"].get_bands().shape == (4, 8)
    assert set(results["dos"]) == {"long"}
    predicted, reference = results["bands"]["held_out"], results["dft_bands"]["held_out"]
    assert predicted.get_kpoints().tolist() == reference.get_kpoints().tolist()
    # A figure shows both on one zero of energy, although that of the DFT run is another one.
    comparison = results["comparison"]["held_out"].get_dict()
    drawn, shift = aligned(predicted, reference, absolute=False)
    assert shift == pytest.approx(-comparison["shift"])
    apart = np.abs(drawn - bands_values(predicted)["energies"])[:, :, : comparison["n_occupied"][0]]
    assert apart.mean() == pytest.approx(comparison["occupied_mean"])
    assert fermi_level_of(reference) is not None and fermi_level_of(predicted) is not None
    assert (kind_of(predicted), kind_of(reference)) == ("H(R)", "DFT")
    assert find_output(node.pk, DFT_BANDS, orm.BandsData).uuid == reference.uuid
    # From the bands of the large structure one can walk back to the DFT runs.
    ancestors = orm.QueryBuilder().append(orm.Node, filters={"id": results["bands"]["long"].pk}, tag="bands")
    ancestors.append(
        orm.CalcJobNode, with_descendants="bands", filters={"process_type": {"like": "%deeph.pyscf"}}, project="*"
    )
    assert len({job.pk for job in ancestors.all(flat=True)}) == 5
