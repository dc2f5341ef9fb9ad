"""Active learning: what it refuses, and the whole loop on labels of PySCF."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_deeph.data.structure import from_engine
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.workflows.active import ActiveWorkChain


def hydrogen(stretch: float, angle: float = 0.0) -> orm.StructureData:
    """A bent chain of four hydrogen atoms."""
    far = stretch * np.array([np.cos(angle), np.sin(angle), 0])
    positions = np.array([[0, 0, 0], [-0.8, 0.3, 0], far, far + np.array([0.2, 0.8, 0])])
    return from_engine(Structure(("H",) * 4, positions, 20 * np.eye(3), (False,) * 3))


def pool() -> dict[str, orm.StructureData]:
    return {f"m{n}": hydrogen(0.8 + 0.1 * n, 0.2 * n) for n in range(6)}


def builder(code: Any, candidates: dict[str, orm.StructureData], budget: int = 3, **given: Any) -> Any:
    overrides = given.pop("overrides", {})
    overrides = {
        "first": 2,
        "batch": 1,
        "dataset": {"label": {"parameters": {"basis": "sto-3g"}}},
        "train": {"train": {"parameters": {"threads": 1}}},
        **overrides,
    }
    return ActiveWorkChain.get_builder_from_protocol(
        {"engine": code}, candidates, budget, protocol="fast", overrides=overrides, **given
    )


def test_protocol(engine_code):
    inputs = builder(engine_code, pool(), target=1e-3)
    assert (inputs.first.value, inputs.batch.value, inputs.budget.value) == (2, 1, 3)
    assert inputs.train.train.parameters["network"] == {"name": "closed-form"}
    assert inputs.train.train.parameters["split"]["train"] == 1.0
    assert inputs.select.parameters["rule"] == "coverage"


def test_empty_pool(engine_code):
    with pytest.raises(InputError, match="an empty pool"):
        builder(engine_code, {})


def refusal_of(inputs: Any) -> str:
    with pytest.raises(ValueError) as caught:
        run_get_node(inputs)
    return str(caught.value)


def test_refusals_before_anything_is_labelled(engine_code):
    helium = from_engine(Structure(("He",), np.zeros((1, 3)), 20 * np.eye(3), (False,) * 3))
    assert "targets.large holds He, which no candidate does" in refusal_of(
        builder(engine_code, pool(), targets={"large": helium})
    )
    assert "the budget of 1 labels is smaller than the first batch of 2" in refusal_of(builder(engine_code, pool(), 1))
    network = {"train": {"train": {"parameters": {"network": {"name": "deephe3"}}}}}
    assert "deephe3 has no posterior" in refusal_of(builder(engine_code, pool(), overrides=network))
    with pytest.raises(InputError, match="found 'best'; expected one of coverage"):
        builder(engine_code, pool(), overrides={"select": {"parameters": {"rule": "best"}}})


def labels_of(node: orm.WorkChainNode) -> list[str]:
    """Structures that were labelled, as often as they were."""
    return [job.inputs.structure.uuid for job in node.called_descendants if job.process_label == "PyscfCalculation"]


@pytest.mark.slow
@pytest.mark.integration
def test_the_loop(engine_code):
    pytest.importorskip("pyscf")
    candidates = pool()
    results, node = run_get_node(builder(engine_code, candidates, target=1e-9))
    assert node.exit_status == 720, node.exit_message
    numbers = results["output_parameters"].get_dict()
    assert numbers["n_labels"] == [2, 3] and numbers["n_members"] == [2, 3]
    assert len(set(numbers["labelled"])) == 3
    labelled = labels_of(node)
    assert len(labelled) == len(set(labelled)) == 3
    first = results["rounds"]["round_01_numbers"]
    assert set(first["candidates"]) == set(candidates) and len(first["selected"]) == 1
    assert set(first["selected"]) & set(first["labelled"]) == set()
    assert numbers["expected_mae_eV"][-1] < numbers["expected_mae_eV"][0]
    assert results["dataset"].n_members == 3 and results["model"].elements == ("H",)


def test_it_ends_at_the_target(engine_code, start):
    """Or when nothing is left to be labelled."""
    process = start(builder(engine_code, pool(), target=1e-3))
    process.setup()
    assert len(process.ctx.batch) == 2 and process.is_open()
    process.ctx.expected = 2e-3
    assert process.is_open()
    process.ctx.expected = 0.9e-3
    assert not process.is_open()
    process.ctx.expected, process.ctx.batch = 2e-3, []
    assert not process.is_open()
