"""What is done when the run of a DFT program with a plugin of our own fails."""

from __future__ import annotations

from typing import ClassVar

from aiida import orm
from aiida.engine import ProcessHandlerReport, process_handler

from aiida_deeph.workflows.recovery import OUT_OF_WALLTIME, ScfRecoveryMixin


class DensityRestartMixin(ScfRecoveryMixin):
    """A run starts from the density of the one before where there is one; exit statuses are those of DftCalculation."""

    not_converged = (410,)
    out_of_walltime = (420,)
    incomplete = (400,)
    no_space = (440,)
    # A density that is further off than this residual of the SCF is worse to start from than one of free atoms.
    max_residual: ClassVar[float] = 0.1

    @process_handler(priority=600)
    def choose_start(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Start the next try from the density of this one if it is there and not too bad; decides nothing else."""
        if node.exit_status in (*self.not_converged, *self.out_of_walltime, OUT_OF_WALLTIME):
            if self.has_density(node):
                self.ctx.inputs["restart_folder"] = node.outputs.remote_folder
            else:
                self.ctx.inputs.pop("restart_folder", None)
        return None

    @classmethod
    def has_density(cls, node: orm.CalcJobNode) -> bool:
        """Whether a run left a density worth starting from."""
        if "output_parameters" not in node.outputs or "remote_folder" not in node.outputs:
            return False
        results = node.outputs.output_parameters.get_dict()
        residuals = results.get("scf_history", {}).get("residual") or [float("inf")]
        return bool(results.get("scf_ended")) and residuals[-1] < cls.max_residual
