"""What a training leaves behind for people and parsers: progress, `metrics.jsonl`, `train.json`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiida_deeph.engine.io.files import write_text_atomic

METRICS_FILE = "metrics.jsonl"
REPORT_FILE = "train.json"


def write_json_atomic(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the whole file or the former one. NaN is refused."""
    write_text_atomic(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


class MetricsFile:
    """`metrics.jsonl`: one line of JSON per epoch, complete at any moment.

    :param rows: epochs of the run that is continued; they are written first.
    """

    def __init__(self, path: Path, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        for row in rows:
            self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one epoch. NaN and infinity, which JSON does not know, become null."""
        clean = {k: None if isinstance(v, float) and not abs(v) < float("inf") else v for k, v in row.items()}
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing is written any more."""
        self._file.close()


class EpochPrinter:
    """Epochs as they end: a bar on a terminal, else plain lines on stdout, at most one per `interval` seconds.

    :param epochs: number of the last epoch.
    :param first: epochs that are done already.
    """

    def __init__(self, epochs: int, first: int = 0, *, interval: float = 1.0, quiet: bool = False) -> None:
        self._epochs, self._first, self._interval, self._quiet = epochs, first, interval, quiet
        self._start = time.monotonic()
        self._last_print = float("-inf")
        self._pending: str | None = None
        console = Console(stderr=True)
        self._on_terminal = console.is_terminal and not quiet
        columns = (
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description} ETA"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not self._on_terminal)
        self._task = self._bar.add_task("", total=epochs, completed=first)
        self._bar.start()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Show one epoch: a row of `metrics.jsonl`."""
        note = (
            f"loss {row['train_loss']:.3e} val {row['validation_loss']:.3e} eV^2 "
            f"MAE {1000 * row['validation_mae']:.2f} meV lr {row['learning_rate']:.2e}"
        )
        self._bar.update(self._task, advance=1, description=note)
        if self._quiet or self._on_terminal:
            return
        done = row["epoch"] + 1
        elapsed = time.monotonic() - self._start
        left = elapsed / max(1, done - self._first) * (self._epochs - done)
        self._pending = f"epoch {done}/{self._epochs} {note} ETA {_clock(left)}"
        if time.monotonic() - self._last_print >= self._interval:
            self._flush()

    def _flush(self) -> None:
        if self._pending is not None:
            print(self._pending, flush=True)
            self._pending = None
            self._last_print = time.monotonic()

    def message(self, text: str) -> None:
        """One line among the epochs."""
        if not self._quiet:
            self._flush()
            print(text, flush=True)

    def close(self) -> None:
        """The last epoch is shown for certain."""
        self._flush()
        self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
