"""A predicted Hamiltonian."""

from __future__ import annotations

from aiida.engine import ExitCode

from aiida_deeph.calculations.predict import OUTPUT, REPORT_FILE
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.parsers.base import EngineParser


class PredictParser(EngineParser):
    """Attaches the report, and the DeepH folder if it was to be retrieved."""

    UNITS = {"seconds": "s", "network_seconds": "s", "peak_memory_GiB": "GiB"}

    def attach(self) -> ExitCode | None:
        report = self.read_json(f"{OUTPUT}/{REPORT_FILE}")
        if self.node.inputs.retrieve.value:
            self.out("hamiltonian", HamiltonianData(self.temporary_folder(OUTPUT)))
        self.out_parameters(report)
        return None
