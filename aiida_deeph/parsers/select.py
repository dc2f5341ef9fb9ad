"""Which structures to label next."""

from __future__ import annotations

from aiida.engine import ExitCode

from aiida_deeph.calculations.select import OUTPUT
from aiida_deeph.parsers.base import EngineParser


class SelectParser(EngineParser):
    """The choice, and what the model expects of every structure."""

    UNITS = {"expected_mae_eV": "eV", "largest_expected_error_eV": "eV", "seconds": "s"}

    def attach(self) -> ExitCode | None:
        self.out_parameters(self.read_json(OUTPUT))
        return None
