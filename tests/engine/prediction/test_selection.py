"""Which structures to label next: the rules on pools made by hand, and the rows that stand for a structure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.graph.build import attach_labels
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.nn.storage import save_model
from aiida_deeph.engine.prediction.config import SelectConfig
from aiida_deeph.engine.prediction.information import ROWS, information, largest_rows
from aiida_deeph.engine.prediction.rules import RULES, Pool
from aiida_deeph.engine.prediction.select import select
from tests.engine.nn.systems import CUTOFF, random_network, random_structure
from tests.engine.nn.test_closed_form import graph_of, matrix_of, network_of


def pool_of(rows: list[list[float]], targets: list[list[float]] | None = None, free: list[bool] | None = None) -> Pool:
    """Candidates that are one row of two features each."""
    candidates = np.array(rows)[:, None]
    return Pool(
        expected_error=np.linalg.norm(candidates[:, 0], axis=1),
        free=np.ones(len(rows), dtype=bool) if free is None else np.array(free),
        candidates={"bond": candidates},
        targets={"bond": candidates if targets is None else np.array(targets)[:, None]},
    )


def chosen(rule: str, pool: Pool, count: int = 2, seed: int = 0) -> list[int]:
    return RULES[rule](pool, count, np.random.default_rng(seed))


TWINS = [[0.1, 0.0], [10.0, 0.0], [10.1, 0.0], [0.0, 5.0]]


def test_variance_takes_twins_that_designs_tell_apart():
    assert chosen("variance", pool_of(TWINS)) == [2, 1]
    assert chosen("leverage", pool_of(TWINS)) == [2, 3]
    assert chosen("coverage", pool_of(TWINS)) == [2, 3]


def test_coverage_serves_the_targets():
    assert chosen("coverage", pool_of(TWINS, targets=[[0.0, 1.0]]), 1) == [3]
    assert chosen("leverage", pool_of(TWINS, targets=[[0.0, 1.0]]), 1) == [2]


def test_coverage_is_what_a_fit_would_leave():
    """The first choice leaves the smallest posterior variance of the targets, computed outright."""
    rng = np.random.default_rng(1)
    rows, targets = rng.normal(size=(6, 3, 5)), rng.normal(size=(4, 3, 5))
    pool = Pool(np.ones(6), np.ones(6, dtype=bool), {"a": rows}, {"a": targets})
    left = [
        np.trace(targets.reshape(-1, 5) @ np.linalg.inv(np.eye(5) + one.T @ one) @ targets.reshape(-1, 5).T)
        for one in rows
    ]
    first, second = chosen("coverage", pool)
    assert first == int(np.argmin(left))
    known = rows[first]
    both = [
        np.trace(
            targets.reshape(-1, 5) @ np.linalg.inv(np.eye(5) + known.T @ known + one.T @ one) @ targets.reshape(-1, 5).T
        )
        for one in rows
    ]
    assert second == min((n for n in range(6) if n != first), key=lambda n: both[n])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_leaves_out_what_is_known(rule):
    pool = pool_of(TWINS, free=[True, False, False, True])
    assert sorted(chosen(rule, pool, 9)) == [0, 3]
    assert chosen(rule, pool, 0) == []
    assert chosen(rule, pool, 1, seed=3) == chosen(rule, pool, 1, seed=3)


def test_chance_depends_on_the_seed():
    pool = pool_of([[1.0, 0.0]] * 50)
    assert chosen("random", pool, 5, seed=0) != chosen("random", pool, 5, seed=1)


def test_few_rows_stand_for_all():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, ROWS, generator=generator, dtype=torch.float64) for n in (60, 20))
    rows = left @ right.T
    few = largest_rows(rows)
    assert few.shape == (ROWS, 20)
    assert torch.allclose(few.T @ few, rows.T @ rows, rtol=1e-6)
    short = largest_rows(rows[:3])
    assert short.shape == (ROWS, 20) and torch.allclose(short.T @ short, rows[:3].T @ rows[:3])


def test_no_such_rule():
    with pytest.raises(InputError, match="found 'best'; expected one of coverage, leverage, variance, random"):
        parse_config(SelectConfig, {"model": "m", "candidates": "c", "rule": "best"}, "config")


def fitted(n: int = 3):
    """A closed form that knows the random structures 1 to n, and its description."""
    teacher, _ = network_of()
    pupil, description = network_of(seed=None)
    graphs = []
    for seed in range(1, n + 1):
        graph = graph_of(teacher, random_structure(seed))
        graphs.append(attach_labels(graph, matrix_of(teacher, random_structure(seed)), torch.float64))
    architecture = pupil.fit(graphs)
    return pupil, description.model_copy(update={"architecture": architecture})


@pytest.mark.slow
def test_what_a_label_would_tell():
    """Rows keep most of the leverage, and no more than it."""
    network, description = fitted()
    structure = random_structure(9)
    pairs = pairs_within(structure, CUTOFF)
    trust, told, wanted = information(network, structure, pairs, description)
    graph = graph_of(network, structure, pairs)
    geometry = network.model.geometry(graph)
    leverage, _ = network.posterior.of_edges(network.model, graph, *geometry, network.model.around(graph, *geometry))
    kept = sum(float((rows**2).sum()) for rows in told.values())
    assert 0.5 * float(leverage.sum()) < kept < 1.001 * float(leverage.sum())
    assert set(told) == set(wanted) and np.isfinite(trust.expected_error).all()


@pytest.mark.slow
def test_a_job_finds_the_stranger(tmp_path: Path):
    network, description = fitted()
    save_model(tmp_path / "model", network, description)
    for group, seeds in (("candidates", (1, 2, 8)), ("targets", (8,))):
        (tmp_path / group).mkdir()
        for seed in seeds:
            write_structure(tmp_path / group / f"s{seed}.xyz", random_structure(seed))
    config = {"model": str(tmp_path / "model"), "candidates": str(tmp_path / "candidates"), "count": 1}
    for rule in ("coverage", "leverage", "variance"):
        output = str(tmp_path / f"{rule}.json")
        report = json.loads(select(SelectConfig(**config, rule=rule, output=output)).read_text())
        errors = {name: found["expected_mae_eV"] for name, found in report["candidates"].items()}
        assert report["selected"] == [max(errors, key=errors.__getitem__) if rule == "variance" else "s8"]
        assert report["expected_mae_eV"] == pytest.approx(np.mean(list(errors.values())))
    config |= {"targets": str(tmp_path / "targets"), "known": ("s8",), "output": str(tmp_path / "known.json")}
    report = json.loads(select(SelectConfig(**config)).read_text())
    assert "s8" not in report["selected"] and report["expected_mae_eV"] == pytest.approx(errors["s8"])


def test_a_model_without_posterior():
    network, description = random_network()
    with pytest.raises(InputError, match="model without posterior"):
        information(network, random_structure(), pairs_within(random_structure(), CUTOFF), description)
