"""What is done when an OpenMX run does not converge."""

from __future__ import annotations

from typing import Any

from aiida_deeph.engine.dft.openmx.keywords import TABLE
from aiida_deeph.processes.recovery import DensityRestartMixin

# Mixing that is more careful needs at least so many cycles.
MIN_CYCLES = 100


class OpenmxRecoveryMixin(DensityRestartMixin):
    """Mixing in smaller steps with a longer memory.

    OpenMX writes its density when the SCF loop is over, converged or not; its residual is NormRD.
    """

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles and a longer history for Pulay's mixing; then smaller steps before it begins, and 600 K."""
        if attempt > 2:
            return None

        def value(name: str, default: float) -> Any:
            return TABLE.value(parameters, name, default)

        changes = {
            "scf.maxIter": max(2 * value("scf.maxIter", 40), MIN_CYCLES),
            "scf.Mixing.Type": "Rmm-Diisk",
            "scf.Max.Mixing.Weight": min(value("scf.Max.Mixing.Weight", 0.4), 0.1 / attempt),
            "scf.Mixing.History": max(value("scf.Mixing.History", 5), 30),
        }
        if attempt == 2:
            changes |= {
                "scf.Init.Mixing.Weight": min(value("scf.Init.Mixing.Weight", 0.3), 0.01),
                "scf.Min.Mixing.Weight": min(value("scf.Min.Mixing.Weight", 0.001), 0.001),
                "scf.Mixing.StartPulay": max(value("scf.Mixing.StartPulay", 6), 20),
                "scf.ElectronicTemperature": max(value("scf.ElectronicTemperature", 300.0), 600.0),
            }
        return TABLE.replaced(parameters, changes)
