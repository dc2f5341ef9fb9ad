"""What the jobs of all programs besides the engine share: files, exit codes, checks, and how a program is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm import AbstractCode, Dict, SinglefileData

from aiida_deeph.calculations.program import ProgramCalcJob
from aiida_deeph.calculations.space import watch_space
from aiida_deeph.calculations.validation import check_remote_folders
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
