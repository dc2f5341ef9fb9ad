"""`metrics.jsonl` of a training, read while it grows: epochs, the time that is left, signs of divergence."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


def parse_rows(text: str) -> list[Row]:
    """The epochs; a last line that was cut is left out."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    :param epoch: epochs that are done.
    :param epochs: epochs that are wanted.
    :param train_loss, validation_loss: of the last epoch, eV^2; None where it is not finite.
    :param validation_mae: of the last epoch, eV.
    :param best_mae: the smallest of all epochs, eV.
    :param learning_rate: of the last epoch.
    :param seconds: spent so far, restarts included.
    :param seconds_left: until the last epoch, at the pace of the last ones.
    """

    epoch: int
    epochs: int
    train_loss: float | None
    validation_loss: float | None
    validation_mae: float | None
    best_mae: float | None
    learning_rate: float | None
    seconds: float
    seconds_left: float | None

    def line(self) -> str:
        """One line for people."""
        parts = [f"epoch {self.epoch}/{self.epochs}"]
        losses = (("loss", self.train_loss), ("val", self.validation_loss))
        parts += [f"{name} {value:.3e}" for name, value in losses if value is not None]
        if self.validation_loss is not None:
            parts[-1] += " eV^2"
        if self.validation_mae is not None and self.best_mae is not None:
            parts.append(f"MAE {1000 * self.validation_mae:.2f} meV (best {1000 * self.best_mae:.2f})")
        if self.learning_rate is not None:
            parts.append(f"lr {self.learning_rate:.2e}")
        if self.seconds_left is not None:
            parts.append(f"ETA {clock(self.seconds_left)}")
        return " ".join(parts)


def clock(seconds: float) -> str:
    """`H:MM:SS`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def progress(rows: Sequence[Row], epochs: int, recent: int = 20) -> Progress | None:
    """The last epoch; None before the first one has ended.

    :param epochs: epochs that are wanted.
    :param recent: epochs that the pace is taken from.
    """
    if not rows:
        return None
    last = rows[-1]
    done = int(last["epoch"]) + 1
    # One epoch alone holds the start-up too, but is all that is known.
    first = rows[-1 - recent] if len(rows) > recent else (rows[0] if len(rows) > 1 else {"epoch": -1, "seconds": 0.0})
    pace = (last["seconds"] - first["seconds"]) / (last["epoch"] - first["epoch"])
    maes = [row["validation_mae"] for row in rows if row.get("validation_mae") is not None]
    return Progress(
        epoch=done,
        epochs=epochs,
        **{name: last.get(name) for name in ("train_loss", "validation_loss", "validation_mae", "learning_rate")},
        best_mae=min(maes, default=None),
        seconds=last["seconds"],
        seconds_left=max(0.0, pace * (epochs - done)),
    )


def divergence(rows: Sequence[Row], factor: float, patience: int) -> str | None:
    """Why a training is lost, or None.

    :param factor: an epoch is bad when its validation loss exceeds so many times the best one before it.
    :param patience: so many bad epochs in a row are too many.
    """
    best, bad = math.inf, 0
    for row in rows:
        loss = row.get("validation_loss")
        if loss is None or row.get("train_loss") is None:
            return f"loss is not finite in epoch {row['epoch']}"
        bad = bad + 1 if loss > factor * best else 0
        best = min(best, loss)
    if bad < patience:
        return None
    loss = rows[-1]["validation_loss"]
    return (
        f"validation loss {loss:.3g} eV^2 in epoch {rows[-1]['epoch']}, more than {factor:g} times the best "
        f"({best:.3g} eV^2) for {bad} epochs"
    )
