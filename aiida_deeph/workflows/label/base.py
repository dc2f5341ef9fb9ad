"""The common interface of all DFT codes: one structure in, its raw H(R) and S(R) in a remote folder out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from aiida import orm
from aiida.engine import (
    BaseRestartWorkChain,
    ProcessBuilder,
    ProcessHandlerReport,
    ProcessSpec,
    process_handler,
    while_,
)

from aiida_deeph.engine.errors import InputError
from aiida_deeph.workflows.builder import filled_builder
from aiida_deeph.workflows.options import scheduler_options
from aiida_deeph.workflows.protocol import ProtocolMixin, merge
from aiida_deeph.workflows.resumable import ResumableRestartMixin

# Verdicts of the scheduler that say nothing about the input: the same job may well succeed at the next try. A cancelled
# SLURM job has no verdict at all, only missing output, which each code's plugin reports in its own way.
OUT_OF_WALLTIME = 120
RETRYABLE = (100, 140)


def kmesh_for(
    structure: orm.StructureData, width: float, repeated: tuple[int, int, int] = (1, 1, 1)
) -> tuple[int, int, int]:
    """Smallest odd Gamma-centred mesh whose supercell is wider than `width` (Angstrom) along each periodic direction.

    H(R) is complete only if the supercell of the mesh exceeds twice the range of H; an odd mesh has R and -R alike.

    :param repeated: the structure is repeated so often along its lattice vectors before it is labelled.
    """
    heights = np.array(repeated) / np.linalg.norm(np.linalg.inv(np.array(structure.cell)), axis=0)
    counts = [
        math.ceil(width / h - 1e-9) if periodic else 1 for h, periodic in zip(heights, structure.pbc, strict=True)
    ]
    mesh = [max(1, n + (n + 1) % 2) for n in counts]
    return mesh[0], mesh[1], mesh[2]


def validate_code(code: orm.AbstractCode, plugin: str) -> str | None:
    """Message if the code runs another plugin."""
    default = code.default_calc_job_plugin
    wanted = plugin.split(".")[0]
    if (default is None and wanted == "deeph") or (default is not None and default.split(".")[0] != wanted):
        return f"code {code.full_label} runs the plugin `{default}`, expected one of `{wanted}`: choose another code"
    return None


class LabelWorkChain(ProtocolMixin, ResumableRestartMixin, BaseRestartWorkChain):
    """Label one structure by DFT; a subclass per code.

    A subclass names its CalcJob (`_process_class`), its plugin, the reader of its raw output, the exit statuses that
    mean `SCF not converged` and `incomplete, try again`, and translates the common inputs (`job_inputs`, `improve_scf`,
    `overlap_basis`, `missing_elements`).
    """

    plugin: ClassVar[str]
    reader: ClassVar[str]
    not_converged: ClassVar[tuple[int, ...]] = ()
    incomplete: ClassVar[tuple[int, ...]] = ()
    max_retries: ClassVar[int] = 2

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("structure", valid_type=orm.StructureData, help="The structure to label.")
        spec.input("code", valid_type=orm.AbstractCode, help="The DFT code.")
        spec.input(
            "parameters", valid_type=orm.Dict, serializer=orm.to_aiida_type, help="Settings in the words of the code."
        )
        spec.input(
            "kpoints",
            valid_type=orm.KpointsData,
            help="Gamma-centred k-mesh of the SCF; its supercell must exceed the range of H.",
        )
        spec.input(
            "bands_kpoints",
            valid_type=orm.KpointsData,
            required=False,
            help="k-points of a band structure from the converged potential.",
        )
        spec.input_namespace(
            "files",
            valid_type=orm.SinglefileData,
            dynamic=True,
            required=False,
            help="Files that the code reads (basis sets, pseudopotentials).",
        )
        spec.input(
            "options",
            valid_type=dict,
            is_metadata=True,
            required=False,
            help="Options of the job: resources, walltime, ...",
        )
        spec.inputs.validator = cls._validate
        spec.outline(cls.setup, while_(cls.should_run_process)(cls.run_process, cls.inspect_process), cls.results)
        spec.output("remote_folder", valid_type=orm.RemoteData, help="Where the raw output lies.")
        spec.output("output_parameters", valid_type=orm.Dict, help="Energy, Fermi level, convergence.")
        spec.output("output_band", valid_type=orm.BandsData, required=False, help="Bands at `bands_kpoints`, eV.")
        spec.output("structure", valid_type=orm.StructureData, help="The structure as it was labelled.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_SCF_NOT_CONVERGED", message="The SCF cycle did not converge, whatever was tried.")
        spec.exit_code(320, "ERROR_JOB_FAILED", message="The job failed again after all retries.")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        if cls._process_class is None or "code" not in inputs:
            return None
        message = validate_code(inputs["code"], cls.plugin)
        if message is None and "structure" in inputs and "parameters" in inputs:
            missing = cls.missing_elements(inputs["structure"].get_symbols_set(), inputs["parameters"].get_dict())
            if missing:
                message = f"element without basis: {', '.join(missing)}; choose another basis in `parameters`"
        return message

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements that the basis named in the parameters does not hold."""
        return []

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The basis in the words of `deeph-engine overlap`."""
        raise NotImplementedError

    def job_inputs(self) -> dict[str, Any]:
        """Inputs of the CalcJob from the common inputs, without code and metadata."""
        raise NotImplementedError

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """Parameters that make the SCF easier to converge at the n-th attempt, None when nothing is left to try."""
        raise NotImplementedError

    def is_unconverged(self, node: orm.CalcJobNode) -> bool:
        """Whether the SCF of a job did not converge."""
        return node.exit_status in self.not_converged

    def setup(self) -> None:
        """Prepare the inputs of the first job."""
        super().setup()
        options = scheduler_options(self.inputs.get("options", {}), self.inputs.code)
        self.ctx.inputs = {**self.job_inputs(), "code": self.inputs.code, "metadata": {"options": options}}
        self.ctx.scf_attempts = 0
        self.ctx.retries = 0

    @process_handler(priority=500)
    def handle_not_converged(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """SCF not converged: more cycles, smaller steps, in the end some smearing."""
        if not self.is_unconverged(node):
            return None
        self.ctx.scf_attempts += 1
        improved = self.improve_scf(self.ctx.inputs["parameters"].get_dict(), self.ctx.scf_attempts)
        if improved is None:
            return ProcessHandlerReport(True, self.exit_codes.ERROR_SCF_NOT_CONVERGED)
        self.ctx.inputs["parameters"] = orm.Dict(improved)
        self.report(f"SCF not converged: attempt {self.ctx.scf_attempts} with changed parameters")
        return ProcessHandlerReport(True)

    @process_handler(priority=400)
    def handle_walltime(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Out of walltime: twice the time."""
        if node.exit_status != OUT_OF_WALLTIME:
            return None
        options = self.ctx.inputs["metadata"]["options"]
        if "max_wallclock_seconds" in options:
            options["max_wallclock_seconds"] *= 2
        return self._retry("out of walltime")

    @process_handler(priority=300)
    def handle_retryable(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Node failure, cancelled or cut off: the same job once more."""
        if node.exit_status not in (*RETRYABLE, *self.incomplete):
            return None
        return self._retry(f"exit status {node.exit_status}")

    def _retry(self, reason: str) -> ProcessHandlerReport:
        self.ctx.retries += 1
        if self.ctx.retries > self.max_retries:
            return ProcessHandlerReport(True, self.exit_codes.ERROR_JOB_FAILED)
        self.report(f"{reason}: retry {self.ctx.retries} of {self.max_retries}")
        # Plugins of others let AiiDA take a job that was cut off from the cache: the retry would fail the same way.
        self.ctx.inputs["metadata"]["disable_cache"] = True
        return ProcessHandlerReport(True)

    def get_outputs(self, node: orm.CalcJobNode) -> dict[str, orm.Node]:
        """Outputs of the job under the common names, and the structure."""
        return {**{name: node.outputs[name] for name in node.outputs}, "structure": self.inputs.structure}

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        bands_kpoints: orm.KpointsData | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :raises InputError: an unknown protocol or override, a code of another plugin, an element without basis.
        """
        values = cls.label_inputs(code, [structure], protocol, overrides, options)
        return filled_builder(cls, {**values, "structure": structure, "bands_kpoints": bands_kpoints})

    @classmethod
    def label_inputs(
        cls,
        code: orm.AbstractCode,
        structures: Sequence[orm.StructureData],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        where: str = "overrides",
        elements: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Inputs of a protocol without the structure, as plain values and nodes: what all labels of a dataset share.

        :param structures: all that are to be labelled; the k-mesh is dense enough for each of them.
        :param supercell: repetitions of each structure before it is labelled.
        :param elements: what the labelled cells may hold besides the elements of `structures`.
        :raises InputError: an unknown protocol or override, a code of another plugin, an element without basis.
        """
        message = validate_code(code, cls.plugin)
        if message:
            raise InputError(message)
        inputs = cls.get_protocol_inputs(protocol, overrides, where)
        width, _ = inputs.pop("kpoints_supercell"), inputs.pop("pair_cutoff", None)
        meshes = [kmesh_for(structure, width, supercell) for structure in structures]
        inputs.setdefault("kpoints", [max(counts) for counts in zip(*meshes, strict=True)])
        symbols = {symbol for structure in structures for symbol in structure.get_symbols_set()} | set(elements)
        inputs["parameters"] = cls.complete_parameters(plain(inputs["parameters"]), symbols)
        inputs["options"] = scheduler_options(merge(inputs.get("options", {}), options), code)
        missing = cls.missing_elements(symbols, inputs["parameters"])
        if missing:
            raise InputError(
                "element without basis",
                where="label.parameters",
                found=", ".join(missing),
                remedy="choose a basis that holds it",
            )
        return {**inputs, "code": code}

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """Parameters with what the code needs per element."""
        return parameters


def plain(parameters: Any) -> dict[str, Any]:
    """A Dict or a mapping as a new dictionary."""
    return parameters.get_dict() if isinstance(parameters, orm.Dict) else dict(parameters)
