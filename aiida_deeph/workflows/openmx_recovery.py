"""What is done when an OpenMX run fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessHandlerReport, process_handler

from aiida_deeph.engine.dft.keywords import flat, grouped
from aiida_deeph.workflows.recovery import OUT_OF_WALLTIME, ScfRecoveryMixin

# A density that is further off (NormRD) is worse to start from than one of free atoms.
MAX_RESIDUAL = 0.1
# Mixing that is more careful needs at least so many cycles.
MIN_CYCLES = 100


class OpenmxRecoveryMixin(ScfRecoveryMixin):
    """Mixing in smaller steps with a longer memory; a run starts from the density of the one before where there is one.

    OpenMX writes its density when the SCF loop is over, converged or not.
    """

    not_converged = (410,)
    out_of_walltime = (420,)
    incomplete = (400,)

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles and a longer history for Pulay's mixing; then smaller steps before it begins, and 600 K."""
        if attempt > 2:
            return None
        parameters = flat(parameters)
        changes = {
            "scf.maxIter": max(2 * keyword(parameters, "scf.maxIter", 40), MIN_CYCLES),
            "scf.Mixing.Type": "Rmm-Diisk",
            "scf.Max.Mixing.Weight": min(keyword(parameters, "scf.Max.Mixing.Weight", 0.4), 0.1 / attempt),
            "scf.Mixing.History": max(keyword(parameters, "scf.Mixing.History", 5), 30),
        }
        if attempt == 2:
            changes |= {
                "scf.Init.Mixing.Weight": min(keyword(parameters, "scf.Init.Mixing.Weight", 0.3), 0.01),
                "scf.Min.Mixing.Weight": min(keyword(parameters, "scf.Min.Mixing.Weight", 0.001), 0.001),
                "scf.Mixing.StartPulay": max(keyword(parameters, "scf.Mixing.StartPulay", 6), 20),
                "scf.ElectronicTemperature": max(keyword(parameters, "scf.ElectronicTemperature", 300.0), 600.0),
            }
        return grouped(with_keywords(parameters, changes))

    @process_handler(priority=600)
    def choose_start(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Start the next try from the density of this one if it is there and not too bad; decides nothing else."""
        if node.exit_status in (*self.not_converged, *self.out_of_walltime, OUT_OF_WALLTIME):
            if has_density(node):
                self.ctx.inputs["restart_folder"] = node.outputs.remote_folder
            else:
                self.ctx.inputs.pop("restart_folder", None)
        return None


def has_density(node: orm.CalcJobNode) -> bool:
    """Whether a run left a density worth starting from."""
    if "output_parameters" not in node.outputs or "remote_folder" not in node.outputs:
        return False
    results = node.outputs.output_parameters.get_dict()
    residuals = results.get("scf_history", {}).get("residual") or [1.0]
    return bool(results.get("scf_ended")) and residuals[-1] < MAX_RESIDUAL


def keyword(parameters: Mapping[str, Any], name: str, default: Any) -> Any:
    """Value of a keyword, whose case does not matter."""
    return next((value for key, value in parameters.items() if key.lower() == name.lower()), default)


def with_keywords(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with some keywords replaced, in whatever case they were written."""
    names = {name.lower() for name in changes}
    return {**{key: value for key, value in parameters.items() if key.lower() not in names}, **changes}
