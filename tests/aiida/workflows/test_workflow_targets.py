"""A model on many structures: what is submitted when, what a failure leaves, and where the results are found."""

from __future__ import annotations

from itertools import count

import pytest
from aiida import orm

from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.workflows.targets import TargetsWorkChain

BASIS = "pyscf:gth-szv"


@pytest.fixture
def targets(start, engine_code, hydrogen_chain, make_model_folder):
    """Function that makes the process, of five chains."""

    numbers = count()

    def make(**arguments):
        given = {
            "targets": {f"chain_{n}": hydrogen_chain(2 * n) for n in range(2, 7)},
            "protocol": "fast",
            "basis": BASIS,
            "overrides": {"max_concurrent": 2},
            **arguments,
        }
        model = DeepHModelData(make_model_folder(elements=("H",), name=f"model_{next(numbers)}"))
        return start(TargetsWorkChain.get_builder_from_protocol({"engine": engine_code}, model, **given))

    return make


def end(node, status=0):
    """A child that pretends to have ended."""
    node.set_process_state("finished")
    node.set_exit_status(status)
    node.set_exit_message("as told" if status else None)


def running(process):
    return {name: orm.load_node(pk) for name, pk in process.ctx.pool_running.items()}


@pytest.mark.slow
def test_pool_is_bounded_refilled_and_goes_on_past_failures(targets, step):
    process = targets(group="results/chains")
    step(process, process.setup, process.fill_pool)
    assert list(running(process)) == ["chain_2", "chain_3"]
    assert {node.process_label for node in running(process).values()} == {"TargetWorkChain"}
    end(running(process)["chain_3"], 310)
    step(process, process.fill_pool)
    assert list(running(process)) == ["chain_2", "chain_4"]
    assert process.pool_status() == "structures: 1 of 5 done, 2 running, 1 failed"
    while step(process, process.pool_open):
        for node in running(process).values():
            end(node)
        step(process, process.fill_pool)
    verdict = step(process, process.results)
    assert verdict.status == TargetsWorkChain.exit_codes.WARNING_SOME_FAILED.status
    assert "chain_3: [310] as told" in verdict.message
    found = process.outputs["output_parameters"].get_dict()
    assert found == {"n_structures": 5, "n_failed": 1, "failed": {"chain_3": "[310] as told"}}
    assert {node.inputs.structure.get_formula() for node in orm.load_group("results/chains").nodes} == {
        "H4",
        "H6",
        "H8",
        "H10",
        "H12",
    }


def test_without_observables_the_prediction_runs_alone(targets, step):
    process = targets(overrides={"bands": None}, settings={"chain_2": {"retrieve": False}})
    step(process, process.setup, process.fill_pool)
    nodes = running(process)
    assert {node.process_label for node in nodes.values()} == {"PredictWorkChain"}
    assert nodes["chain_2"].inputs.predict.retrieve.value is False
    assert nodes["chain_3"].description == "H(R) of H6"


def test_all_failed_is_an_error(targets, step, hydrogen_chain):
    process = targets(targets={"only": hydrogen_chain()})
    step(process, process.setup, process.fill_pool)
    end(running(process)["only"], 310)
    step(process, process.fill_pool)
    assert step(process, process.results).status == TargetsWorkChain.exit_codes.ERROR_ALL_TARGETS_FAILED.status


def test_validation_structures_are_labelled_at_the_same_kpoints(targets, step, hydrogen_chain):
    process = targets(targets={}, validation={"seen": hydrogen_chain(6)}, label="deeph.label.pyscf")
    step(process, process.setup, process.fill_pool)
    node = running(process)["seen"]
    assert node.inputs.label_workchain.value == "deeph.label.pyscf" and "dos" not in node.inputs.bands


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": {}}, "no structure: give targets or validation"),
        ({"settings": {"other": {"bands": False}}}, "settings of no target or validation structure: other"),
        ({"overrides": {"bands": {"kpath": "G-K"}}}, r"targets\.chain_\d: k-path leaves .*found point K"),
    ],
)
def test_what_cannot_run_is_refused(targets, arguments, message):
    with pytest.raises(ValueError, match=message):
        targets(**arguments)


def test_other_refusals(targets, hydrogen_chain):
    with pytest.raises(ValueError, match=r"targets\.he holds He, which the model would not know: its data hold H"):
        targets(targets={"he": hydrogen_chain(symbol="He")})
    with pytest.raises(ValueError, match="nothing labels the validation structures a"):
        targets(validation={"a": hydrogen_chain()})
    with pytest.raises(ValueError, match="but `bands` is empty"):
        targets(validation={"a": hydrogen_chain()}, overrides={"bands": None}, label="deeph.label.pyscf")
