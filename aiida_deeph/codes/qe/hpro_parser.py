"""A projection by HPRO: what it costs, and how it ended."""

from __future__ import annotations

import re

from aiida.engine import ExitCode

from aiida_deeph.codes.qe.hpro import STDERR_FILE, HproConfig
from aiida_deeph.engine.dft.qe.code import RESULT_FILE
from aiida_deeph.parsers.base import EngineParser, InvalidOutputError

DRIVER_LINE = re.compile(r"^hpro-driver: (?P<kind>\w+): (?P<message>.+)$", re.MULTILINE)
KINDS = {"missing": "ERROR_POTENTIAL_MISSING", "environment": "ERROR_ENVIRONMENT", "potential": "ERROR_INPUT_REFUSED"}
MESSAGES: tuple[tuple[str, str], ...] = (
    (r"MemoryError|out of memory|oom.kill|Cannot allocate memory|Unable to allocate", "ERROR_OUT_OF_MEMORY"),
    (r"No space left on device|Disk quota exceeded|errno = 28|errno = 122", "ERROR_NO_SPACE"),
    (r"No module named|command not found|Permission denied|No such file or directory", "ERROR_ENVIRONMENT"),
    (r"^\w*(Error|Exception)\b", "ERROR_CRASHED"),
)


class HproParser(EngineParser):
    """Attaches the errors of the bands also of a projection that is refused for them."""

    UNITS = {
        "mean_error": "eV",
        "max_error": "eV",
        "shift": "eV",
        "mean_error_by_band": "eV",
        "hpro_seconds": "s",
        "compare_seconds": "s",
    }

    def attach(self) -> ExitCode | None:
        result = self.read_json(RESULT_FILE)
        projection = result.pop("projection", None)
        if not isinstance(projection, dict) or "mean_error_eV" not in projection:
            raise InvalidOutputError(f"{RESULT_FILE}: no projection")
        errors = {name.removesuffix("_eV"): value for name, value in projection.items()}
        config = HproConfig.model_validate(self.node.inputs.parameters.get_dict())
        mean = errors["mean_error"]
        says = f"mean error of the occupied bands {1000 * mean:.0f} meV, largest {1000 * errors['max_error']:.0f} meV"
        warnings = [f"{says}: another basis or a higher cutoff may help"] if mean > config.warn_error else []
        self.out_parameters({**errors, **result, "warnings": warnings})
        if not mean <= config.max_error:
            message = f"{says}, allowed {1000 * config.max_error:.0f} meV; take orbitals made for this pseudopotential"
            return self.exit_codes.ERROR_PROJECTION.format(message=message)
        return None

    def failure(self, missing: str) -> ExitCode:
        """The exit code of a job without its result."""
        names = (STDERR_FILE, self.node.get_option("scheduler_stderr"))
        text = "\n".join(self._text(name) or "" for name in names if name)
        driver = DRIVER_LINE.search(text)
        if driver is not None:
            label = KINDS.get(driver["kind"], "ERROR_CRASHED")
            return self.exit_codes[label].format(message=driver["message"])
        for pattern, label in MESSAGES:
            lines = [match[0].strip() for match in re.finditer(rf"^.*?(?:{pattern}).*$", text, re.MULTILINE)]
            if lines:
                return self.exit_codes[label].format(message=lines[-1])
        said = text.strip().splitlines()
        message = f"{missing}; last on stderr: {said[-1].strip()}" if said else f"{missing} and stderr is silent"
        return self.exit_codes.ERROR_OUTPUT_MISSING.format(message=message)
