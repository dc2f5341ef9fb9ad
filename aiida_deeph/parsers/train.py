"""The training: best model, history, report, whatever its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import ArrayData

from aiida_deeph.calculations.metrics import parse_rows
from aiida_deeph.calculations.train import METRICS_FILE, MODEL, REPORT_FILE
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.parsers.base import EngineParser, InvalidOutputError, MissingOutputError

UNITS = {
    "train_loss": "eV^2",
    "train_mae": "eV",
    "validation_loss": "eV^2",
    "validation_mae": "eV",
    "seconds": "s",
}


class TrainParser(EngineParser):
    """Attaches the best model and the history also of a training that was interrupted, diverged or was killed."""

    MESSAGES = (("no checkpoint to continue from|checkpoint is damaged", "ERROR_NO_CHECKPOINT"),)
    UNITS = {"best_validation_loss": "eV^2", "best_validation_mae": "eV", "seconds": "s"}

    def attach(self) -> ExitCode | None:
        rows = parse_rows(self._text(METRICS_FILE) or "")
        if rows:
            self.out("history", history(rows))
        model_is_missing = False
        try:
            self.out("model", DeepHModelData(self.temporary_folder(MODEL)))
        except MissingOutputError:
            model_is_missing = True
        except DeepHError:
            # Its weights and their description are two files: a kill between them is survived by the checkpoint.
            if self._text(REPORT_FILE) is not None:
                raise
        report = self.read_json(REPORT_FILE)
        self.out_parameters(report)
        status = report.get("status")
        if status == "interrupted":
            return self.exit_codes.ERROR_INTERRUPTED.format(epoch=report.get("epochs"))
        if status == "diverged":
            return self.exit_codes.ERROR_DIVERGED.format(message=report.get("reason"))
        if status != "finished":
            raise InvalidOutputError(
                f"{REPORT_FILE}: found status {status!r}, expected finished, interrupted or diverged"
            )
        if model_is_missing:
            raise MissingOutputError(MODEL)
        return None


def history(rows: list[dict[str, Any]]) -> ArrayData:
    """One array per key of the epochs, shape (n_epochs,); NaN where an epoch has no value."""
    node = ArrayData()
    keys = [key for key in rows[0] if all(isinstance(row.get(key), int | float | None) for row in rows)]
    for key in keys:
        values = [row.get(key) for row in rows]
        node.set_array(key, np.array([np.nan if value is None else value for value in values]))
    node.base.attributes.set("units", {key: UNITS[key] for key in keys if key in UNITS})
    return node
