"""What all CalcJobs share: one configuration file, one `deeph-engine` command, one table of exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm import Dict

from aiida_deeph.calculations.program import RUNTIME, ProgramCalcJob, split_runtime
from aiida_deeph.calculations.staging import CONFIG_FILE, STDOUT_FILE, Staging
from aiida_deeph.calculations.validation import check_code, check_parameters, check_remote_folders
from aiida_deeph.engine.config import Config, parse_config


class EngineCalculation(ProgramCalcJob):
    """Run `deeph-engine COMMAND config.json`.

    A subclass names its command and configuration, declares its other inputs in `define`, and returns from `stage` the
    fields of the configuration that those inputs decide. Paths in the configuration are relative to the working
    directory, so equal inputs give equal files.
    """

    # Subcommand of deeph-engine; the entry points of the calculation and of its parser are deeph.COMMAND.
    COMMAND: ClassVar[str]
    CONFIG: ClassVar[type[Config]]
    # Fields that `stage` fills, with a value that lets the rest be validated before (None: the field is optional).
    FILLED: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    # DeepH folder that the job leaves in its working directory, for jobs that link it; empty if none.
    FOLDER: ClassVar[str] = ""

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.inputs.validator = cls._validate
        spec.inputs["code"].validator = check_code
        spec.input(
            "parameters",
            valid_type=Dict,
            default=lambda: Dict({}),
            validator=cls._validate_parameters,
            help=f"Fields of {cls.CONFIG.__name__} other than {', '.join(cls.FILLED)}.",
        )
        # What stands of them in `parameters` is moved here, where it is not hashed.
        for field in sorted(RUNTIME & set(cls.CONFIG.model_fields)):
            text = "Changes how fast the result is there, not the result."
            spec.input(f"runtime.{field}", valid_type=(int, str), is_metadata=True, required=False, help=text)
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = f"deeph.{cls.COMMAND}"
        options["input_filename"].default = CONFIG_FILE
        options["output_filename"].default = STDOUT_FILE
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = False
        spec.output("output_parameters", valid_type=Dict, required=False, help="Results, with units in *_units keys.")
        spec.default_output_node = "output_parameters"
        cls._define_exit_codes(spec)

    @classmethod
    def _define_exit_codes(cls, spec: Any) -> None:
        """2xx wrong inputs, 3xx unrecoverable, 4xx restartable, 7xx finished with a warning.

        What may end otherwise next time (a killed job, a full disk) must not be taken from the cache either.
        """
        spec.exit_code(210, "ERROR_INPUT_REFUSED", "The engine refused its input: {message}", invalidates_cache=True)
        spec.exit_code(310, "ERROR_ENGINE_FAILED", "The engine failed: {message}", invalidates_cache=True)
        spec.exit_code(320, "ERROR_OUTPUT_INVALID", "An output file is damaged: {message}", invalidates_cache=True)
        spec.exit_code(
            400, "ERROR_OUTPUT_MISSING", "The job ended without its results: {message}", invalidates_cache=True
        )
        spec.exit_code(430, "ERROR_OUT_OF_MEMORY", "The engine ran out of memory: {message}", invalidates_cache=True)
        spec.exit_code(440, "ERROR_NO_SPACE", "The working directory is full: {message}", invalidates_cache=True)

    @classmethod
    def _validate_parameters(cls, node: Dict, _: Any) -> str | None:
        values = node.get_dict()
        return check_parameters(values, cls.CONFIG, cls.filled(values))

    @classmethod
    def hashed_inputs(cls, inputs: dict[str, Any]) -> dict[str, Any]:
        """With the program among the options, and without what leaves the result as it is among the parameters."""
        result = super().hashed_inputs(inputs)
        given = result.get("parameters")
        if isinstance(given, Dict):
            parameters, runtime = split_runtime(given, frozenset(cls.CONFIG.model_fields))
            if runtime:
                result |= {"parameters": parameters, "runtime": {**(result.get("runtime") or {}), **runtime}}
        return result

    @classmethod
    def filled(cls, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """FILLED, for a configuration whose fields depend on each other."""
        return cls.FILLED

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], namespace: Any) -> str | None:
        """All inputs together; a workflow that exposes only some of them is checked when it submits the job."""
        message = validate_calc_job(inputs, namespace) or check_remote_folders(inputs)
        if message is None and inputs.get("runtime") and "parameters" in inputs:
            values = {**inputs["parameters"].get_dict(), **inputs["runtime"]}
            message = check_parameters(values, cls.CONFIG, cls.filled(values))
        if message is None and set(cls.spec().inputs) <= set(namespace):
            message = cls.check_inputs(inputs)
        return message

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """Checks that concern several inputs, the required ones all present: one line of text, or None."""
        return None

    def stage(self, staging: Staging) -> dict[str, Any]:
        """Put the inputs where the engine finds them, say what to retrieve, return the fields of the configuration."""
        raise NotImplementedError

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        staging = Staging(folder)
        fields = self.stage(staging)
        given = {**self.inputs.parameters.get_dict(), **self.inputs.get("runtime", {})}
        config = parse_config(self.CONFIG, {**given, **fields}, "parameters")
        return staging.finish(self.inputs.code, self.COMMAND, config)
