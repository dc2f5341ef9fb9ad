"""A projection by HPRO: what it costs, and how it ended."""

from __future__ import annotations

import re

from aiida.engine import ExitCode

from aiida_deeph.codes.parser import ProgramParser
from aiida_deeph.codes.qe.hpro import HproCalculation, HproConfig
from aiida_deeph.engine.dft.qe.code import RESULT_FILE
from aiida_deeph.parsers.base import InvalidOutputError

DRIVER_LINE = re.compile(r"^hpro-driver: (?P<kind>\w+): (?P<message>.+)$", re.MULTILINE)
KINDS = {"missing": "ERROR_DATA_FILE_MISSING", "environment": "ERROR_ENVIRONMENT", "potential": "ERROR_INPUT_REFUSED"}


class HproParser(ProgramParser):
    """Attaches the errors of the bands also of a projection that is refused for them."""

    CALCULATION = HproCalculation
    MESSAGES = (
        (r"MemoryError", "ERROR_OUT_OF_MEMORY"),
        (r"errno = 28|errno = 122", "ERROR_NO_SPACE"),
        (r"No module named|command not found|Permission denied|No such file or directory", "ERROR_ENVIRONMENT"),
        (r"^\w*(Error|Exception)\b", "ERROR_CRASHED"),
    )
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
        """What the script of ours said, or else the program or the system."""
        driver = DRIVER_LINE.search(self._text(self.CALCULATION.STDERR_FILE) or "")
        if driver is None:
            return super().failure(missing)
        label = KINDS.get(driver["kind"], "ERROR_CRASHED")
        return self.exit_codes[label].format(message=driver["message"])

    def reason(self, text: str, match: re.Match[str]) -> str:
        """The last of the lines alike: a traceback says at its end what was wrong."""
        error = [line.strip() for line in text.splitlines() if re.match(r"\w*(Error|Exception)\b", line)]
        return error[-1] if error else super().reason(text, match)
