"""Learning rates: the plateau counts as torch does, the slope and the cosine have their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aiida_deeph.engine.training.config import ConstantConfig, CosineConfig, LinearConfig, PlateauConfig, SlipperyConfig
from aiida_deeph.engine.training.schedule import Plateau, build_schedule


def test_plateau_is_torchs_on_the_smoothed_loss() -> None:
    config = PlateauConfig(patience=5, cooldown=3)
    schedule = build_schedule(config, 2e-3, 400)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    options = {name: getattr(config, name) for name in ("factor", "patience", "cooldown", "threshold")}
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0.0, **options)
    random = np.random.default_rng(3)
    smoothed = None
    rates = []
    for epoch in range(400):
        loss = float(np.exp(-epoch / 60) + 0.02 + 0.05 * random.random())
        smoothed = loss if smoothed is None else 0.1 * loss + 0.9 * smoothed
        reference.step(smoothed)
        schedule.step(loss)
        rates.append(schedule.rate(epoch + 1))
        assert rates[-1] == pytest.approx(optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 3


def test_slippery_slope() -> None:
    schedule = build_schedule(SlipperyConfig(start=3, interval=2, rate=0.5), 1.0, 10)
    assert [schedule.rate(epoch) for epoch in range(8)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_cosine_rises_then_falls_to_its_end() -> None:
    schedule = build_schedule(CosineConfig(warmup_epochs=4, final=0.01), 1.0, 105)
    rates = [schedule.rate(epoch) for epoch in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[54] == pytest.approx(0.505)
    assert rates[-1] == pytest.approx(0.01)


def test_linear_goes_by_step() -> None:
    schedule = build_schedule(LinearConfig(warmup_steps=4, final=0.1), 1.0, 5)
    rates = [schedule.rate(epoch, step, 4) for epoch in range(5) for step in range(4)]
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert np.diff(rates[4:]) == pytest.approx([-0.9 / 16] * 15)
    assert rates[-1] == pytest.approx(0.1 + 0.9 / 16)


def test_warm_up_longer_than_the_training() -> None:
    schedule = build_schedule(CosineConfig(warmup_epochs=10), 1.0, 3)
    assert [schedule.rate(epoch) for epoch in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_decay_multiplies_all_later_rates() -> None:
    for config in (ConstantConfig(), CosineConfig(), LinearConfig(warmup_steps=5), SlipperyConfig(), PlateauConfig()):
        schedule = build_schedule(config, 1.0, 100)
        before = schedule.rate(50)
        schedule.decay(0.8)
        assert schedule.rate(50) == pytest.approx(0.8 * before)


def test_state_is_plain_and_complete_without_the_configuration() -> None:
    schedule = build_schedule(PlateauConfig(patience=1), 1.0, 100)
    for loss in (1.0, 1.1, 1.2, 1.3):
        schedule.step(loss)
    state = schedule.state_dict()
    assert all(isinstance(value, float | int) and math.isfinite(value) for value in state.values())
    other = Plateau(PlateauConfig(patience=1), 5.0)
    other.load_state_dict(state)
    for loss in (1.3, 1.3, 1.3):
        schedule.step(loss)
        other.step(loss)
    assert other.state_dict() == schedule.state_dict()
    # A longer training has another cosine: its length comes from the configuration, not from the state.
    longer = build_schedule(CosineConfig(), 1.0, 200)
    longer.load_state_dict(build_schedule(CosineConfig(), 1.0, 100).state_dict())
    assert longer.rate(99) > 0.4
