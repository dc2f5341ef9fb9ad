"""The loop: it learns, counts its loss as the reference does, continues exactly, and gives up when it must."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aiida_deeph.engine.errors import DivergenceError
from aiida_deeph.engine.training.data import GraphSet
from aiida_deeph.engine.training.loss import ErrorSums
from tests.engine.training.toy import toy_loop

SCHEDULES = [
    {"name": "plateau", "patience": 1, "cooldown": 1, "threshold": 0.5},
    {"name": "slippery", "start": 2, "interval": 2},
    {"name": "cosine", "warmup_epochs": 2},
    {"name": "linear", "warmup_steps": 4},
    {"name": "constant"},
]


def losses(rows: list[dict[str, Any]]) -> list[tuple[float, float, float]]:
    return [(row["train_loss"], row["validation_loss"], row["learning_rate"]) for row in rows]


def test_it_learns(graphs: list[GraphSet]) -> None:
    loop = toy_loop(graphs, {"epochs": 150, "scheduler": {"name": "cosine"}, "learning_rate": 0.1})
    assert loop.run() == "epochs"
    assert loop.best.loss < 0.15 * loop.rows[0]["validation_loss"]


def test_losses_are_means_over_all_entries(graphs: list[GraphSet]) -> None:
    """With a rate of practically zero the epoch's losses are those of the initial network."""
    loop = toy_loop(graphs, {"epochs": 1, "learning_rate": 1e-30, "min_learning_rate": 0, "batch_size": 4})
    network = loop._network
    expected = []
    with torch.no_grad():
        for part in graphs:
            errors = torch.cat([(network(graph) - graph.label).double() for graph in part])
            expected.append((errors.square().mean().item(), errors.abs().mean().item()))
    loop.run()
    row = loop.rows[0]
    found = [(row["train_loss"], row["train_mae"]), (row["validation_loss"], row["validation_mae"])]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("limit", [1, 30, 40])
def test_parts_of_a_batch_add_up_to_the_same_step(graphs: list[GraphSet], limit: int) -> None:
    whole, split = (toy_loop(graphs, {"batch_size": 4, "max_edges_per_batch": edges}) for edges in (None, limit))
    whole.run()
    split.run()
    torch.testing.assert_close(torch.tensor(losses(split.rows)), torch.tensor(losses(whole.rows)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scheduler", SCHEDULES, ids=lambda s: s["name"])
@pytest.mark.parametrize("after", [1, 5, 9, 12])
def test_an_interrupted_run_takes_the_very_same_steps(graphs: list[GraphSet], scheduler: dict, after: int) -> None:
    """Stopped after any step, amid an epoch (of three steps) or at its end, with all that has a state switched on."""
    config = {"scheduler": scheduler, "batch_size": 2, "ema_decay": 0.9, "ema_start": 1, "gradient_clip": 5.0}
    config["optimizer"] = {"name": "adamw", "weight_decay": 0.1}
    through = toy_loop(graphs, config)
    through.run()

    asked = iter(range(10**6))
    first = toy_loop(graphs, config, stop=lambda: "test" if next(asked) >= after else None)
    assert first.run() == "test"
    state = first.state_dict()
    second = toy_loop(graphs, config, seed=99)
    second.load_state_dict(state)
    second.run()
    assert losses(second.rows) == losses(through.rows)
    assert second.best.epoch == through.best.epoch
    for name, value in through._network.state_dict().items():
        assert torch.equal(value, second._network.state_dict()[name])
    for name, value in through.best.weights.items():
        assert torch.equal(value, second.best.weights[name])


def test_nan_ends_the_training_and_keeps_the_best(graphs: list[GraphSet]) -> None:
    def poison() -> None:
        if (loop.epoch, loop.step) == (3, 0):
            loop._network.table.data.fill_(float("nan"))

    loop = toy_loop(graphs, {"epochs": 10}, stop=poison)
    with pytest.raises(DivergenceError, match="training diverged; in epoch 3"):
        loop.run()
    assert loop.best.epoch >= 0
    assert all(torch.isfinite(value).all() for value in loop.best.weights.values())


def test_bad_epochs_lead_back_to_the_best_weights(graphs: list[GraphSet]) -> None:
    """The network is spoilt after epoch 3; after two bad epochs it is as it was at the best one, at a smaller rate."""

    def spoil() -> None:
        if (loop.epoch, loop.step) == (4, 0):
            loop._network.table.data.add_(20.0)

    config = {"epochs": 8, "scheduler": {"name": "constant"}, "revert": {"patience": 2, "decay": 0.5}}
    loop = toy_loop(graphs, config, stop=spoil)
    loop.run()
    found = [row["validation_loss"] for row in loop.rows]
    assert min(found[4:6]) > 2 * found[3]
    assert max(found[6:]) < 2 * found[3]
    assert [row["learning_rate"] for row in loop.rows] == [0.02] * 6 + [0.01] * 2


def test_small_rates_end_the_training(graphs: list[GraphSet]) -> None:
    config = {"epochs": 50, "scheduler": {"name": "slippery", "start": 2, "interval": 1}, "min_learning_rate": 0.004}
    loop = toy_loop(graphs, config)
    assert loop.run() == "min_learning_rate"
    assert [row["learning_rate"] for row in loop.rows] == [0.02, 0.02, 0.01, 0.005]


def test_average_of_the_weights_is_what_is_validated(graphs: list[GraphSet]) -> None:
    """The kept weights are the average, not the trained ones, and have the recorded loss."""
    loop = toy_loop(graphs, {"ema_decay": 0.95, "epochs": 3})
    loop.run()
    trained = loop._network.state_dict()
    assert not torch.equal(loop.best.weights["table"], trained["table"])
    loop._network.load_state_dict(loop.best.weights)
    with torch.no_grad():
        errors = torch.cat([loop._network(graph) - graph.label for graph in graphs[1]])
    assert errors.square().mean().item() == pytest.approx(loop.best.loss, rel=1e-5)


def test_clipping_is_recorded_and_bounds_the_gradient(graphs: list[GraphSet]) -> None:
    loop = toy_loop(graphs, {"gradient_clip": 1e-3, "epochs": 2})
    loop.run()
    assert all(row["gradient_norm"] > 1e-3 for row in loop.rows)
    norm = torch.stack([p.grad.norm() for p in loop._network.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_without_validation_the_training_loss_stands_in(graphs: list[GraphSet], toy_dataset) -> None:
    empty = GraphSet(toy_dataset, (), graphs[0]._settings, graphs[0]._cache)
    loop = toy_loop([graphs[0], empty], {"epochs": 2})
    loop.run()
    assert all(row["validation_loss"] == row["train_loss"] for row in loop.rows)


def test_averages_begin_with_their_epoch(graphs: list[GraphSet]) -> None:
    """Before it the trained weights themselves are validated."""
    plain, late = (toy_loop(graphs, {"epochs": 4, **extra}) for extra in ({}, {"ema_decay": 0.9, "ema_start": 2}))
    plain.run()
    late.run()
    same = [a == b for a, b in zip(losses(plain.rows), losses(late.rows), strict=True)]
    assert same == [True, True, False, False]


def test_weight_decay_and_betas_reach_the_optimiser(graphs: list[GraphSet]) -> None:
    loop = toy_loop(graphs, {"optimizer": {"name": "adamw", "betas": [0.99, 0.9], "weight_decay": 0.3}})
    assert loop._optimizer.defaults["weight_decay"] == 0.3 and loop._optimizer.defaults["betas"] == (0.99, 0.9)
    assert isinstance(loop._optimizer.optimizer, torch.optim.AdamW)


def test_best_by_the_absolute_error(graphs: list[GraphSet]) -> None:
    """A later epoch with the smaller mean |dH| wins, whatever its mean |dH|^2."""
    for by, best in (("square", 0), ("absolute", 1)):
        loop = toy_loop(graphs, {"epochs": 2, "best_by": by, "revert": None})
        errors = iter([ErrorSums(torch.tensor([1.0, 2.0, 1.0])), ErrorSums(torch.tensor([1.5, 1.0, 1.0]))])
        loop._errors = lambda source, errors=errors: next(errors)
        loop.run()
        assert loop.best.epoch == best
