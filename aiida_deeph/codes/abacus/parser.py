"""An ABACUS run: numbers or bands, and how it ended."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.common.exceptions import NotExistentAttributeError
from aiida.engine import ExitCode

from aiida_deeph.codes.abacus.calculation import BANDS_FILES, BANDS_LOG, SCF_LOG, WARNINGS_FILE, AbacusCalculation
from aiida_deeph.codes.parser import DftParser, where_it_ended
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.dft.abacus.code import OUTPUT_FOLDER
from aiida_deeph.engine.dft.abacus.eigenvalues import parse_bands
from aiida_deeph.engine.dft.abacus.input import order_of_atoms
from aiida_deeph.engine.dft.abacus.output import AbacusOutput, parse_output
from aiida_deeph.parsers.base import InvalidOutputError, MissingOutputError


class AbacusParser(DftParser):
    """Numbers from the log, complete or not; the bands of a run with `bands_kpoints`."""

    CALCULATION = AbacusCalculation
    MESSAGES = (
        (
            r"(?i:(couldn't|can't|cannot|can not|could not|failed to) (find|open).*(upf|orb\b|orbital|pseudo))",
            "ERROR_DATA_FILE_MISSING",
        ),
        (r"(?i:(number of orbitals|zeta|orbital file).*(wrong|not match|mismatch))", "ERROR_WRONG_ORBITALS"),
        (r"(?i:parameter.*(not used|unknown|not (recognized|supported)|error)|bad parameter)", "ERROR_INPUT_REFUSED"),
        (r"(?i:\bINPUT\b.*warning|warning.*\bINPUT\b|check in file|warning_quit)", "ERROR_INPUT_REFUSED"),
    )
    TALKATIVE = (f"{OUTPUT_FOLDER}/{WARNINGS_FILE}", AbacusCalculation.STDOUT_FILE)

    def attach(self) -> ExitCode | None:
        bands = "bands_kpoints" in self.node.inputs
        name = BANDS_LOG if bands else SCF_LOG
        log = self._text(f"{OUTPUT_FOLDER}/{name}")
        if log is None:
            return self.failure(f"{name} is missing")
        results = parse_output(log)
        if bands:
            return self._attach_bands(results)
        cycles = len(results.scf_energies)
        if cycles:
            self.out_parameters(self._summary(results))
        if not results.finished:
            return self.failure(where_it_ended(cycles, results.converged is not None))
        if not results.converged:
            last = f"last error of the density {results.scf_residuals[-1]:.1e}" if results.scf_residuals else ""
            return self.not_converged(cycles, last)
        return None

    def _summary(self, results: AbacusOutput) -> dict[str, Any]:
        """Numbers as they stand in `output_parameters`; forces in the order of the structure.

        `scf_ended` says whether there is a density to start from: ABACUS writes it when the SCF is over.
        """
        values = {
            "version": results.version,
            "converged": bool(results.converged),
            "scf_ended": results.converged is not None,
            "scf_cycles": len(results.scf_energies),
            "scf_history": {
                "energy": list(results.scf_energies),
                "residual": list(results.scf_residuals),
                "units": {"energy": "eV", "residual": "elementary charge"},
            },
            "energy": results.energy,
            "energy_contributions": results.energies or None,
            "fermi_energy": results.fermi_energy,
            "n_electrons": results.n_electrons,
            "total_spin_moment": None if results.moment is None else list(results.moment),
        }
        order = order_of_atoms(to_engine(self.node.inputs.structure))
        if len(results.forces) == len(order):
            forces = np.zeros((len(order), 3))
            forces[order] = results.forces
            values["forces"] = forces.tolist()
        return {key: value for key, value in values.items() if value is not None}

    def _attach_bands(self, results: AbacusOutput) -> ExitCode | None:
        texts = [
            [text for name in names if (text := self._text(f"{OUTPUT_FOLDER}/{name}")) is not None]
            for names in BANDS_FILES
        ]
        found = next((group for group in texts if group), [])
        if not results.finished or not found:
            return self.failure("the run ended before the bands" if not results.finished else "no file of bands")
        tables = [parse_bands(text) for text in found]
        n_spins = 2 if self.node.inputs.spin.value == "collinear" else 1
        if len(tables) != n_spins:
            raise MissingOutputError(f"{BANDS_FILES[0][1]} or {BANDS_FILES[1][1]}")
        count = len(self.node.inputs.bands_kpoints.get_kpoints())
        if any(table.shape != tables[0].shape or len(table) != count for table in tables):
            raise InvalidOutputError(f"bands: found {len(tables[0])} k-points, expected {count}")
        self.out_parameters({"version": results.version, "n_bands": tables[0].shape[1]})
        self.out_band(np.array(tables), self._fermi_energy())
        return None

    def _fermi_energy(self) -> float | None:
        """That of the SCF: the one of these k-points means nothing."""
        try:
            scf = self.node.inputs.restart_folder.creator.outputs.output_parameters
        except (AttributeError, NotExistentAttributeError):
            return None
        return scf.get("fermi_energy", None)
