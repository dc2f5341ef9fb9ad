"""Errors of a model on a dataset."""

from __future__ import annotations

from aiida.engine import ExitCode
from aiida.orm import Dict

from aiida_deeph.calculations.evaluate import OUTPUT
from aiida_deeph.parsers.base import EngineParser


class EvaluateParser(EngineParser):
    """Plain values of `evaluate.json` become output_parameters, its tables the node `errors`."""

    UNITS = {"mae_eV": "eV", "max_eV": "eV", "bands_mean_eV": "eV", "bands_max_eV": "eV", "seconds": "s"}

    def attach(self) -> ExitCode | None:
        values = self.read_json(OUTPUT)
        tables = {key: value for key, value in values.items() if isinstance(value, dict | list)}
        self.out("errors", Dict(tables))
        self.out_parameters({key: value for key, value in values.items() if key not in tables})
        return None
