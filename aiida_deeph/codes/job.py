"""What the jobs of all programs besides the engine share: files, exit codes, checks, and how a program is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm import AbstractCode, BandsData, Dict, KpointsData, RemoteData, SinglefileData, StructureData

from aiida_deeph.calculations.kpoints import check_list, check_mesh
from aiida_deeph.calculations.program import ProgramCalcJob
from aiida_deeph.calculations.space import watch_space
from aiida_deeph.calculations.validation import check_remote_folders, check_structure
from aiida_deeph.engine.errors import DeepHError, InputError

# Status, name and message of what a program may end with; the same status means the same for all of them.
EXIT_CODES = (
    (210, "ERROR_INPUT_REFUSED", "{program} refused its input: {{message}}"),
    (220, "ERROR_WRONG_ORBITALS", "The basis asks for orbitals that are not there: {{message}}"),
    (230, "ERROR_DATA_FILE_MISSING", "A file that {program} needs did not arrive: {{message}}"),
    (310, "ERROR_CRASHED", "{program} crashed: {{message}}"),
    (320, "ERROR_OUTPUT_INVALID", "An output file is damaged: {{message}}"),
    (400, "ERROR_OUTPUT_MISSING", "The job ended without its results: {{message}}"),
    (420, "ERROR_OUT_OF_WALLTIME", "The job ran out of walltime: {{message}}"),
    (430, "ERROR_OUT_OF_MEMORY", "{program} ran out of memory: {{message}}"),
    (440, "ERROR_NO_SPACE", "The working directory is full: {{message}}"),
)


class ProgramCalculation(ProgramCalcJob):
    """One run of a program.

    A subclass names the program and its files, adds its ports in `define`, refuses inputs that do not fit each other
    (`check_run`), and writes the job in `prepare_for_submission`.
    """

    PROGRAM: ClassVar[str]
    PLUGIN: ClassVar[str]
    # Plugins of others whose codes are the same program.
    ALIASES: ClassVar[tuple[str, ...]] = ()
    INPUT_FILE: ClassVar[str]
    STDOUT_FILE: ClassVar[str]
    STDERR_FILE: ClassVar[str]
    WITH_MPI: ClassVar[bool] = True

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        spec.inputs.validator = cls._validate
        spec.inputs["code"].validator = code_validator(cls.PROGRAM, cls.PLUGIN, *cls.ALIASES)
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = cls.PLUGIN
        options["input_filename"].default = cls.INPUT_FILE
        options["output_filename"].default = cls.STDOUT_FILE
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = cls.WITH_MPI
        spec.output("output_parameters", valid_type=Dict, required=False, help="Numbers of the run, with their units.")
        spec.default_output_node = "output_parameters"
        # A name that is that of the executable begins no sentence by itself.
        program = f"`{cls.PROGRAM}`" if cls.PROGRAM[0].islower() else cls.PROGRAM
        for status, label, message in EXIT_CODES:
            spec.exit_code(status, label, message.format(program=program), invalidates_cache=True)

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], namespace: Any) -> str | None:
        """All inputs together; a workflow that exposes only some of them is checked when it submits the job."""
        message = validate_calc_job(inputs, namespace) or check_remote_folders(inputs)
        if message is None and set(cls.spec().inputs) <= set(namespace):
            try:
                cls.check_run(inputs)
            except DeepHError as error:
                message = str(error)
        return message

    @classmethod
    def check_run(cls, inputs: Mapping[str, Any]) -> None:
        """Refuse inputs that do not fit each other.

        :raises InputError: they do not.
        """

    def files_of(self, name: str) -> list[SinglefileData]:
        """Files of a namespace for the elements of the structure, by element."""
        symbols = self.inputs.structure.get_symbols_set()
        return [node for symbol, node in sorted(self.inputs[name].items()) if symbol in symbols]

    def write_files(self, folder: Folder, texts: Mapping[str, str]) -> None:
        """Text of the files that the job takes along, by their paths."""
        for name, text in texts.items():
            path = Path(folder.get_abs_path(name))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def run_of_code(self, code: AbstractCode, arguments: Sequence[str], stdout: str, stderr: str) -> CodeInfo:
        """One run of a program."""
        run = CodeInfo()
        run.code_uuid = code.uuid
        run.cmdline_params = list(arguments)
        run.stdout_name, run.stderr_name = stdout, stderr
        return run

    def calc_info(
        self, arguments: Sequence[str], files: Sequence[tuple[SinglefileData, str]], retrieve: Sequence[Any]
    ) -> CalcInfo:
        """One run of the program of `code`.

        :param files: nodes, and where their files go.
        """
        info = CalcInfo()
        info.codes_info = [self.run_of_code(self.inputs.code, arguments, self.STDOUT_FILE, self.STDERR_FILE)]
        info.local_copy_list = [(node.uuid, node.filename, target) for node, target in files]
        info.remote_copy_list = []
        info.remote_symlink_list = []
        info.retrieve_list = [self.STDOUT_FILE, self.STDERR_FILE, *retrieve]
        return watch_space(info)


def define_scf(spec: Any) -> None:
    """Ports and exit code of a job that is one SCF of one structure."""
    bands = {"required": False, "validator": check_list, "help": "k-points of the bands from the converged potential."}
    spec.input("structure", valid_type=StructureData, validator=check_structure, help="The structure.")
    spec.input("kpoints", valid_type=KpointsData, validator=check_mesh, help="Gamma-centred k-mesh of the SCF.")
    spec.input("bands_kpoints", valid_type=KpointsData, **bands)
    spec.output("output_band", valid_type=BandsData, required=False, help="Eigenvalues at `bands_kpoints`, eV.")
    spec.exit_code(410, "ERROR_SCF_NOT_CONVERGED", "The SCF cycle did not converge: {message}")


def left_by(job: RemoteData, source: str, target: str) -> tuple[str, str, str]:
    """What an earlier job left, as CalcInfo wants to know what is copied or linked."""
    return job.computer.uuid, str(PurePosixPath(job.get_remote_path()) / source), target


def check_files(inputs: Mapping[str, Any], symbols: Iterable[str], *names: str) -> None:
    """Every element has an entry in each of some inputs, and files are of their element.

    :raises InputError: one has not.
    """
    for symbol in symbols:
        for name in names:
            given = inputs.get(name, {})
            if symbol not in (given.get_dict() if isinstance(given, Dict) else given):
                raise InputError("element without basis", where=name, found=f"no {symbol}", expected=symbol)
            node = given[symbol]
            if isinstance(node, SinglefileData) and node.element != symbol:
                raise InputError("file of another element", where=f"{symbol}: {node.filename}", found=node.element)


def check_computer(code: AbstractCode, first: AbstractCode, where: str) -> None:
    """Programs of one job, or of jobs that read each other's files, lie on one computer.

    :raises InputError: they do not.
    """
    if code.computer.uuid != first.computer.uuid:
        expected = f"one on {first.computer.label}, as {first.full_label}"
        raise InputError("codes of different computers", where=where, found=code.full_label, expected=expected)


def code_validator(program: str, *plugins: str) -> Callable[..., str | None]:
    """A check that a code is this program."""

    def check(code: AbstractCode, _: Any = None) -> str | None:
        if code.default_calc_job_plugin in (None, *plugins):
            return None
        found = f"default plugin {code.default_calc_job_plugin}"
        where, expected = f"code `{code.label}`", " or ".join(plugins)
        remedy = "`aiida-deeph setup codes` registers one"
        return str(InputError(f"code is not {program}", where=where, found=found, expected=expected, remedy=remedy))

    return check
