"""Optimiser, and learning rate by epoch or step: plain numbers, so that a checkpoint holds a schedule exactly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import nn

from aiida_deeph.engine.training.config import (
    ConstantConfig,
    CosineConfig,
    LinearConfig,
    PlateauConfig,
    Scheduler,
    SlipperyConfig,
    TrainConfig,
)

State = dict[str, float | int | None]


class Schedule(ABC):
    """The learning rate of each epoch.

    :param learning_rate: the configured one.
    """

    #: The training may stop when the rate has fallen below `min_learning_rate`.
    ends_training = True

    def __init__(self, learning_rate: float) -> None:
        self.base = learning_rate

    @abstractmethod
    def rate(self, epoch: int, step: int = 0, n_steps: int = 1) -> float:
        """Learning rate of a step of an epoch, both counted from 0.

        :param n_steps: of each epoch.
        """

    def step(self, validation_loss: float) -> None:  # noqa: B027  (most schedules look at the epoch alone)
        """Take note of the validation loss of the epoch that has ended."""

    def decay(self, factor: float) -> None:
        """Multiply the rate of all later epochs (after a return to the best weights)."""
        self.base *= factor

    def state_dict(self) -> State:
        """All numbers that change; those of the configuration are private and stay out."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def load_state_dict(self, state: State) -> None:
        """Continue where `state_dict` was taken."""
        vars(self).update(state)


class Constant(Schedule):
    """Scheduler type 0 of the reference."""

    def rate(self, epoch: int, step: int = 0, n_steps: int = 1) -> float:
        return self.base


class Slippery(Schedule):
    """Multiply by `rate` at epoch `start` and every `interval` epochs after: scheduler type 2 of the reference."""

    def __init__(self, config: SlipperyConfig, learning_rate: float) -> None:
        super().__init__(learning_rate)
        self._config = config

    def rate(self, epoch: int, step: int = 0, n_steps: int = 1) -> float:
        steps = 0 if epoch < self._config.start else 1 + (epoch - self._config.start) // self._config.interval
        return self.base * self._config.rate**steps


class Cosine(Schedule):
    """Linear warm-up, then half a cosine from 1 to `final` at the last epoch."""

    ends_training = False

    def __init__(self, config: CosineConfig, learning_rate: float, epochs: int) -> None:
        super().__init__(learning_rate)
        self._config = config
        self._epochs = epochs

    def rate(self, epoch: int, step: int = 0, n_steps: int = 1) -> float:
        warmup = min(self._config.warmup_epochs, self._epochs - 1)
        if epoch < warmup:
            return self.base * (epoch + 1) / (warmup + 1)
        progress = min(1.0, (epoch - warmup) / max(1, self._epochs - 1 - warmup))
        return self.base * (self._config.final + (1 - self._config.final) * 0.5 * (1 + math.cos(math.pi * progress)))


class Linear(Schedule):
    """By step: linear warm-up from 0 at the first one, then a line to `final` at the end of the last one."""

    ends_training = False

    def __init__(self, config: LinearConfig, learning_rate: float, epochs: int) -> None:
        super().__init__(learning_rate)
        self._config = config
        self._epochs = epochs

    def rate(self, epoch: int, step: int = 0, n_steps: int = 1) -> float:
        done, warmup, final = epoch * n_steps + step, self._config.warmup_steps, self._config.final
        if done < warmup:
            return self.base * done / warmup
        left = 1 - (done - warmup) / max(1, self._epochs * n_steps - warmup)
        return self.base * (final + (1 - final) * left)


class Plateau(Schedule):
    """Reduce when the smoothed validation loss s <- a v + (1 - a) s stands still: scheduler type 1 of the reference.

    The counting is that of torch's ReduceLROnPlateau (mode min, relative threshold).
    """

    def __init__(self, config: PlateauConfig, learning_rate: float) -> None:
        super().__init__(learning_rate)
        self._config = config
        self.smoothed: float | None = None
        self.best = math.inf
        self.bad_epochs = 0
        self.cooldown_left = 0

    def rate(self, epoch: int, step: int = 0, n_steps: int = 1) -> float:
        return self.base

    def step(self, validation_loss: float) -> None:
        config = self._config
        last = validation_loss if self.smoothed is None else self.smoothed
        self.smoothed = config.smoothing * validation_loss + (1 - config.smoothing) * last
        if self.smoothed < self.best * (1 - config.threshold):
            self.best = self.smoothed
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad_epochs = 0
        if self.bad_epochs > config.patience:
            self.base *= config.factor
            self.cooldown_left = config.cooldown
            self.bad_epochs = 0

    def decay(self, factor: float) -> None:
        super().decay(factor)
        self.cooldown_left = self._config.cooldown
        self.bad_epochs = 0


def build_schedule(config: Scheduler, learning_rate: float, epochs: int) -> Schedule:
    """The schedule that a configuration names.

    :param epochs: length of the whole training.
    """
    match config:
        case PlateauConfig():
            return Plateau(config, learning_rate)
        case SlipperyConfig():
            return Slippery(config, learning_rate)
        case CosineConfig():
            return Cosine(config, learning_rate, epochs)
        case LinearConfig():
            return Linear(config, learning_rate, epochs)
        case ConstantConfig():
            return Constant(learning_rate)


def build_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a configuration names."""
    kind = torch.optim.AdamW if config.optimizer.name == "adamw" else torch.optim.Adam
    parameters = [p for p in network.parameters() if p.requires_grad]
    return kind(
        parameters,
        lr=config.learning_rate,
        betas=config.optimizer.betas,
        eps=config.optimizer.eps or network.adam_eps,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
