"""The common interface of all DFT codes: one structure in, its raw H(R) and S(R) in a remote folder out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from aiida import orm
from aiida.engine import (
    BaseRestartWorkChain,
    CalcJob,
    Process,
    ProcessBuilder,
    ProcessHandlerReport,
    ProcessSpec,
    process_handler,
    while_,
)

from aiida_deeph.calculations.program import ProgramCalcJob, with_program
from aiida_deeph.calculations.space import found_no_space
from aiida_deeph.calculations.validation import runs_engine
from aiida_deeph.codes.proof import Run
from aiida_deeph.engine.dft.record import CodeRecord
from aiida_deeph.engine.domain.kpoints import mesh_for_width
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.processes.builder import filled_builder
from aiida_deeph.processes.folders import label_options, missing_files, validate_stash
from aiida_deeph.processes.options import scheduler_options
from aiida_deeph.processes.ports import named_inputs
from aiida_deeph.processes.protocol import ProtocolMixin, merge
from aiida_deeph.processes.recovery import ScfRecoveryMixin, pause_for_room
from aiida_deeph.processes.resumable import ResumableRestartMixin


def validate_code(code: orm.AbstractCode, plugin: str | None, aliases: Sequence[str] = ()) -> str | None:
    """Message if the code runs another plugin; all commands of the engine are one program.

    :param aliases: plugins of others whose codes are the same program.
    """
    default = code.default_calc_job_plugin
    engine = runs_engine(plugin)
    if runs_engine(default) if engine else default in (None, plugin, *aliases):
        return None
    wanted = "deeph" if engine else plugin
    return f"code {code.full_label} runs the plugin `{default}`, expected one of `{wanted}`: choose another code"


class LabelWorkChain(ProtocolMixin, ScfRecoveryMixin, ResumableRestartMixin, BaseRestartWorkChain):
    """Label one structure by DFT; a subclass per code.

    A subclass names its CalcJob (`_process_class`), the record of the code and the exit statuses of the job (see
    `ScfRecoveryMixin`), and translates the common inputs (`job_inputs`, `improve_scf`, `overlap_basis`,
    `missing_elements`).

    A dataset submits the first job of a label by itself, a process less for each label that needs no recovery; only
    where it fails, this workchain goes on from it. Whatever makes the inputs of a job reads those of the label alone.
    """

    record: ClassVar[CodeRecord]
    # Plugins of others whose codes are the same program.
    aliases: ClassVar[tuple[str, ...]] = ()
    # Parameters of the quickstart's labels over the protocol `fast`; further ones where it only proves the plumbing.
    quickstart: ClassVar[tuple[Mapping[str, Any], Mapping[str, Any]]] = ({}, {})

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("structure", valid_type=orm.StructureData, help="The structure to label.")
        spec.input("code", valid_type=orm.AbstractCode, help="The DFT code.")
        spec.input_namespace(
            "codes", valid_type=orm.AbstractCode, dynamic=True, required=False, help="Further programs that it takes."
        )
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
        named_inputs(spec, "files", orm.SinglefileData, "Files that the code reads (basis sets, pseudopotentials).")
        spec.input(
            "options",
            valid_type=dict,
            is_metadata=True,
            required=False,
            validator=validate_stash,
            help="Options of the job: resources, walltime, `stash: {target_base: /folder}` for its raw files, ...",
        )
        spec.input(
            "first_job",
            valid_type=str,
            non_db=True,
            required=False,
            help="UUID of the last job with these inputs that has ended: not to be run again.",
        )
        spec.inputs.validator = cls.check_inputs
        spec.outline(cls.setup, while_(cls.should_run_process)(cls.run_process, cls.inspect_process), cls.results)
        spec.output("remote_folder", valid_type=orm.RemoteData, help="Where the raw output lies.")
        stashes = (orm.RemoteStashFolderData, orm.RemoteStashCompressedData)
        spec.output("remote_stash", valid_type=stashes, required=False, help="Where its raw files were stashed.")
        spec.output("output_parameters", valid_type=orm.Dict, help="Energy, Fermi level, convergence.")
        spec.output("output_band", valid_type=orm.BandsData, required=False, help="Bands at `bands_kpoints`, eV.")
        spec.output("structure", valid_type=orm.StructureData, help="The structure as it was labelled.")
        spec.default_output_node = "output_parameters"
        cls.define_recovery(spec)
        spec.exit_code(330, "ERROR_FILES_MISSING", message="The job ended well, but left no {files}.")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any], _: Any = None) -> str | None:
        """Message if the label cannot run: what its first job would refuse is refused here."""
        message = cls._validate(inputs, None)
        if message is not None or not {"code", "structure", "parameters", "kpoints"} <= set(inputs):
            return message
        try:
            process, job = cls.first_job(inputs)
        except DeepHError as error:
            return str(error)
        if not issubclass(process, CalcJob):
            return None
        ports = process.spec().inputs
        error = ports.validate(ports.pre_process(job))
        return None if error is None else f"{error.port}: {error.message}"

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        if cls._process_class is None or "code" not in inputs:
            return None
        message = validate_code(inputs["code"], cls.record.plugin, cls.aliases)
        if message is not None or "parameters" not in inputs:
            return message
        parameters, symbols = inputs["parameters"].get_dict(), cls.symbols_of(inputs)
        missing = cls.missing_elements(symbols, parameters)
        if missing:
            return f"element without basis: {', '.join(missing)}; choose another basis in `parameters`"
        try:
            cls.check_parameters(parameters, inputs)
        except DeepHError as error:
            return str(error)
        return None

    @classmethod
    def symbols_of(cls, inputs: Mapping[str, Any]) -> set[str]:
        """Elements of the structure; none while it is not there."""
        return inputs["structure"].get_symbols_set() if "structure" in inputs else set()

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any], inputs: Mapping[str, Any]) -> None:
        """Refuse what the code would not understand.

        :raises InputError: parameters, programs or files that are wrong.
        """

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements that the basis named in the parameters does not hold."""
        return []

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The basis in the words of `deeph-engine overlap`."""
        raise NotImplementedError

    # Ending of the code's own files of bands, of other people's runs, that `read_bands` understands.
    bands_suffix: ClassVar[str | None] = None

    @classmethod
    def read_bands(cls, text: str, cell: Any) -> orm.BandsData:
        """Bands of such a file.

        :param cell: to whose reciprocal lattice the k-points belong, Angstrom.
        :raises DataError: it is damaged.
        """
        raise NotImplementedError

    @classmethod
    def prove(cls, codes: Mapping[str, orm.AbstractCode], families: str | None, run: Run) -> None:
        """Run tiny jobs that touch what labels need.

        :param codes: of the programs in the record by their names; of the engine, by that of the code, if it runs it.
        :param families: label of the families of orbitals and pseudopotentials, if the programs need some.
        """
        raise NotImplementedError

    @classmethod
    def job_inputs(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of the CalcJob from those of the label, without code and metadata."""
        raise NotImplementedError

    def setup(self) -> None:
        """Prepare the inputs of the first job."""
        super().setup()
        self.ctx.inputs = {**self.job_inputs(self.inputs), **self.job_settings(self.inputs)}
        self.reset_recovery()

    @classmethod
    def job_settings(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Code and metadata of a job that leaves the raw files."""
        watched = issubclass(cls._process_class, ProgramCalcJob)
        given = label_options(inputs.get("options", {}), cls.record.raw_files, watched=watched)
        given = with_program(given, inputs["code"])
        return {"code": inputs["code"], "metadata": {"options": scheduler_options(given, inputs["code"])}}

    @classmethod
    def first_job(cls, inputs: Mapping[str, Any]) -> tuple[type[Process], dict[str, Any]]:
        """The first job of a label, and its inputs."""
        return cls._process_class, {**cls.job_inputs(inputs), **cls.job_settings(inputs)}

    @classmethod
    def next_job(cls, inputs: Mapping[str, Any], node: orm.CalcJobNode) -> tuple[type[Process], dict[str, Any]] | None:
        """What follows a job that succeeded, of a code whose labels take several programs; None if all is there."""
        return None

    @classmethod
    def missing(cls, node: orm.CalcJobNode) -> list[str]:
        """What a job that ended well did not leave."""
        return missing_files(node)

    @classmethod
    def has_succeeded(cls, node: orm.CalcJobNode) -> bool:
        """Whether a job leaves nothing to recover from."""
        left = not cls.missing(node) and not found_no_space(node)
        return node.is_finished_ok and not cls.is_unconverged(node) and left

    def run_process(self) -> Any:
        """Run the next job; a first one that ended before this process began counts as run."""
        if self.ctx.iteration == 0 and "first_job" in self.inputs:
            self.ctx.iteration = 1
            self.ctx.children = [self.scf_job(orm.load_node(self.inputs.first_job))]
            return None
        return super().run_process()

    @classmethod
    def scf_job(cls, node: orm.CalcJobNode) -> orm.CalcJobNode:
        """The SCF of a label by any of its jobs."""
        return node

    @process_handler(priority=600)
    def handle_missing_files(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Ended well without what the reader needs (a full disk, another output setting): again, then given up."""
        if not node.is_finished_ok or self.is_unconverged(node):
            return None
        if found_no_space(node):
            pause_for_room(self, node)
            return ProcessHandlerReport(True)
        files = self.missing(node)
        if not files:
            return None
        # Not to be taken from the cache by anyone.
        node.base.caching.is_valid_cache = False
        report = self._retry(node, f"missing: {', '.join(files)}")
        if report.exit_code.status == self.exit_codes.ERROR_JOB_FAILED.status:
            failed = self.exit_codes.ERROR_FILES_MISSING.format(files=", ".join(files))
            return ProcessHandlerReport(True, failed)
        return report

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
        message = validate_code(code, cls.record.plugin, cls.aliases)
        if message:
            raise InputError(message)
        inputs = cls.protocol_for(structures, protocol, overrides, where)
        width, _ = inputs.pop("kpoints_supercell"), inputs.pop("pair_cutoff", None)
        meshes = [mesh_for_width(s.cell, s.pbc, width, supercell) for s in structures]
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
    def protocol_for(
        cls,
        structures: Iterable[orm.StructureData],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        where: str = "overrides",
    ) -> dict[str, Any]:
        """Plain inputs of a protocol; where no structure is periodic, with what it has otherwise for `molecules`."""
        inputs = cls.get_protocol_inputs(protocol, overrides, where)
        molecules = inputs.pop("molecules", None)
        if molecules and not any(any(structure.pbc) for structure in structures):
            inputs = merge(merge(inputs, molecules), overrides)
        inputs.pop("molecules", None)
        return inputs

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """Parameters with what the code needs per element."""
        return parameters


def plain(parameters: Any) -> dict[str, Any]:
    """A Dict or a mapping as a new dictionary."""
    return parameters.get_dict() if isinstance(parameters, orm.Dict) else dict(parameters)
