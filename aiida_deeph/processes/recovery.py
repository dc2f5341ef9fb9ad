"""What is done when a DFT job fails, the same for every code."""

from __future__ import annotations

from typing import Any, ClassVar

from aiida import orm
from aiida.engine import ProcessHandlerReport, ProcessSpec, WorkChain, process_handler

from aiida_deeph.calculations.space import found_no_space
from aiida_deeph.processes.resumable import ResumableRestartMixin

# Verdicts of the scheduler that say nothing about the input: the same job may well succeed at the next try. A cancelled
# SLURM job has no verdict at all, only missing output, which each code's plugin reports in its own way.
OUT_OF_WALLTIME = 120
RETRYABLE = (100, 140)


# What a job ends with whose machine had no room for it, and where nothing smaller can be tried: the same job may well
# succeed once there is some.
NO_SPACE, OUT_OF_MEMORY = 440, 430
NO_ROOM = {NO_SPACE: "no space left", OUT_OF_MEMORY: "out of memory"}


def pause_for_room(process: WorkChain, node: orm.CalcJobNode) -> None:
    """Pause a process whose job found no room on its machine: what would be submitted next would only fail too.

    Once there is room, `verdi process play` lets the process go on, and the caller runs the job again.
    """
    assert node.computer is not None
    # Not to be taken from the cache by anyone.
    node.base.caching.is_valid_cache = False
    what, where = NO_ROOM.get(node.exit_status or 0, NO_ROOM[NO_SPACE]), node.computer.label
    process.report(
        f"{what} for {node.process_label}<{node.pk}> on {where}: make room there, then "
        f"`verdi process play {process.node.pk}`"
    )
    process.pause(f"{what} on {where}")


class ScfRecoveryMixin(ResumableRestartMixin):
    """For subclasses of BaseRestartWorkChain whose job is an SCF: its handlers.

    The class names the exit statuses of its job that mean `SCF not converged`, `out of walltime` (besides the
    scheduler's own), `incomplete, try again` and `disk full`, and says in `improve_scf` what is tried when an SCF does
    not converge.
    """

    not_converged: ClassVar[tuple[int, ...]] = ()
    out_of_walltime: ClassVar[tuple[int, ...]] = ()
    incomplete: ClassVar[tuple[int, ...]] = ()
    no_space: ClassVar[tuple[int, ...]] = ()
    max_retries: ClassVar[int] = 2

    @classmethod
    def define_recovery(cls, spec: ProcessSpec) -> None:
        """Exit codes of a job that is given up."""
        spec.exit_code(
            310, "ERROR_SCF_NOT_CONVERGED", message="The SCF cycle did not converge, whatever was tried: {reason}"
        )
        spec.exit_code(320, "ERROR_JOB_FAILED", message="The job failed again after all retries: {reason}")

    def reset_recovery(self) -> None:
        """Nothing tried so far; called by `setup`."""
        self.ctx.scf_attempts = 0
        self.ctx.retries = 0

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """Parameters that make the SCF easier to converge at the n-th attempt, None when nothing is left to try."""
        raise NotImplementedError

    @classmethod
    def is_unconverged(cls, node: orm.CalcJobNode) -> bool:
        """Whether the SCF of a job did not converge."""
        return node.exit_status in cls.not_converged

    @process_handler(priority=500)
    def handle_not_converged(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """SCF not converged: more cycles, smaller steps, in the end some smearing."""
        if not self.is_unconverged(node):
            return None
        self.ctx.scf_attempts += 1
        improved = self.improve_scf(self.ctx.inputs["parameters"].get_dict(), self.ctx.scf_attempts)
        if improved is None:
            failed = self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(reason=self.why(node))
            return ProcessHandlerReport(True, failed)
        self.ctx.inputs["parameters"] = orm.Dict(improved)
        self.report(f"SCF not converged: attempt {self.ctx.scf_attempts} with changed parameters")
        return ProcessHandlerReport(True)

    @process_handler(priority=400)
    def handle_walltime(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Out of walltime: twice the time."""
        if node.exit_status not in (OUT_OF_WALLTIME, *self.out_of_walltime):
            return None
        options = self.ctx.inputs["metadata"]["options"]
        if "max_wallclock_seconds" in options:
            options["max_wallclock_seconds"] *= 2
        return self._retry(node, "out of walltime")

    @process_handler(priority=350)
    def handle_no_space(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Disk full: wait until somebody has made room."""
        if node.exit_status not in self.no_space and not found_no_space(node):
            return None
        pause_for_room(self, node)
        return ProcessHandlerReport(True)

    @process_handler(priority=300)
    def handle_retryable(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Node failure, cancelled or cut off: the same job once more."""
        if node.exit_status not in (*RETRYABLE, *self.incomplete):
            return None
        return self._retry(node, f"exit status {node.exit_status}")

    def _retry(self, node: orm.CalcJobNode, reason: str) -> ProcessHandlerReport:
        self.ctx.retries += 1
        if self.ctx.retries > self.max_retries:
            return ProcessHandlerReport(True, self.exit_codes.ERROR_JOB_FAILED.format(reason=self.why(node)))
        self.report(f"{reason}: retry {self.ctx.retries} of {self.max_retries}")
        # Plugins of others let AiiDA take a job that was cut off from the cache: the retry would fail the same way.
        self.ctx.inputs["metadata"]["disable_cache"] = True
        return ProcessHandlerReport(True)


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
