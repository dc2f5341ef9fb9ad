"""When a training must stop before its end: a signal from the scheduler, or its time limit."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """While entered, SIGTERM and SIGINT ask for a stop instead of ending the process; a second one does end it.

    Under torchrun no number of them ends it: a scheduler sends SIGTERM to all processes of a job and torchrun passes
    its own on, so that each process gets two while it writes the checkpoint. torchrun kills in the end.

    :param max_seconds: ask for a stop after so long, too; None has no limit.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._signal: int | None = None
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        # Python allows handlers in the main thread only; elsewhere the time limit alone applies.
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._former = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            self._restore()

    @property
    def reason(self) -> str | None:
        """Why to stop (`SIGTERM`, `SIGINT`, `max_seconds`), or None."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "max_seconds"
        return None
