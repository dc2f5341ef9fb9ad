"""Many labels at a time: never too many, never too few, none twice, and failures that are named."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node

from aiida_deeph.engine.errors import InputError
from aiida_deeph.workflows.dataset import DatasetWorkChain


@pytest.fixture
def builder_of(engine_code, fake_label, fake_preprocess):
    def make(structures, **overrides):
        return DatasetWorkChain.get_builder_from_protocol(
            {"engine": engine_code}, structures, protocol="fast", overrides=overrides, label="deeph.label.fake"
        )

    return make


@pytest.fixture
def cells(hydrogen_chain):
    """Function that makes stored structures `c0`, `c1`, ...; some fail, some end only after another."""

    def make(number, failing=(), after=None):
        nodes = {}
        for n in range(number):
            node = hydrogen_chain(spacing=0.9 + 0.01 * n).store()
            node.base.extras.set_many({"status": n in failing, "after": (after or {}).get(n)})
            nodes[f"c{n}"] = node
        return nodes

    return make


def in_flight(diary):
    """Number of labels that run after each event."""
    running, result = 0, []
    for event, _ in diary:
        running += 1 if event == "begin" else -1
        result.append(running)
    return result


def test_a_slot_is_refilled_as_soon_as_one_label_ends(builder_of, cells, fake_label):
    # c0 ends only when c3 has ended, which is submitted only if the slot beside c0 is refilled twice.
    results, node = run_get_node(builder_of(cells(4, after={0: "label c3"}), max_concurrent=2))
    assert node.is_finished_ok
    assert max(in_flight(fake_label.diary)) == 2
    assert fake_label.diary[0] == ("begin", "label c0")
    assert fake_label.diary[-1] == ("end", "label c0")
    parameters = results["output_parameters"].get_dict()
    assert (parameters["n_labels"], parameters["n_failed"], parameters["n_members"]) == (4, 0, 4)
    assert set(results) == {"dataset", "dataset_folder", "output_parameters"}


def test_failed_labels_are_named_and_the_dataset_goes_on(builder_of, cells):
    builder = builder_of(cells(5, failing=[2]), max_failed_fraction=0.2)
    results, node = run_get_node(builder)
    assert node.is_finished_ok
    parameters = results["output_parameters"].get_dict()
    assert list(parameters["failed"]) == ["c2"]
    assert "[399] failed as told" in parameters["failed"]["c2"]
    assert [member.name for member in results["dataset"].members] == ["c0", "c1", "c3", "c4"]


def test_too_many_failures_end_it_and_are_named(builder_of, cells, fake_label):
    builder = builder_of(cells(6, failing=[0, 1]), max_failed_fraction=0.2, max_concurrent=1)
    results, node = run_get_node(builder)
    assert node.exit_status == DatasetWorkChain.exit_codes.ERROR_TOO_MANY_FAILED_LABELS.status
    assert "Too many labels failed: 2 of 6" in node.exit_message
    # The root cause of the first, for all that stand above.
    assert node.exit_message.endswith("[399] failed as told")
    assert sorted(results["output_parameters"]["failed"]) == ["c0", "c1"]
    # No label is begun once the verdict is clear.
    assert [name for event, name in fake_label.diary if event == "begin"] == ["label c0", "label c1"]


def test_a_step_that_is_repeated_submits_nothing_twice(start, step, builder_of, cells):
    process = start(builder_of(cells(3), max_concurrent=2))
    step(process, process.setup, process.start_pool, process.fill_pool)
    first = dict(process.ctx.pool_running)
    # Killed before the checkpoint was written: the context is what it was before the step.
    step(process, process.start_pool, process.fill_pool)
    assert process.ctx.pool_running == first
    assert sorted(first) == ["c0", "c1"]
    links = process.node.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all_link_labels()
    assert sorted(links) == ["label_c0", "label_c1"]


def test_a_label_that_ended_while_the_parent_was_away_is_taken_up(start, step, builder_of, cells):
    process = start(builder_of(cells(3), max_concurrent=2, max_failed_fraction=0.5))
    step(process, process.setup, process.start_pool, process.fill_pool)
    ended = orm.load_node(process.ctx.pool_running["c1"])
    ended.set_process_state("finished")
    ended.set_exit_status(399)
    step(process, process.fill_pool)
    assert process.ctx.pool_next == 3
    assert sorted(process.ctx.pool_running) == ["c0", "c2"]
    assert list(process.ctx.failed) == ["c1"]


@pytest.mark.slow
def test_perturbed_cells_are_drawn_once(start, step, builder_of, cells):
    builder = builder_of(cells(1), perturbation={"n": 60, "amplitude": 0.02})
    process = start(builder)
    step(process, process.setup, process.perturb)
    assert process.cells_missing()
    step(process, process.perturb)
    assert not process.cells_missing()
    first = [process.structure(name).uuid for name in process.pool_members()]
    assert len(set(first)) == 60
    # Killed and repeated: the same cells, no further call.
    step(process, process.setup, process.perturb, process.perturb)
    assert [process.structure(name).uuid for name in process.pool_members()] == first
    calls = process.node.base.links.get_outgoing(link_type=LinkType.CALL_CALC).all_link_labels()
    assert sorted(calls) == ["perturb_0000", "perturb_0050"]


def test_children_say_what_they_are_for(start, step, builder_of, cells):
    process = start(builder_of(cells(3), max_concurrent=1))
    step(process, process.setup, process.start_pool, process.fill_pool)
    child = orm.load_node(process.ctx.pool_running["c0"])
    assert child.label == "label c0"
    assert child.description == "DFT (pyscf) of H4, 1 of 3"
    assert process.pool_status() == "labels: 0 of 3 done, 1 running, 0 failed"


def test_mesh_is_dense_enough_for_every_structure(engine_code, hydrogen_chain):
    structures = {"long": hydrogen_chain(12), "short": hydrogen_chain(4)}
    builder = DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, structures, protocol="fast")
    # 20 Angstrom over 3.6 is 5.6: 7 is the next odd number; the vacuum has one point.
    assert builder.label.kpoints.get_kpoints_mesh()[0] == [7, 1, 1]
    supercell = {"perturbation": {"n": 3, "supercell": [2, 1, 1]}}
    builder = DatasetWorkChain.get_builder_from_protocol(
        {"engine": engine_code}, structures, protocol="fast", overrides=supercell
    )
    assert builder.label.kpoints.get_kpoints_mesh()[0] == [3, 1, 1]


def test_pair_cutoff_of_the_protocol_reaches_preprocess(engine_code, hydrogen_chain):
    def cutoff(**arguments):
        builder = DatasetWorkChain.get_builder_from_protocol(
            {"engine": engine_code}, {"a": hydrogen_chain()}, **arguments
        )
        return builder.preprocess.parameters["cutoff"]

    assert cutoff(protocol="fast") == "auto"
    assert cutoff(protocol="stringent") is None
    assert cutoff(protocol="fast", overrides={"preprocess": {"parameters": {"cutoff": 5.0}}}) == 5.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"perturbation": {"n": 0}}, "wrong field.*first: n; in perturbation"),
        ({"perturbation": {"n": 3, "amplitud": 0.1}}, "first: amplitud"),
        ({"perturbation": {"n": 10**9}}, "too many cells; in dataset.perturbation.n; found 1000000000"),
        ({"perturbation": {"n": 3, "supercell": [10**9, 1, 1]}}, "cell too large for a label.*4000000000 atoms in a"),
        ({"preprocess": {"parameters": {"cutoff": -1.0}}}, "cutoff"),
        ({"max_concurrent": 0}, "found 0, expected at least 1"),
        ({"max_failed_fraction": 1.5}, "found 1.5"),
        ({"label": {"parameters": {"basis": "gth-tzvp"}}}, None),
    ],
)
def test_wrong_input_is_refused_before_submission(engine_code, hydrogen_chain, overrides, message):
    def build():
        return DatasetWorkChain.get_builder_from_protocol(
            {"engine": engine_code}, {"a": hydrogen_chain()}, protocol="fast", overrides=overrides
        )

    if message is None:
        build()
        return
    with pytest.raises(InputError, match=message):
        build()


def test_sizes_that_explode_are_refused_at_submission_too(start, engine_code, hydrogen_chain):
    builder = DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, {"a": hydrogen_chain()}, "fast")
    for perturbation, message in (({"n": 10**9}, "too many cells"), ({"n": 1, "supercell": [1, 99, 99]}, "too large")):
        builder.perturbation = orm.Dict(perturbation)
        with pytest.raises(ValueError, match=message):
            start(builder)


def test_element_without_basis_names_the_structure(start, engine_code, hydrogen_chain):
    good, bad = hydrogen_chain(), hydrogen_chain(symbol="U")
    with pytest.raises(InputError, match=r"element without basis.*found U"):
        DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, {"good": good, "bad": bad}, protocol="fast")
    builder = DatasetWorkChain.get_builder_from_protocol({"engine": engine_code}, {"good": good}, protocol="fast")
    builder.structures = {"good": good, "bad": bad}
    with pytest.raises(ValueError, match=r"structures.bad: element without basis: U"):
        start(builder)


@pytest.mark.parametrize("codes", [{}, {"pyscf": None}])
def test_codes_are_named(codes, hydrogen_chain):
    with pytest.raises(InputError, match=r"wrong codes.*expected engine and dft"):
        DatasetWorkChain.get_builder_from_protocol(codes, {"a": hydrogen_chain()})


def test_unknown_labelling_workchain(engine_code, hydrogen_chain):
    with pytest.raises(
        InputError,
        match=r"unknown workchain `deeph.label.nothing`.*deeph.label.cp2k, deeph.label.openmx, deeph.label.pyscf",
    ):
        DatasetWorkChain.get_builder_from_protocol(
            {"engine": engine_code}, {"a": hydrogen_chain()}, label="deeph.label.nothing"
        )
    with pytest.raises(InputError, match="does not label structures"):
        DatasetWorkChain.get_builder_from_protocol(
            {"engine": engine_code}, {"a": hydrogen_chain()}, label="deeph.train"
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amplitude": 2.0}, "amplitude is larger than a bond"),
        ({"amplitude": 0.2}, "two atoms are too close; in cell"),
        ({"supercell": [100000, 1000, 1]}, "cell too large for a label"),
    ],
)
def test_cells_that_cannot_be_meant_are_refused_before_submission(engine_code, hydrogen_chain, changes, message):
    overrides = {"perturbation": {"n": 20, "seed": 1, **changes}}
    with pytest.raises(InputError, match=message):
        DatasetWorkChain.get_builder_from_protocol(
            {"engine": engine_code}, {"a": hydrogen_chain(symbol="C")}, overrides=overrides
        )
